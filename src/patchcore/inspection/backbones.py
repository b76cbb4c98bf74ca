"""Backbones by patchcore-inspection's names."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from patchcore.backbones import registry
from patchcore.backbones.libraries import IMAGENET_MEAN, IMAGENET_STD
from patchcore.errors import BackboneError, WeightsError, nearest_name

# patchcore-inspection's name: our name, with the same weights. Those of torchvision are version 1; the
# tags are today's names of timm's defaults of 2021.
NAMES = {
    "alexnet": "torchvision:alexnet.IMAGENET1K_V1",
    "resnet50": "torchvision:resnet50.IMAGENET1K_V1",
    "resnet101": "torchvision:resnet101.IMAGENET1K_V1",
    "resnext101": "torchvision:resnext101_32x8d.IMAGENET1K_V1",
    "resnet200": "resnet200",
    "resnest50": "resnest50d_4s2x40d.in1k",
    "resnetv2_50_bit": "resnetv2_50x3_bit.goog_in21k_ft_in1k",
    "resnetv2_50_21k": "resnetv2_50x3_bit.goog_in21k",
    "resnetv2_101_bit": "resnetv2_101x3_bit.goog_in21k_ft_in1k",
    "resnetv2_101_21k": "resnetv2_101x3_bit.goog_in21k",
    "resnetv2_152_bit": "resnetv2_152x4_bit.goog_in21k_ft_in1k",
    "resnetv2_152_21k": "resnetv2_152x4_bit.goog_in21k",
    "resnetv2_152_384": "resnetv2_152x2_bit.goog_teacher_in21k_ft_in1k_384",
    "resnetv2_101": "resnetv2_101.a1h_in1k",
    "vgg11": "torchvision:vgg11.IMAGENET1K_V1",
    "vgg19": "torchvision:vgg19.IMAGENET1K_V1",
    "vgg19_bn": "torchvision:vgg19_bn.IMAGENET1K_V1",
    "wideresnet50": "torchvision:wide_resnet50_2.IMAGENET1K_V1",
    "wideresnet101": "torchvision:wide_resnet101_2.IMAGENET1K_V1",
    "mnasnet_100": "mnasnet_100.rmsp_in1k",
    "mnasnet_a1": "semnasnet_100.rmsp_in1k",
    "mnasnet_b1": "mnasnet_100.rmsp_in1k",
    "densenet121": "densenet121.ra_in1k",
    "densenet201": "densenet201.tv_in1k",
    "inception_v4": "inception_v4.tf_in1k",
    "vit_small": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_large": "vit_large_patch16_224.augreg_in21k_ft_in1k",
    "vit_r50": "vit_large_r50_s32_224.augreg_in21k_ft_in1k",
    "vit_deit_base": "deit_base_patch16_224.fb_in1k",
    "vit_deit_distilled": "deit_base_distilled_patch16_224.fb_in1k",
    "vit_swin_base": "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
    "vit_swin_large": "swin_large_patch4_window7_224.ms_in22k_ft_in1k",
    "efficientnet_b7": "tf_efficientnet_b7.ra_in1k",
    "efficientnet_b5": "tf_efficientnet_b5.ra_in1k",
    "efficientnet_b3": "tf_efficientnet_b3.aa_in1k",
    "efficientnet_b1": "tf_efficientnet_b1.aa_in1k",
    "efficientnetv2_m": "tf_efficientnetv2_m.in1k",
    "efficientnetv2_l": "tf_efficientnetv2_l.in1k",
    "efficientnet_b3a": "efficientnet_b3.ra2_in1k",
}
_SIZE = (224, 224)


def load(name: str, weights: str = "pretrained", *, size: tuple[int, int] = _SIZE, seed: int = 0) -> nn.Module:
    """A network by patchcore-inspection's name, or by any name that `Recipe.backbone` takes.

    It is in training mode, as there. Its attribute `source` has the origin of the weights, and the mean and standard
    deviation for its images. For patchcore-inspection's names these are ImageNet's, as they are there, whatever the
    weights were trained with.
    Errors: BackboneError for an unknown name, WeightsError.

    Args:
        name: The name, which is also kept as the attribute `name`.
        weights: `pretrained`, `random`, or the path of a local file.
        size: Height and width of the images.
        seed: Draws random weights.
    """
    if name == "bninception":
        raise BackboneError(
            "bninception comes from the package pretrainedmodels, which patchcore does not use. Take another name, or "
            "build the network and give it to PatchCore.load(backbone=...)."
        )
    try:
        model, source, loaded, _ = registry.network(NAMES.get(name, name), weights, size, seed)
    except WeightsError as error:
        if name not in NAMES or weights != "pretrained":
            raise
        raise WeightsError(
            f"The weights of {name} ({NAMES[name]}) are not on this machine and could not be fetched "
            f"({str(error.__cause__ or error).rstrip('.')}). Load them once with internet access, or give a local "
            "file, a state dict or safetensors: weights=PATH, on the command line --weights PATH."
        ) from error
    except BackboneError as error:
        raise BackboneError(f"{error}{'' if name in NAMES else nearest_name(name, NAMES)}") from None
    if weights != "pretrained" and not loaded:
        raise WeightsError(f"{weights}: no tensor fits {name}. Give weights that were saved from this network.")
    if name in NAMES:
        source = replace(source, mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bilinear")
    model.name, model.source, model.weights = name, source, weights  # type: ignore[assignment]
    return model.train()  # as its library makes it: `PatchCore.load` then does as patchcore-inspection does

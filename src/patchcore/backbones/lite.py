"""EfficientNet-Lite, as a network of torch alone: timm, which has it too, takes as long to load as torch itself.

Modules have the names, the order and the initial weights that they have in timm's `tf_efficientnet_lite*`, so that
weights, taps and model files serve both, and features are the same bit for bit.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

# Repeats, kernel, stride, expansion and channels of each stage of Lite0; what others multiply channels and repeats by.
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
_SIZES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow's `SAME` does: what the stride needs, the odd pixel at the end."""

    def forward(self, input: Tensor) -> Tensor:
        amounts: list[int] = []
        for side, kernel, stride in zip(input.shape[2:], self.kernel_size, self.stride, strict=True):
            pad = max(0, (-(-int(side) // stride) - 1) * stride + kernel - int(side))
            amounts = [pad // 2, pad - pad // 2, *amounts]
        return super().forward(F.pad(input, amounts))


class _Norm(nn.BatchNorm2d):
    """A batch normalisation, and the activation behind it."""

    def __init__(self, channels: int, active: bool = True) -> None:
        super().__init__(channels, eps=1e-3)
        self.drop = nn.Identity()  # here and below: places that timm's network has
        self.act: nn.Module = nn.ReLU6(inplace=True) if active else nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        values: Tensor = self.act(self.drop(super().forward(input)))
        return values


class _Separable(nn.Module):
    """A convolution of each channel alone, then one across channels."""

    def __init__(self, given: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _convolution(given, given, kernel, stride, given), _Norm(given)
        self.aa, self.se = nn.Identity(), nn.Identity()
        self.conv_pw, self.bn2 = _convolution(given, channels), _Norm(channels, active=False)
        self.drop_path = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.se(self.aa(self.bn1(self.conv_dw(x))))
        x = self.bn2(self.conv_pw(x))
        return x


class _Inverted(nn.Module):
    """The same between more channels than come and go; what comes is added where it has the size of what goes."""

    def __init__(self, given: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide, self._adds = given * expansion, stride == 1 and given == channels
        self.conv_pw, self.bn1 = _convolution(given, wide), _Norm(wide)
        self.conv_dw, self.bn2 = _convolution(wide, wide, kernel, stride, wide), _Norm(wide)
        self.aa, self.se = nn.Identity(), nn.Identity()
        self.conv_pwl, self.bn3 = _convolution(wide, channels), _Norm(channels, active=False)
        self.drop_path = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.se(self.aa(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        inner = self.bn3(self.conv_pwl(inner))
        return self.drop_path(inner) + x if self._adds else inner


class Lite(nn.Module):
    """EfficientNet-Lite by name (`efficientnet_lite0` to `2`), (B, 3, H, W) to (B, 1000), with random weights."""

    def __init__(self, name: str) -> None:
        super().__init__()
        wider, deeper = _SIZES[name]
        self.conv_stem, self.bn1 = _convolution(3, _STEM, 3, 2), _Norm(_STEM)
        for _ in range(2):
            nn.Conv2d(8, 8, 1)  # timm tries such layers here, which draws numbers: initial weights stay the same
        stages, given, stride_here = list[nn.Module](), _STEM, 2
        self.feature_info: list[dict[str, int | str]] = []  # the last stage of each stride
        for number, (repeats, kernel, stride, expansion, base) in enumerate(_STAGES):
            channels, blocks = _rounded(base * wider), list[nn.Module]()
            count = repeats if number in (0, len(_STAGES) - 1) else math.ceil(repeats * deeper)
            for step in (stride, *[1] * (count - 1)):
                one = (given, channels, kernel, step)
                blocks.append(_Separable(*one) if expansion == 1 else _Inverted(*one, expansion))
                given = channels
            stages.append(nn.Sequential(*blocks))
            stride_here *= stride
            if number + 1 == len(_STAGES) or _STAGES[number + 1][2] > 1:
                self.feature_info.append({"module": f"blocks.{number}", "reduction": stride_here})
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = _convolution(given, _HEAD), _Norm(_HEAD)
        self.global_pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(_HEAD, _CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(images)))))
        logits: Tensor = self.classifier(self.global_pool(x).flatten(1))
        return logits


def _convolution(given: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride == 1:  # as much on both sides
        return nn.Conv2d(given, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    return Same(given, channels, kernel, stride, groups=groups, bias=False)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is no more than a tenth too few."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8

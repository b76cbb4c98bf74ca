"""Folders: datasets in anomalib's data modules `Folder` and `MVTecAD`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from torchvision.transforms.v2 import Compose, Identity, Transform

from patchcore.data.resolve import detect, relative
from patchcore.data.sample import GOOD, Dataset, Sample, images_in
from patchcore.errors import DataError, UsageError, nearest_name
from patchcore.lightning.data.module import ImageDataModule, ImageDataset
from patchcore.lightning.data.utils import TaskType, TestSplitMode, ValSplitMode
from patchcore.lightning.torch_model import RECIPE
from patchcore.verdict.calibration import hold_out

Folders = str | Path | Sequence[str | Path]
ROOTS = ("datasets/MVTecAD", "datasets/MVTec")  # anomalib's defaults, of version 2 and of version 1
TEST_SHARE = 0.2  # of the good images, where there are none to test on


class Choices(TypedDict, total=False):
    """What anomalib's data modules can be asked for besides folders and batches; version 1 has `task` to
    `eval_transform`, version 2 `augmentations` to `test_augmentations`, and both have the rest."""

    task: TaskType | str
    image_size: tuple[int, int] | int | None
    transform: Transform | None
    train_transform: Transform | None
    eval_transform: Transform | None
    augmentations: Transform | None
    train_augmentations: Transform | None
    val_augmentations: Transform | None
    test_augmentations: Transform | None
    test_split_mode: TestSplitMode | str
    test_split_ratio: float
    val_split_mode: ValSplitMode | str
    val_split_ratio: float
    seed: int | None


class _Folders(ImageDataModule):
    """What both have in common: the choices, and anomalib's names of the parts.

    `task="classification"` reads no masks. `transform`, or `train_transform` and `eval_transform`, replace the model's;
    augmentations come before it. Good images that the bank does not see set the thresholds: they are held out of the
    training images, and never come from the test images, whatever `val_split_mode` is. It may be `none`, and
    `from_train` with its `val_split_ratio`; others warn. Errors: DataError, UsageError.
    """

    name: str
    category: str

    def _choose(
        self,
        found: Dataset,
        batches: tuple[int, int, int | None],
        choices: Choices,
        share: float = TEST_SHARE,
    ) -> None:
        if unknown := [one for one in choices if one not in Choices.__annotations__]:
            known = (*_arguments(type(self)), *Choices.__annotations__)
            raise UsageError(
                f"{type(self).__name__} has no argument {unknown[0]!r}.{nearest_name(unknown[0], known)} It takes: "
                f"{', '.join(known)}."
            )
        super(ImageDataModule, self).__init__()
        self.train_batch_size, self.eval_batch_size, self.num_workers = batches
        size = choices.get("image_size")
        self.image_size = (size, size) if isinstance(size, int) else size
        self.task = TaskType.of("task", choices.get("task", TaskType.SEGMENTATION))
        if self.task is TaskType.DETECTION:
            warnings.warn("task is detection: there are no boxes; it is taken as segmentation.", stacklevel=3)
        self.transform = choices.get("transform")
        self._own = {True: choices.get("train_transform"), False: choices.get("eval_transform")}
        self._first = {True: choices.get("train_augmentations"), False: _of_evaluation(choices)}
        if self._first[True] is None:
            self._first[True] = choices.get("augmentations")
        seed = choices.get("seed")
        seed = RECIPE.seed if seed is None else seed
        train, test = found.train, self._tested(found, choices, share, seed)
        taken = {sample.name for sample in test}
        train = [sample for sample in train if sample.name not in taken]
        self.val_split_mode, held_out = _held_out(choices)
        self._divide(Dataset(found.description, train, test), held_out, seed)

    def _tested(self, found: Dataset, choices: Choices, share: float, seed: int) -> list[Sample]:
        mode = self.test_split_mode = TestSplitMode.of("test_split_mode", choices.get("test_split_mode", "from_dir"))
        if mode is TestSplitMode.SYNTHETIC:
            raise UsageError(
                "test_split_mode is synthetic: defects are not made up here. Give abnormal images, or take none."
            )
        if mode is TestSplitMode.NONE:
            return []
        test = found.test
        if not any(sample.kind == GOOD for sample in test):
            share = choices.get("test_split_ratio", share)
            if not 0 <= share < 1:
                raise UsageError(f"test_split_ratio is {share}; it must be at least 0 and less than 1.")
            _, moved = hold_out(relative([sample.name for sample in found.train]), share, seed)
            test = [*test, *(found.train[i] for i in moved)]
        elif "test_split_ratio" in choices:
            warnings.warn("test_split_ratio has no effect: there are good images to test on.", stacklevel=4)
        if self.task is TaskType.CLASSIFICATION:
            test = [Sample(one.name, one.image, one.kind) for one in test]
        return test

    def transform_of(self, training: bool) -> Transform | None:
        """The transform of images for training, or of all others; without one, and without a model, the identity."""
        own, first = self._own[training], self._first[training]
        rest = own if own is not None else super().transform_of(training)
        steps = [one for one in (first, rest) if one is not None]
        return steps[0] if len(steps) == 1 else Compose(steps) if steps else Identity()

    @property
    def train_transform(self) -> Transform | None:
        """The transform of training images; None where there is none, and no model yet."""
        return _or_none(self.transform_of(True))

    @property
    def eval_transform(self) -> Transform | None:
        """The transform of all other images; None where there is none, and no model yet."""
        return _or_none(self.transform_of(False))

    @property
    def train_data(self) -> ImageDataset:
        """The images for training."""
        return ImageDataset(self.train, self.train_transform)

    @property
    def val_data(self) -> ImageDataset:
        """The good images that set the thresholds."""
        return ImageDataset(self.calibration, self.eval_transform)

    @property
    def test_data(self) -> ImageDataset:
        """The labelled images."""
        return ImageDataset(self.test, self.eval_transform)


class MVTecAD(_Folders):
    """A category of MVTec AD, or of another dataset in a layout that `patchcore.data` reads.

    `root`: where the categories are; None: `datasets/MVTecAD` or, if that is not there, `datasets/MVTec`. Nothing is
    downloaded. `num_workers`: processes that read images; None: chosen to suit the machine.
    """

    name = "MVTecAD"

    def __init__(
        self,
        root: str | Path | None = None,
        category: str = "bottle",
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int | None = None,
        **choices: Unpack[Choices],
    ) -> None:
        roots = [Path(one) for one in (ROOTS if root is None else (root,))]
        self.root = next((one for one in roots if one.is_dir()), roots[0])
        self.category = category
        if not (self.root / category).exists():
            raise DataError(
                f"There is no {self.root / category}. Give the folder of MVTec AD as root, and a category in it; "
                "nothing is downloaded. `patchcore datasets` says where it comes from."
            )
        self._choose(detect(self.root / category), (train_batch_size, eval_batch_size, num_workers), choices)


class MVTec(MVTecAD):
    """As `MVTecAD`, by version 1's name, which is also that of its folder in `results`."""

    name = "MVTec"


class Folder(_Folders):
    """Images of one's own: a folder of good ones, and folders of defective ones and of their masks, each under `root`.

    Where there is no `normal_test_dir`, a share of the good images is for testing: `normal_split_ratio` or, if given,
    `test_split_ratio`. A mask has the name of its image, also with `_mask` or more after it, and is in the folder of
    masks at the same place as the image in its own. `extensions`: only files with one of these.
    `num_workers`: processes that read images; None: chosen to suit the machine.
    """

    category = ""

    def __init__(
        self,
        name: str,
        normal_dir: Folders,
        root: str | Path | None = None,
        abnormal_dir: Folders | None = None,
        normal_test_dir: Folders | None = None,
        mask_dir: Folders | None = None,
        normal_split_ratio: float = TEST_SHARE,
        extensions: tuple[str, ...] | None = None,
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int | None = None,
        **choices: Unpack[Choices],
    ) -> None:
        self.name, self.root = name, Path(root) if root is not None else Path()
        normal, abnormal, tests, masks = (
            [self.root / one for one in _several(given)]
            for given in (normal_dir, abnormal_dir, normal_test_dir, mask_dir)
        )
        if not normal:
            raise UsageError("normal_dir is empty; give the folder of good images.")
        if masks and len(masks) not in (1, len(abnormal)):
            raise UsageError(
                f"{len(masks)} folders of masks for {len(abnormal)} of abnormal images; give one for each."
            )
        train = [self._sample(path, GOOD) for folder in normal for path in _images(folder, extensions)]
        test = [self._sample(path, GOOD) for folder in tests for path in _images(folder, extensions)]
        for i, folder in enumerate(abnormal):
            paths = _images(folder, extensions)
            of_each = _masks(folder, paths, masks[i % len(masks)]) if masks else [None] * len(paths)
            kind = folder.name if folder.name.lower() not in (GOOD, "ok") else "abnormal"
            test += [self._sample(path, kind, mask) for path, mask in zip(paths, of_each, strict=True)]
        found = Dataset(f"folder {name}", train, test)
        self._choose(found, (train_batch_size, eval_batch_size, num_workers), choices, normal_split_ratio)

    def _sample(self, path: Path, kind: str, mask: Path | None = None) -> Sample:
        return Sample(str(path), path, kind, mask)


def _arguments(kind: type) -> list[str]:
    code = kind.__init__.__code__  # type: ignore[misc]
    return list(code.co_varnames[1 : code.co_argcount])


def _of_evaluation(choices: Choices) -> Transform | None:
    """The one augmentation of all images but training's. Errors: UsageError if there are two."""
    val, test = choices.get("val_augmentations"), choices.get("test_augmentations")
    if val is not None and test is not None and val is not test:
        raise UsageError(
            "val_augmentations and test_augmentations differ: thresholds would be set on other images than those they "
            "judge. Give one of them."
        )
    one = val if val is not None else test
    return choices.get("augmentations") if one is None else one


def _held_out(choices: Choices) -> tuple[ValSplitMode, float]:
    """Where the images that set the thresholds come from, and which share of the good training images they are."""
    given = choices.get("val_split_mode")
    mode = ValSplitMode.FROM_TRAIN if given is None else ValSplitMode.of("val_split_mode", given)
    if mode is ValSplitMode.SYNTHETIC:
        raise UsageError("val_split_mode is synthetic: defects are not made up here. Take from_train, or none.")
    if mode not in (ValSplitMode.NONE, ValSplitMode.FROM_TRAIN):
        warnings.warn(
            f"val_split_mode is {mode.value}, but no test image sets a threshold here: a fifth of the good training "
            "images does, and all test images are tested. Take from_train to say so, or none for no thresholds.",
            stacklevel=4,
        )
    if "val_split_ratio" in choices and (given is None or mode is not ValSplitMode.FROM_TRAIN):
        warnings.warn("val_split_ratio has no effect without val_split_mode='from_train'.", stacklevel=4)
    elif "val_split_ratio" in choices:
        return mode, choices["val_split_ratio"]
    return (mode, 0.0) if mode is ValSplitMode.NONE else (ValSplitMode.FROM_TRAIN, RECIPE.calibration_share)


def _or_none(transform: Any) -> Transform | None:
    return None if isinstance(transform, Identity) else transform


def _several(given: Folders | None) -> list[str | Path]:
    return [] if given is None else [given] if isinstance(given, str | Path) else list(given)


def _images(folder: Path, extensions: Sequence[str] | None) -> list[Path]:
    """The images of a folder and its sub-folders. Errors: DataError."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    wanted = None if extensions is None else {f".{one.lstrip('.').lower()}" for one in extensions}
    found = [p for p in images_in(folder, recursive=True) if wanted is None or p.suffix.lower() in wanted]
    if not found:
        raise DataError(f"{folder} holds no image with one of the extensions {', '.join(sorted(wanted or ()))}.")
    return found


def _masks(folder: Path, images: list[Path], masks: Path) -> list[Path]:
    """The mask of each image. Errors: DataError."""
    there: dict[Path, list[Path]] = {}
    for path in _images(masks, None):
        there.setdefault(path.relative_to(masks).parent, []).append(path)
    found = []
    for image in images:
        beside = there.get(image.relative_to(folder).parent, [])
        same = [p for p in beside if p.stem in (image.stem, f"{image.stem}_mask")]
        same = same or [p for p in beside if p.stem.startswith(image.stem)]
        if len(same) != 1:
            raise DataError(
                f"{masks} holds {len(same) or 'no'} masks for {image}; expected one called {image.stem} or "
                f"{image.stem}_mask."
            )
        found += same
    return found

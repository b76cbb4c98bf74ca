"""What the commands share: options, exit codes and output."""

from __future__ import annotations

import functools
import getpass
import io
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from patchcore.cli.streams import NoOutput, lost
from patchcore.data.reading import MAX_PIXELS, MOST_THREADS
from patchcore.errors import DataError, ImageError, PatchcoreError, UsageError, counted, is_wrong_usage
from patchcore.files import targets
from patchcore.files.text import json_line, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from patchcore.data.sample import Dataset
    from patchcore.detector import Detector
    from patchcore.oversight.sources import Sources

F = TypeVar("F", bound=Callable[..., Any])


class AnyPath(click.Path):
    """A path. An empty one is an unset variable of a script, and would stand for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("the path is empty. Is a variable of your script not set?", param, ctx)
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(shown(error.message), param, ctx)


# The kinds of device of torch, so that a slip is said before torch is loaded; whether this machine has one, torch says.
_DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "hip", "hpu", "npu", "xla", "mtia", "meta", "vulkan", "privateuseone")


def _device(_: click.Context, __: click.Parameter, name: str) -> str:
    if name.partition(":")[0] not in _DEVICES:
        raise click.UsageError(f"device is {name!r}; expected auto, cpu, cuda, cuda:0 or mps.")
    return name


device_option = click.option(
    "--device", default="auto", show_default=True, callback=_device, help="auto, cpu, cuda or mps."
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    help="Number of threads; by default as many as the machine has cores.",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["torch", "openvino", "auto"]),
    default="torch",
    show_default=True,
    help="What runs the backbone; openvino is faster on a CPU and needs patchcore[openvino]; auto takes it where it is "
    "installed and agrees with torch.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Precision of the backbone. bf16 is faster if the processor supports it, but changes scores by about 1e-2.",
)
weights_option = click.option(
    "--weights",
    type=AnyPath(exists=True, dir_okay=False),
    help="The backbone's weights file, if the model was fitted with one and saved without it.",
)
signature_option = click.option(
    "--require-signature",
    metavar="PUBLIC_KEY",
    help="Refuse the model unless it is signed with the private key of this Ed25519 key; needs patchcore[sign].",
)
force_option = click.option("--force", is_flag=True, help="Replace the file that is there.")


def needs_output() -> None:
    """Before the work: that there is a standard output, for results that nothing else would have. Errors: OSError."""
    if isinstance(sys.stdout, NoOutput):
        raise lost()


def _json(_: click.Context, __: click.Parameter, asked: bool) -> bool:
    try:
        if asked:
            needs_output()
        return asked
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_json, help="One JSON object per line on standard output."
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=MAX_PIXELS,
    show_default=True,
    help="Largest image to decode, in pixels.",
)


class _ModelPath(AnyPath):
    """The file of a detector. What is no file at all is wrong usage; what is in it, reading it says."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path: Path = super().convert(value, param, ctx)
        if path.is_dir():
            from patchcore.model import store

            try:
                store.read(path)
            except PatchcoreError as error:
                self.fail(str(error), param, ctx)
        return path


existing_path = AnyPath(exists=True, path_type=Path)
model_path = _ModelPath(exists=True, path_type=Path)


def detector_options(function: F) -> F:
    """Add the options of `Detector.load`. The command receives `load`, which opens a model with them."""

    @functools.wraps(function)
    def run(*args: Any, **given: Any) -> Any:
        options = {name: given.pop(name) for name in _LOAD_OPTIONS}

        def load(model: Path) -> Detector:
            from patchcore.detector import Detector

            return Detector.load(model, **options)

        return function(*args, load=load, **given)

    with_options: Any = run
    for option in reversed(_LOAD_OPTIONS.values()):  # the option added last is shown first
        with_options = option(with_options)
    return with_options


_LOAD_OPTIONS = {
    "device": device_option,
    "threads": threads_option,
    "engine": engine_option,
    "precision": precision_option,
    "weights": weights_option,
    "require_signature": signature_option,
}


class _DataPath(AnyPath):
    """A folder, a table, or a category of a dataset that is not a folder, such as `ROOT/mono` of ELPV."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if "://" in str(value):
            return Path(value)  # of `--cluster`; reading it says if it is used without
        if str(value) and not Path(value).exists():
            from patchcore.data.layouts import is_there, located

            if is_there(path := located(value)):
                return path
        path = super().convert(value, param, ctx)
        if path.is_file() and path.suffix.lower() != ".csv":
            wanted = "expected a folder of images, a dataset root, or a .csv table"
            self.fail(f"{shown(path)} is a file; {wanted}.", param, ctx)
        return path


data_path = _DataPath(exists=True, path_type=Path)
good_option = click.option(
    "--good", type=data_path, help="The training images, to show good patches from instead of the model's thumbnails."
)


def sources_of(good: Path | None) -> Sources:
    """Where to look for training images. Errors: DataError."""
    from patchcore.data.resolve import detect
    from patchcore.oversight.sources import Sources

    return Sources.of(detect(good), good) if good else Sources()


def command(function: F) -> F:
    """Run a command, print its errors as one line on standard error, and use the documented exit codes."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _stop)  # the default leaves half-written files
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are no text
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_Shown("%(message)s"))
        logging.getLogger("patchcore").setLevel(logging.INFO)
        try:
            return function(*args, **kwargs)
        except PatchcoreError as error:
            kind = click.UsageError if is_wrong_usage(error) else click.ClickException
            raise kind(shown(error, lines=True)) from None
        except BrokenPipeError:  # the reader of a pipe has closed it, as `head` does
            raise SystemExit(1) from None
        except OSError as error:
            raise click.ClickException(shown(f"{error.filename or _PRINTED}: {error.strerror or error}")) from None
        except KeyboardInterrupt:
            click.echo("Stopped. No half-written files were left.", err=True)
            raise SystemExit(1) from None

    return run  # type: ignore[return-value]


_PRINTED = "standard output or standard error"  # every error of a file has its name


class _Shown(logging.Formatter):
    """What the engine says, with the names in it as they can be shown."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record), lines=True)


def _stop(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Print a remark for people, on standard error."""
    click.echo(shown(text, lines=True), err=True)


def cells(*values: object) -> list[Text]:
    """A row of a table: texts as they are, without markup, and as they can be shown."""
    from rich.text import Text

    return [Text(shown(value)) for value in values]


def tell(text: str, as_json: bool = False) -> None:
    """Print what has become of a file: on standard output, or on standard error where JSON has that."""
    if not isinstance(sys.stdout, NoOutput):  # the file is there, whether or not somebody is told
        click.echo(shown(text, lines=True), err=as_json)


def console(as_json: bool = False) -> Console:
    """What prints tables: where `tell` does. Off a terminal it is as wide as they are, so nothing is cut."""
    from rich.console import Console

    stream = sys.stderr if as_json else io.StringIO() if isinstance(sys.stdout, NoOutput) else sys.stdout
    width, height = (None, None) if stream.isatty() else (100_000, 100)
    return Console(file=stream, emoji=False, width=width, height=height)


def listed(text: str, option: str) -> tuple[str, ...]:
    """The parts of `a,b`."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise UsageError(f"{option} is {text!r}; expected names separated by commas, for example a,b.")
    return parts


def print_json(data: dict[str, Any], *, sort: bool = False) -> None:
    """Print a JSON object as one line of UTF-8 on standard output; NaN and infinity become null."""
    click.echo(json_line(data, sort=sort).encode())


def labelled(data: Path) -> Dataset:
    """What a path holds, to measure a detector on. Errors: DataError, without labels."""
    from patchcore.data.resolve import detect

    found = detect(data)
    if not any(sample.kind for sample in found.test):
        raise DataError(
            f"{data}: {counted(len(found.every), 'image')} without labels, so there is nothing to measure verdicts "
            "against. Give a folder that has test/good and test/<kind of defect>, or a .csv table with a column label. "
            "For verdicts alone: patchcore predict."
        )
    say(f"{data}: {found.description}")
    return found


def check_output(output: Path, inputs: Iterable[object] = ()) -> None:
    """Check that a file can be written there, and is no input, before the work. Errors: UsageError, StoreError."""
    targets.file(output, inputs)


def check_images(output: Path, *given: Dataset | Path | None) -> None:
    """Check that a file to be written is no image or mask of these datasets. Errors: UsageError, DataError."""
    from patchcore.data.resolve import detect

    if output.exists():
        found = [detect(one) if isinstance(one, Path) else one for one in given if one]
        targets.no_input([output], (file for own in found for one in own.every for file in (one.image, one.mask)))


def check_new(output: Path, force: bool, inputs: Iterable[object] = ()) -> None:
    """As `check_output`, and that what took long to make is not replaced unasked. Errors: UsageError, StoreError."""
    check_output(output, inputs)
    if output.exists() and not force:
        raise UsageError(f"{output} already exists. Give another -o, or --force to replace it.")


def user() -> str:
    """Who runs the command; empty for a user without a name, as in a container."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


class BadImages:
    """Collects the images that could not be read."""

    def __init__(self, on_error: Callable[[ImageError], object] = lambda error: None) -> None:
        self.errors: list[ImageError] = []
        self._on_error = on_error

    def __call__(self, error: ImageError) -> None:
        self.errors.append(error)
        self._on_error(error)

    def report(self, verb: str) -> None:
        """List them on standard error."""
        if self.errors:
            say(f"{verb} {counted(len(self.errors), 'image')} that could not be read:")
            for error in self.errors:
                say(f"  {shown(error)}")

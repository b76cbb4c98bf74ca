"""What the commands share: options, exit codes and output."""

from __future__ import annotations

import functools
import json
import logging
import math
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from patchcore import files
from patchcore.data.reading import MAX_PIXELS
from patchcore.errors import ImageError, PatchcoreError, UsageError, counted, is_wrong_usage

if TYPE_CHECKING:
    from patchcore.detector import Detector

F = TypeVar("F", bound=Callable[..., Any])

device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
threads_option = click.option(
    "--threads", type=click.IntRange(1), help="Number of threads; by default as many as the machine has cores."
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["torch", "openvino"]),
    default="torch",
    show_default=True,
    help="What runs the backbone; openvino is faster on a CPU and needs patchcore[openvino].",
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
    type=click.Path(exists=True, dir_okay=False),
    help="The backbone's weights file, if the model was fitted with one and saved without it.",
)
signature_option = click.option(
    "--require-signature",
    metavar="PUBLIC_KEY",
    help="Refuse the model unless it is signed with the private key of this Ed25519 key; needs patchcore[sign].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=MAX_PIXELS,
    show_default=True,
    help="Largest image to decode, in pixels.",
)
existing_path = click.Path(exists=True, path_type=Path)


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


class _DataPath(click.Path):
    """An existing path, or a category of a dataset that is not a folder, such as `ROOT/mono` of ELPV."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not Path(value).exists():
            from patchcore.data.layouts import is_there, located

            if is_there(path := located(value)):
                return path
        return super().convert(value, param, ctx)


data_path = _DataPath(exists=True, path_type=Path)


def command(function: F) -> F:
    """Run a command, print its errors as one line on standard error, and use the documented exit codes."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _stop)  # the default leaves half-written files
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
        logging.getLogger("patchcore").setLevel(logging.INFO)
        for noisy in ("timm", "httpx", "huggingface_hub", "faiss"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        try:
            return function(*args, **kwargs)
        except PatchcoreError as error:
            raise (click.UsageError if is_wrong_usage(error) else click.ClickException)(str(error)) from None
        except BrokenPipeError:  # the reader of a pipe has closed it, as `head` does
            raise SystemExit(1) from None
        except OSError as error:
            raise click.ClickException(f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")) from None
        except KeyboardInterrupt:
            click.echo("Stopped. No half-written files were left.", err=True)
            raise SystemExit(1) from None

    return run  # type: ignore[return-value]


def _stop(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Print a line for people on standard error."""
    click.echo(text, err=True)


def listed(text: str, option: str) -> tuple[str, ...]:
    """The parts of `a,b`."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise UsageError(f"{option} is {text!r}; expected names separated by commas, for example a,b.")
    return parts


def print_json(data: dict[str, Any]) -> None:
    """Print a JSON object as one line on standard output; NaN and infinity become null."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in data.items()}
    click.echo(json.dumps(clean, ensure_ascii=False))


def check_output(output: Path) -> None:
    """Check that a file can be written there, before the work begins. Errors: UsageError, StoreError."""
    if not output.parent.is_dir():
        raise UsageError(f"{output}: the folder {output.parent} does not exist. Create it first.")
    files.check(output)


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
                say(f"  {error}")

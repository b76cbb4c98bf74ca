"""Commands: each is in a module of its own and loads the engine only when it runs."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

from patchcore.cli import streams

_COMMANDS = {  # name: (module, one line of help)
    "fit": ("fit", "Learn from good images and write a detector."),
    "predict": ("predict", "Score images and give verdicts."),
    "explain": ("explain", "Say why an image has its score, or why a defect was missed."),
    "evaluate": ("evaluate", "Measure a detector on labelled images."),
    "report": ("report", "Write an evaluation as one HTML page with curves and images."),
    "benchmark": ("benchmark", "Compare recipes on your parts, or on known datasets."),
    "tune": ("tune", "Choose a recipe by cross-validation on your parts."),
    "export": ("export", "Write a detector as one graph for ONNX Runtime, OpenVINO or torch."),
    "verify": ("export", "Check an exported folder with its test vectors."),
    "audit": ("audit", "Find good images that are unlike the rest, before they are learned."),
    "info": ("info", "Show what a detector file contains."),
    "plan": ("promise", "Say how many good parts a false-reject rate needs."),
    "set": ("promise", "Set the false-reject rate of a fitted detector."),
    "teach": ("changes", "Teach a detector good images, without fitting again."),
    "forget": ("changes", "Take the rows of a training image out of a detector."),
    "undo": ("changes", "Go back to an earlier version of a detector."),
    "history": ("changes", "List the versions of a detector."),
    "recalibrate": ("changes", "Set a detector's thresholds again, with new good images."),
    "watch": ("watch", "Watch a folder: say when its images are no longer like those of calibration."),
    "serve": ("serve", "Run a station: a server and its pages for the people on a line."),
    "station": ("station", "Keep a station: back it up, restore it, check it."),
    "diff": ("diff", "Compare two detectors: what they have learned, and which verdicts change."),
    "compact": ("changes", "Drop from a detector what only earlier versions need."),
    "sign": ("sign", "Sign a detector file, or an exported folder."),
    "recipes": ("info", "List the named recipes."),
    "backbones": ("info", "List the backbones that work offline."),
    "datasets": ("datasets", "List the public datasets that are read without conversion."),
    "schema": ("schema", "Print the JSON Schema of what a command prints."),
    "doctor": ("doctor", "Say what a bug report needs, and what is wrong with this installation."),
    "import-inspection": ("import_inspection", "Convert a patchcore-inspection model into a detector."),
    "demo": ("demo", "Fit and evaluate on real solar-cell images."),
}


class _Lazy(click.Group):
    """A group that imports a command's module only when the command is used, so that --help is quick."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        streams.complete()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # of --help and --version; commands say their own
            click.echo(f"Error: standard output: {error.strerror or error}", err=True)
            raise SystemExit(1) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        return getattr(import_module(f"patchcore.cli.{_COMMANDS[name][0]}"), name.replace("-", "_"))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from patchcore.errors import nearest_name

        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}.{nearest_name(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the version. Looking it up is slow, so this happens only on request."""
    if asked and not ctx.resilient_parsing:
        from patchcore import __version__

        click.echo(f"patchcore, version {__version__}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def main() -> None:
    """Find defects in images of parts after seeing only good ones.

    Exit codes: 0 success, whatever the verdicts; 1 an image or file could not be read or written, or the run failed;
    2 wrong usage, such as a field or backbone that does not exist, a path with nothing there, or a folder where a file
    is expected; 3 an image failed and --fail-exit was given; 4 `audit` found suspects.

    Shell completion: eval "$(_PATCHCORE_COMPLETE=bash_source patchcore)", or zsh_source, fish_source.
    """
    # Must be set before torch is loaded. By default torch's threads spin while they wait for each other, which is very
    # slow beside another busy process (docs/decisions/0006). A setting of the user's own is kept.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")

"""Outputs: what each command prints as JSON, one type for each kind of line. docs/reference/json.md is made of it."""

from __future__ import annotations

from typing import Any, Union

from pydantic import TypeAdapter

from patchcore.cli.outputs import changes, images, measures, models
from patchcore.cli.outputs.line import Unread

OUTPUTS: dict[str, tuple[type, ...]] = {
    "fit": (models.Fitted, models.FittedOfMany, changes.Changed),
    "predict": (images.Predicted, images.PartPredicted, Unread),
    "explain": (images.Explained,),
    "evaluate": (measures.Evaluated,),
    "benchmark": (measures.Benchmarked, measures.Failed),
    "tune": (measures.Tuned, measures.Chosen),
    "export": (models.Exported,),
    "verify": (models.Verified,),
    "audit": (images.Audited,),
    "info": (models.Info,),
    "plan": (changes.Planned,),
    "set": (changes.Set,),
    "teach": (changes.Changed,),
    "forget": (changes.Changed,),
    "undo": (changes.Changed,),
    "history": (changes.Versioned,),
    "recalibrate": (changes.Changed,),
    "watch": (
        images.Began, images.Restarted, images.Seen, images.Alarm, images.Learned, images.Unreadable, images.Ended,
    ),
    "diff": (changes.Compared, changes.ComparedImage),
    "recipes": (measures.ListedRecipe,),
    "backbones": (measures.ListedBackbone,),
    "datasets": (measures.ListedDataset,),
    "doctor": (measures.Diagnosed,),
    "import-inspection": (models.Imported,),
    "demo": (measures.Demonstrated,),
}  # fmt: skip


def adapter(command: str) -> TypeAdapter[Any]:
    """What reads and checks a line of a command."""
    return TypeAdapter(Union[OUTPUTS[command]])  # type: ignore[arg-type]  # noqa: UP007


def schema(command: str) -> dict[str, Any]:
    """The JSON Schema of a line of a command."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, **_untitled(adapter(command).json_schema()), "title": f"patchcore {command}"}


def schema_of(one: type) -> dict[str, Any]:
    """The JSON Schema of one kind of line."""
    return dict(_untitled(TypeAdapter(one).json_schema()))


def _untitled(value: Any) -> Any:
    """Without the titles that repeat the names of keys."""
    if isinstance(value, dict):
        return {key: _untitled(one) for key, one in value.items() if key != "title" or not isinstance(one, str)}
    return [_untitled(one) for one in value] if isinstance(value, list) else value

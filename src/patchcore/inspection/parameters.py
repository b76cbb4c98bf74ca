"""What a saved PatchCore is made of, beside its search index."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcore.errors import StoreError
from patchcore.inspection import plain_pickle
from patchcore.model import store

_JSON, _PICKLE = "patchcore_params.json", "patchcore_params.pkl"
_FORMAT = 1


@dataclass(frozen=True)
class Parameters:
    """The arguments of `PatchCore.load` as a file keeps them."""

    backbone: str | None  # a name that `backbones.load` takes; None for a network of the caller's own
    layers: tuple[str, ...]
    input_shape: tuple[int, int, int]
    pretrain_embed_dimension: int
    target_embed_dimension: int
    patchsize: int
    patchstride: int
    neighbours: int
    digest: str | None = None  # SHA-256 over the weights that the layers read

    def write(self, folder: str | Path, prepend: str) -> None:
        """Write `{prepend}patchcore_params.json`, whole or not at all. Errors: StoreError."""
        with store.appearing(Path(folder) / f"{prepend}{_JSON}") as temporary:
            Path(temporary).write_text(json.dumps(self._to_dict(), indent=1, sort_keys=True) + "\n", "utf-8")

    def _to_dict(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "backbone.name": self.backbone,
            "backbone.sha256": self.digest,
            "layers_to_extract_from": self.layers,
            "input_shape": self.input_shape,
            "pretrain_embed_dimension": self.pretrain_embed_dimension,
            "target_embed_dimension": self.target_embed_dimension,
            "patchsize": self.patchsize,
            "patchstride": self.patchstride,
            "anomaly_scorer_num_nn": self.neighbours,
        }

    @classmethod
    def read(cls, folder: str | Path, prepend: str) -> Parameters:
        """From what `write` has written, or patchcore-inspection's pickle (see `plain_pickle`). Errors: StoreError."""
        folder = Path(folder)
        path = folder / f"{prepend}{_JSON}"
        if path.is_file():
            try:
                data = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise StoreError(f"{path}: not JSON ({error}). Copy it again.") from None
            if isinstance(data, dict) and isinstance(data.get("format"), int) and data["format"] > _FORMAT:
                raise StoreError(
                    f"{path}: format {data['format']}; this version reads formats up to {_FORMAT}. "
                    "Upgrade: pip install -U patchcore"
                )
            return cls._from(path, data)
        path = folder / f"{prepend}{_PICKLE}"
        if not path.is_file():
            raise StoreError(f"{folder} holds no {prepend}{_JSON} and no {prepend}{_PICKLE}.{_others(folder)}")
        return cls._from(path, plain_pickle.load(path))

    @classmethod
    def _from(cls, path: Path, data: Any) -> Parameters:
        if not isinstance(data, Mapping):
            raise StoreError(f"{path}: holds a {type(data).__name__}; expected a dict of parameters.")

        def whole(value: Any) -> int:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
                raise ValueError("expected a whole number, at least 1")
            return value

        def shape(value: Any) -> tuple[int, int, int]:
            if not isinstance(value, list | tuple) or len(value) != 3:
                raise ValueError("expected (channels, height, width)")
            return whole(value[0]), whole(value[1]), whole(value[2])

        def names(value: Any) -> tuple[str, ...]:
            if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
                raise ValueError("expected the names of layers")
            return tuple(value)

        def text(value: Any) -> str | None:
            if value is not None and not isinstance(value, str):
                raise ValueError("expected a text")
            return value

        def part(name: str, parse: Any) -> Any:
            try:
                return parse(data[name])
            except KeyError:
                raise StoreError(f"{path}: has no {name!r}. Was it written by save_to_path?") from None
            except ValueError as error:
                raise StoreError(f"{path}: {name!r} is {reprlib.repr(data[name])}; {error}.") from None

        return cls(
            part("backbone.name", text),
            part("layers_to_extract_from", names),
            part("input_shape", shape),
            part("pretrain_embed_dimension", whole),
            part("target_embed_dimension", whole),
            part("patchsize", whole),
            part("patchstride", whole),
            part("anomaly_scorer_num_nn", whole),
            part("backbone.sha256", text) if "backbone.sha256" in data else None,
        )


def _others(folder: Path) -> str:
    """What `prepend` could be, for people."""
    if not folder.is_dir():
        return " There is no such folder."
    found = [path.name.removesuffix(kind) for kind in (_JSON, _PICKLE) for path in sorted(folder.glob(f"*{kind}"))]
    if not found:
        return ""
    names = ", ".join(repr(name) for name in dict.fromkeys(found))
    return f" It holds files that begin with {names}, for example the members of an ensemble: give one as prepend."

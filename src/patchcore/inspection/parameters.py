"""The parameters of a saved PatchCore, which are stored beside its search index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from patchcore.errors import StoreError, validated
from patchcore.files import appearing, contents
from patchcore.inspection import plain_pickle
from patchcore.inspection.neighbours import ExactNN, FaissNN, NearestNeighbours

_JSON, _PICKLE = "patchcore_params.json", "patchcore_params.pkl"
_FORMAT = 1


_LARGEST = 1 << 20  # bytes
_WHOLE = "A whole number, at least 1, and at most "
_Side = Annotated[int, Field(strict=True, gt=0, le=16_384)]  # 16,384 x 16,384 pixels take 3 GB
_Width = Annotated[int, Field(strict=True, gt=0, le=65_536, description=f"{_WHOLE}65,536.")]
_Name = Annotated[str, Field(max_length=4096)]


class Parameters(BaseModel):
    """The arguments of `PatchCore.load`, as a file stores them."""

    model_config = ConfigDict(
        frozen=True, populate_by_name=True, title="a dict of parameters, as save_to_path writes it"
    )

    format: int = Field(_FORMAT, ge=1, le=_FORMAT, description="Of a later format? Upgrade: pip install -U patchcore")
    backbone: _Name | None = Field(
        alias="backbone.name", description="A name that `backbones.load` takes; None for a network of the caller's own."
    )
    layers: tuple[_Name, ...] = Field(
        alias="layers_to_extract_from", min_length=1, max_length=256, description="The names of layers."
    )
    input_shape: tuple[_Side, _Side, _Side] = Field(description="Channels, height, width.")
    pretrain_embed_dimension: _Width
    target_embed_dimension: _Width
    patchsize: int = Field(strict=True, gt=0, le=255, description=f"{_WHOLE}255.")
    patchstride: _Width
    neighbours: int = Field(strict=True, gt=0, le=10_000, alias="anomaly_scorer_num_nn", description=f"{_WHOLE}10,000.")
    digest: str | None = Field(
        None, alias="backbone.sha256", description="SHA-256 over the weights that the layers read."
    )

    def write(self, folder: str | Path, prepend: str) -> None:
        """Write `{prepend}patchcore_params.json`, whole or not at all. Errors: StoreError."""
        with appearing(Path(folder) / f"{prepend}{_JSON}") as temporary:
            data = self.model_dump(by_alias=True)
            temporary.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: str | Path, prepend: str) -> Parameters:
        """Read what `write` has written, or patchcore-inspection's pickle (see `plain_pickle`). Errors: StoreError."""
        folder = Path(folder)
        path = folder / f"{prepend}{_JSON}"
        if path.is_file():
            try:
                content = contents(path, _LARGEST)
            except (OSError, ValueError) as error:
                raise StoreError(f"{path}: {getattr(error, 'strerror', '') or error}.") from None
            return validated(cls, content, path, StoreError)
        path = folder / f"{prepend}{_PICKLE}"
        if not path.is_file():
            raise StoreError(f"{folder} holds no {prepend}{_JSON} and no {prepend}{_PICKLE}.{_others(folder)}")
        return validated(cls, plain_pickle.load(path), path, StoreError)


def _others(folder: Path) -> str:
    """A sentence about possible values of `prepend`."""
    if not folder.is_dir():
        return " There is no such folder."
    found = [path.name.removesuffix(kind) for kind in (_JSON, _PICKLE) for path in sorted(folder.glob(f"*{kind}"))]
    if not found:
        return ""
    names = ", ".join(repr(name) for name in dict.fromkeys(found))
    return f" It holds files that begin with {names}, for example the members of an ensemble: give one as prepend."


def check_rows(folder: str | Path, search: NearestNeighbours, parameters: Parameters) -> None:
    """Whether the rows that were read are patches of these parameters. Errors: StoreError."""
    found = getattr(search.search_index, "d", None) if isinstance(search, FaissNN) else None
    if isinstance(search, ExactNN) and search.search_index is not None:
        found = search.search_index.rows.shape[1]
    if found not in (None, parameters.target_embed_dimension):
        raise StoreError(
            f"{folder}: its search index has rows of {found} values, and its parameters say "
            f"{parameters.target_embed_dimension} (target_embed_dimension). Copy the files of one model."
        )

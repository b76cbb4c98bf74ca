"""Near-copies: good images that show one part, under another light or a moment later, found by their patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from patchcore.memory.patches import PatchStore
from patchcore.pipeline.surroundings import undisturbed

# docs/decisions/0020 has what these were chosen on.
_LIKE = 16  # images most like an image, that are compared with it patch by patch
_LEAST, _MOST = 8, 4000  # images: fewer tell nothing of what is alike by chance, more take too long
_UNUSUAL = 24  # patches of each image that are looked for in the others
_SIDE = 4  # cells a side of an image's coarse grid
_NEARER = 0.6  # times as far as in images that are merely alike
_NEARER_SHARE = 0.7  # of the patches
_TOGETHER_SHARE = 0.75  # of the patches, found at the same shift


@undisturbed()
@torch.inference_mode()
def near_copies(store: PatchStore) -> list[int]:
    """For each image the number of the first image that shows the same part: its own if no other does.

    The patches of an image that are the farthest from its mean are looked for in the images that are most like it. Two
    images are near-copies if, both ways, 0.7 of these are found at less than 0.6 times the distance at which most of
    the others have them, and three quarters at one shift, give or take a cell.
    """
    count = len(store.grids)
    if not _LEAST <= count <= _MOST:
        return list(range(count))
    pooled = torch.stack([_pooled(_image(store, number), store.grids[number]) for number in range(count)])  # (N, D, S)
    scale = pooled.transpose(0, 1).flatten(1).std(1).clamp_min(1e-6)
    pooled = pooled / scale[:, None]
    pooled = (pooled - pooled.mean(0)).flatten(1)
    apart = torch.cdist(pooled, pooled)
    apart.fill_diagonal_(torch.inf)
    like = apart.topk(min(_LIKE, count - 1), largest=False)[1]  # (N, K)
    nearer, together = (torch.zeros(count, count, dtype=torch.bool) for _ in range(2))
    distances, shifts = _found(store, like, scale)
    usual = distances.quantile(0.75, dim=1, keepdim=True).clamp_min(1e-9)
    nearer.scatter_(1, like, (distances / usual).quantile(_NEARER_SHARE, dim=2) <= _NEARER)
    middle = shifts.median(2, keepdim=True)[0]
    together.scatter_(1, like, ((shifts - middle).abs() <= 1).all(3).float().mean(2) >= _TOGETHER_SHARE)
    both = nearer & together
    return _joined(both & both.T)


def _image(store: PatchStore, number: int) -> Tensor:
    """The patches of an image without their mean, which is much of its light."""
    values = store.of(number).float()
    return values - values.mean(0)


def _pooled(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches (h*w, D) -> means of the cells of a coarse grid (D, S)."""
    return torch.nn.functional.adaptive_avg_pool2d(patches.T.unflatten(1, grid), _SIDE).flatten(1)


def _found(store: PatchStore, like: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Where the unusual patches of each image are in those that it is like, (N, K): how far from them (N, K, Q), and at
    which shift (N, K, Q, 2), in cells."""
    count, kept = len(like), min(_UNUSUAL, min(h * w for h, w in store.grids))
    looked: list[Tensor] = []
    places = torch.empty(count, kept, 2)
    for number, (_, columns) in enumerate(store.grids):
        patches = _image(store, number) / scale
        norms = patches.square().sum(1)
        order = norms.topk(min(4 * kept, len(norms)))[1]  # neighbours are alike: of the highest, from all over them
        own = order[:: len(order) // kept][:kept]
        looked.append(patches[own])
        places[number] = torch.stack([own // columns, own % columns], 1)
    distances = torch.empty(*like.shape, kept)
    shifts = torch.empty(*like.shape, kept, 2)
    for number, (_, columns) in enumerate(store.grids):  # each image is read once
        askers, slots = (like == number).nonzero(as_tuple=True)
        if not len(askers):
            continue
        patches = _image(store, number) / scale
        asked = torch.cat([looked[asker] for asker in askers.tolist()])
        distance, cell = torch.cdist(asked, patches).min(1)
        at = torch.stack([cell // columns, cell % columns], 1).unflatten(0, (-1, kept))
        distances[askers, slots] = distance.unflatten(0, (-1, kept))
        shifts[askers, slots] = at - places[askers]
    return distances, shifts


def _joined(pairs: Tensor) -> list[int]:
    """The first image of each one's group, from pairs (N, N). Two groups are one if half of the pairs between them are
    pairs: images that are alike in a chain, one after the other, are not all of one part."""
    first = torch.arange(len(pairs))
    for one, other in pairs.triu(1).nonzero().tolist():
        low, high = sorted((int(first[one]), int(first[other])))
        if low < high and pairs[first == low][:, first == high].float().mean() >= 0.5:
            first[first == high] = low
    return [int(number) for number in first]


def said(first: Sequence[int]) -> str:
    """One line for people; empty where there are none."""
    groups = {number for own, number in enumerate(first) if own != number}
    if not groups:
        return ""
    images = sum(number in groups for number in first)
    return (
        f"{images} of {len(first)} good images are near-copies, of {len(groups)} "
        f"{'part' if len(groups) == 1 else 'parts'}: those of one stay together, and count as one. If they show "
        "different parts, set near_copies=apart; --part REGEX says which do."
    )

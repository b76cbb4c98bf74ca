"""The plate: evidence as one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from patchcore.oversight.close_up import framed
from patchcore.result import Result
from patchcore.verdict import draw

CLOSE = 220  # longest side of a close-up
_WIDTH, _GAP, _TEXT = 1000, 16, 18  # of the plate; between what is on it; height of letters
_TALLEST = 640  # of the part and its heat map

Box = tuple[int, int, int, int]


class Pair(NamedTuple):
    """Close-ups of a patch and of the good one, if it can be shown; what is said of both; a remark on the second."""

    own: Image.Image
    good: Image.Image | None
    told: tuple[str, ...]
    remark: str


def drawn(
    part: Image.Image, heat: Image.Image, boxes: Sequence[Box], pairs: Sequence[Pair], result: Result
) -> Image.Image:
    """The part with numbered boxes, its heat map, and below them close-up beside close-up; always as wide."""
    side = (_WIDTH - 3 * _GAP) // 2
    scale = min(side / part.width, _TALLEST / part.height)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    left, right = (one.resize(size, Image.Resampling.LANCZOS, reducing_gap=3) for one in (part, heat))
    for number, box in reversed(list(enumerate(boxes, 1))):  # the first is the last to be drawn, over the others
        _numbered(left, (box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale), number)
    font = ImageFont.load_default(_TEXT)
    page = Image.new("RGB", (_WIDTH, _GAP + size[1] + _GAP + len(pairs) * (CLOSE + _GAP)), "white")
    page.paste(left, (_GAP + (side - size[0]) // 2, _GAP))
    page.paste(right, (2 * _GAP + side + (side - size[0]) // 2, _GAP))
    ink = ImageDraw.Draw(page)
    beside = 3 * _GAP + 2 * CLOSE  # where text begins
    for number, pair in enumerate(pairs, 1):
        top = size[1] + 2 * _GAP + (number - 1) * (CLOSE + _GAP)
        page.paste(pair.own, (_GAP, top))
        _chip(ink, (_GAP, top), number)
        if pair.good is not None:
            page.paste(pair.good, (2 * _GAP + CLOSE, top))
        else:
            place = (2 * _GAP + CLOSE, top, 2 * _GAP + 2 * CLOSE, top + CLOSE)
            ink.rectangle(place, outline="#888888", fill="#f2f2f2")
        lines = [*pair.told, *([f"({pair.remark})"] if pair.remark else [])]
        wrapped = [part for line in lines for part in _wrapped(line, font, _WIDTH - _GAP - beside)]
        pitch = round(1.35 * _TEXT)
        most = CLOSE // pitch
        if len(wrapped) > most:
            wrapped = [*wrapped[: most - 1], "..."]
        for place_of, line in enumerate(wrapped):
            ink.text((beside, top + place_of * pitch), line, fill="black", font=font)
    return draw.captioned(page, result.decision, *result.told())


def _numbered(image: Image.Image, box: tuple[float, float, float, float], number: int) -> None:
    framed(image, box)
    ink = ImageDraw.Draw(image)
    width, height = _chip_size(ink, number)
    # Above the box, or below it where there is no room above.
    top = box[1] - height - 2 if box[1] - height - 2 >= 0 else min(box[3] + 2, image.height - height)
    _chip(ink, (min(max(0.0, box[0] - 2), image.width - width), top), number)


def _chip_size(ink: ImageDraw.ImageDraw, number: int) -> tuple[float, float]:
    return ink.textlength(str(number), ImageFont.load_default(_TEXT)) + 10, _TEXT + 8


def _chip(ink: ImageDraw.ImageDraw, at: tuple[float, float], number: int) -> None:
    """A number that shows on light and on dark."""
    width, height = _chip_size(ink, number)
    ink.rectangle((*at, at[0] + width - 1, at[1] + height - 1), fill="black", outline="white")
    middle = (at[0] + width / 2, at[1] + height / 2)
    ink.text(middle, str(number), fill="white", font=ImageFont.load_default(_TEXT), anchor="mm")


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """A text in lines that are no wider; a word that is wider is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines

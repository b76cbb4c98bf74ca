"""docs/images/how.svg: from an image to a verdict, as a drawing.

python docs/drawings.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

TARGET = Path(__file__).parent / "images" / "how.svg"
WIDTH, HEIGHT = 860, 300
STEPS = (  # title, two lines
    ("Image", "light evened if it", "varies, resized"),
    ("Network", "two taps, trained on", "other images, fixed"),
    ("Patches", "each cell with its", "3 x 3 neighbours"),
    ("Nearest rows", "distance of each patch", "to the memory bank"),
    ("Score, verdict", "mean of the worst 1 %;", "fail above a threshold"),
)
BELOW = (  # title, two lines, under which step, what the arrow says
    ("Memory bank", "2 % of good patches,", "spread by k-center", 3),
    ("Threshold", "from good images that", "were not in the bank", 4),
)
BOX, GAP, TOP, LOW = 148, 24, 20, 190


def drawn() -> str:
    """The drawing, in the reader's own colours."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="From an image to a verdict" font-family="sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="#4a6a8a"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for number, (title, *lines) in enumerate(STEPS):
        left = 12 + number * (BOX + GAP)
        parts += box(left, TOP, title, lines, "#eef3f8")
        if number:
            parts.append(arrow(left - GAP, TOP + 42, left, TOP + 42))
    for title, first, second, under in BELOW:
        left = 12 + under * (BOX + GAP)
        parts += box(left, LOW, title, [first, second], "#f6f1e4")
        parts.append(arrow(left + BOX / 2, LOW, left + BOX / 2, TOP + 84))
    patches = 12 + 2 * (BOX + GAP)
    parts.append(arrow(patches + BOX / 2, TOP + 84, 12 + 3 * (BOX + GAP), LOW + 42, bent=True))
    parts.append(text(patches + BOX / 2 - 168, LOW - 20, "fit: patches of good images", "#555555"))
    return "\n".join([*parts, "</svg>", ""])


def box(left: float, top: float, title: str, lines: list[str], fill: str) -> list[str]:
    return [
        f'<rect x="{left}" y="{top}" width="{BOX}" height="84" rx="6" fill="{fill}" stroke="#4a6a8a"/>',
        f'<text x="{left + BOX / 2}" y="{top + 24}" text-anchor="middle" font-weight="bold" font-size="14" '
        f'fill="#1c2b3a">{escape(title)}</text>',
        *(
            f'<text x="{left + BOX / 2}" y="{top + 48 + 18 * n}" text-anchor="middle" fill="#333333">'
            f"{escape(line)}</text>"
            for n, line in enumerate(lines)
        ),
    ]


def arrow(x: float, y: float, to_x: float, to_y: float, bent: bool = False) -> str:
    way = f"M{x} {y} V{to_y} H{to_x}" if bent else f"M{x} {y} L{to_x} {to_y}"
    return f'<path d="{way}" fill="none" stroke="#4a6a8a" stroke-width="1.5" marker-end="url(#tip)"/>'


def text(x: float, y: float, words: str, colour: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}">{escape(words)}</text>'


def run(check: bool = False) -> list[str]:
    """Write the drawing; with `check` only say what would change."""
    content = drawn()
    if TARGET.is_file() and TARGET.read_text("utf-8") == content:
        return []
    if not check:
        TARGET.write_text(content, "utf-8")
    return [TARGET.name]


if __name__ == "__main__":
    changed = run("--check" in sys.argv)
    print("\n".join(changed) or "up to date")
    sys.exit(bool(changed) and "--check" in sys.argv)

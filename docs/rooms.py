"""Draw the rooms of src/patchcore and the imports between them, as docs/images/rooms.svg.

python docs/rooms.py           writes the file
python docs/rooms.py --check   fails if it is not up to date

A room is a folder or a file beside it. Every import counts, also those within functions, but for what only a type
checker sees. An arrow that follows from others is left out: where a imports b and c, and b imports c, a -> b -> c
is drawn. A room stands one row below the lowest of those that import it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from html import escape
from itertools import accumulate, combinations, pairwise
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "patchcore"
OUT = Path(__file__).parent / "images" / "rooms.svg"

WIDTH, MARGIN = 900, 16
BOX, ROW, GAP, LANE = 30, 68, 16, 8  # heights of a box and of a row; between boxes; the width of a passing arrow
LETTER = 7.4

Graph = dict[str, set[str]]
Node = str | tuple[str, str, int]  # a room, or where an arrow between two passes through a row
Step = tuple[Node, Node]  # of an arrow, from one row to the next

# What imports what


def modules(package: Path) -> dict[str, Path]:
    """Name and file of every module."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, but for what only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield node
            yield from statements(node)


def imported(name: str, path: Path, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """The dotted names of what a module imports, its relative imports resolved."""
    parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else []
            base = [*base, node.module] if node.module else base
            yield from (".".join([*base, alias.name]) for alias in node.names)


def rooms(package: Path) -> Graph:
    """Every room, and those that it imports; `detector.py` is a file, `maths/` a folder."""
    known = modules(package)
    door = known[package.name]
    # `from patchcore import Detector` imports detector.py: the package says so itself, to type checkers.
    everything = ast.walk(ast.parse(door.read_text("utf-8")))
    public = {name.rpartition(".")[2]: name for name in imported(package.name, door, everything)}

    def room(name: str) -> str | None:
        first, *rest = name.split(".")
        if first != package.name or not rest:
            return None
        if len(rest) == 1 and rest[0] in public and name not in known:
            return room(public[rest[0]])
        path = package / rest[0]
        if path.name.startswith("__"):
            return None  # a door, and no room
        return f"{path.name}/" if path.is_dir() else f"{path.name}.py"

    graph: Graph = {}
    for name, path in known.items():
        source = room(name)
        if source is not None:
            targets = map(room, imported(name, path, statements(ast.parse(path.read_text("utf-8")))))
            graph.setdefault(source, set()).update(target for target in targets if target not in (None, source))
    return graph


def reduced(graph: Graph) -> Graph:
    """Without the arrows that follow from others."""
    try:
        order = list(TopologicalSorter(graph).static_order())  # what is imported comes first
    except CycleError as error:
        raise SystemExit(f"Rooms import each other in a circle: {' <- '.join(error.args[1])}.") from None
    below: Graph = {}
    for name in order:
        below[name] = graph[name].union(*(below[other] for other in graph[name]))
    return {name: {one for one in to if not any(one in below[other] for other in to)} for name, to in graph.items()}


# Where it stands


def rows_of(graph: Graph) -> dict[str, int]:
    """The row of every room: 0 for one that no other imports, and then one below the lowest that does."""
    rows = dict.fromkeys(graph, 0)
    for name in reversed(list(TopologicalSorter(graph).static_order())):
        for other in graph[name]:
            rows[other] = max(rows[other], rows[name] + 1)
    return rows


def lanes(graph: Graph) -> tuple[list[list[Node]], list[Step]]:
    """The rows of rooms and passing arrows, and the steps of the arrows from row to row."""
    rows = rows_of(graph)
    table: list[list[Node]] = [[] for _ in range(max(rows.values()) + 1)]
    for name in sorted(graph):
        table[rows[name]].append(name)
    steps: list[Step] = []
    for name in sorted(graph):
        for other in sorted(graph[name]):
            passing: list[Node] = [(name, other, row) for row in range(rows[name] + 1, rows[other])]
            for node, row in zip(passing, range(rows[name] + 1, rows[other]), strict=True):
                table[row].append(node)
            steps += pairwise([name, *passing, other])
    return table, steps


def neighbours(steps: list[Step]) -> tuple[dict[Node, list[Node]], dict[Node, list[Node]]]:
    """What each node has above itself, and below."""
    above: dict[Node, list[Node]] = {}
    below: dict[Node, list[Node]] = {}
    for upper, lower in steps:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    return above, below


def crossings(table: list[list[Node]], steps: list[Step]) -> int:
    """How many arrows cross between the rows."""
    place = {node: (row, number) for row, nodes in enumerate(table) for number, node in enumerate(nodes)}
    total = 0
    for row in range(len(table)):
        ends = [(place[a][1], place[b][1]) for a, b in steps if place[a][0] == row]
        total += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(ends, 2))
    return total


def ordered(table: list[list[Node]], steps: list[Step]) -> list[list[Node]]:
    """The rows with few crossings: every node near the mean of its neighbours', then neighbours swapped."""
    above, below = neighbours(steps)
    table, best = [list(nodes) for nodes in table], [list(nodes) for nodes in table]
    for sweep in range(24):
        near = below if sweep % 2 else above
        for nodes in reversed(table) if sweep % 2 else table:
            place = {node: number / len(row) for row in table for number, node in enumerate(row)}
            mean = {node: sum(place[n] for n in near[node]) / len(near[node]) for node in nodes if node in near}
            nodes.sort(key=lambda node, mean=mean, place=place: mean.get(node, place[node]))  # type: ignore[misc]
        if crossings(table, steps) < crossings(best, steps):
            best = [list(nodes) for nodes in table]
    count, before = crossings(best, steps), -1
    while count != before:
        before = count
        for nodes in best:
            for i in range(len(nodes) - 1):
                nodes[i], nodes[i + 1] = nodes[i + 1], nodes[i]
                after = crossings(best, steps)
                if after >= count:
                    nodes[i], nodes[i + 1] = nodes[i + 1], nodes[i]
                else:
                    count = after
    return best


def width(node: Node) -> float:
    return LETTER * len(node) + 22 if isinstance(node, str) else LANE


def spread(wanted: list[float], weights: list[float], low: float, high: float) -> list[float]:
    """The nearest values to those wanted that never fall, within two bounds: averages of those that would."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(wanted, weights, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            value_, weight_, count = blocks.pop()
            both = weight_ + block[1]
            block = ((value_ * weight_ + block[0] * block[1]) / both, both, count + block[2])
        blocks.append(block)
    return [min(max(value, low), high) for value, _, count in blocks for _ in range(count)]


def placed(table: list[list[Node]], steps: list[Step]) -> dict[Node, float]:
    """The middle of every node: near its neighbours in the rows beside, and arrows straight where they pass."""
    above, below = neighbours(steps)
    offsets = []
    for nodes in table:
        widths = [width(node) for node in nodes]
        beside = [(a + b) / 2 + GAP for a, b in pairwise(widths)]
        offsets.append(list(accumulate(beside, initial=MARGIN + widths[0] / 2)))
    room = [WIDTH - MARGIN - width(nodes[-1]) / 2 - places[-1] for nodes, places in zip(table, offsets, strict=True)]
    if min(room) < 0:
        raise SystemExit(f"A row is {-min(room):.0f} px wider than the drawing: make WIDTH in docs/rooms.py larger.")
    x = {
        node: place + free / 2
        for nodes, places, free in zip(table, offsets, room, strict=True)
        for node, place in zip(nodes, places, strict=True)
    }

    def pull(node: Node, other: Node) -> float:
        return (1.0, 2.0, 8.0)[(not isinstance(node, str)) + (not isinstance(other, str))]

    for sweep in range(400):
        for row in reversed(range(len(table))) if sweep % 2 else range(len(table)):
            nodes, places = table[row], offsets[row]
            wanted, weights = [], []
            for node, place in zip(nodes, places, strict=True):
                pulls = [(pull(node, o), x[o]) for o in above.get(node, []) + below.get(node, [])]
                total = sum(p for p, _ in pulls)
                wanted.append((sum(p * at for p, at in pulls) / total if pulls else x[node]) - place)
                weights.append(total or 1.0)
            for node, place, value in zip(nodes, places, spread(wanted, weights, 0, room[row]), strict=True):
                x[node] = place + value
    return straightened(table, x)


def straightened(table: list[list[Node]], x: dict[Node, float]) -> dict[Node, float]:
    """Every passing arrow on one straight line, where what stands beside it leaves room."""
    free: dict[tuple[str, str], list[tuple[float, float, Node]]] = {}
    for _ in range(4):  # a line that has moved may make room for another
        free.clear()
        for nodes in table:
            edges = [-MARGIN, *nodes, WIDTH + MARGIN]
            for left, node, right in zip(edges, nodes, edges[2:], strict=False):
                if not isinstance(node, str):
                    low = x[left] + (width(left) + GAP) / 2 + LANE if not isinstance(left, int) else MARGIN
                    high = x[right] - (width(right) + GAP) / 2 - LANE if not isinstance(right, int) else WIDTH - MARGIN
                    free.setdefault(node[:2], []).append((low, high, node))
        for passing in free.values():
            low, high = max(low for low, _, _ in passing), min(high for _, high, _ in passing)
            if low <= high:
                middle = sum(x[node] for _, _, node in passing) / len(passing)
                x.update({node: min(max(middle, low), high) for _, _, node in passing})
    return x


# As it looks

STYLE = """\
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2733 }
  .room { text-anchor: middle }
  .folder rect { fill: #e3edf8; stroke: #5b84b1 }
  .file rect { fill: #fdf3dd; stroke: #b8923f }
  .import { fill: none; stroke: #7a8794; stroke-width: 1.2 }
  .note { font-size: 12px; fill: #52606d }"""


def drawn(graph: Graph) -> str:
    """The drawing of a graph without its arrows that follow from others."""
    table, steps = lanes(graph)
    table = ordered(table, steps)
    x = placed(table, steps)
    top = {node: MARGIN + row * ROW for row, nodes in enumerate(table) for node in nodes}
    above, below = neighbours(steps)

    def port(node: Node, other: Node, others: list[Node]) -> float:
        """Where at a box an arrow begins or ends: they lie side by side, in the order of where they go."""
        if not isinstance(node, str):
            return x[node]
        beside = sorted(others, key=lambda o: (x[o], str(o)))
        step = min(14.0, (width(node) - 16) / len(beside))
        return x[node] + (beside.index(other) - (len(beside) - 1) / 2) * step

    arrows = []
    for name in sorted(graph):
        for first in below.get(name, []):
            node: Node = name
            then: Node = first
            start = port(node, then, below[node])
            path = f"M{start:.0f} {top[name] + BOX}"
            while True:
                end = port(then, node, above[then])
                y0, y1 = top[node] + BOX, top[then] - (4 if isinstance(then, str) else 0)
                path += f"C{start:.0f} {(y0 + y1) // 2} {end:.0f} {(y0 + y1) // 2} {end:.0f} {y1}"
                if isinstance(then, str):
                    break
                path += f"V{top[then] + BOX}"
                node, then, start = then, below[then][0], end
            arrows.append((f"{name} imports {then}", path))
    height = MARGIN + (len(table) - 1) * ROW + BOX + 50
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' role="img" aria-labelledby="title">',
        '<title id="title">The rooms of patchcore, and which imports which</title>',
        "<!-- Written by docs/rooms.py from the imports: run `make docs`. -->",
        f"<style>\n{STYLE}\n</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="8" markerHeight="8" orient="auto"'
        ' markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8Z" fill="#7a8794"/></marker>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for title, path in arrows:
        out.append(f'<path class="import" d="{path}" marker-end="url(#tip)"><title>{escape(title)}</title></path>')
    out += [_box(name, x[name], top[name], width(name)) for name in sorted(graph)]
    note = height - MARGIN
    out += [
        _box("folder/", MARGIN + 38, note - 22, 76),
        _box("file.py", MARGIN + 126, note - 22, 76),
        f'<text class="note" x="{MARGIN + 180}" y="{note - 3}">'
        "An arrow is an import. Imports that follow from other arrows are left out.</text>",
        "</svg>\n",
    ]
    return "\n".join(out)


def _box(name: str, x: float, y: float, wide: float) -> str:
    return (
        f'<g class="{"folder" if name.endswith("/") else "file"}"><rect x="{x - wide / 2:.0f}" y="{y}" '
        f'width="{wide:.0f}" height="{BOX}" rx="5"/><text class="room" x="{x:.0f}" y="{y + 20}">'
        f"{escape(name)}</text></g>"
    )


def run(check: bool) -> list[str]:
    """Write the drawing; with `check`, write nothing and return its name if it is not up to date."""
    text = drawn(reduced(rooms(PACKAGE)))
    if not check:
        OUT.write_text(text, "utf-8")
    elif not OUT.exists() or OUT.read_text("utf-8") != text:
        return [OUT.name]
    return []


if __name__ == "__main__":
    if run("--check" in sys.argv):
        raise SystemExit(f"Not up to date: {OUT.name}. Run `make docs`.")

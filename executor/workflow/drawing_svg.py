"""A workflow's graph as one SVG that needs nothing else: no font, no script, no style from outside.

Lines and texts have the colour of the text around (`currentColor`), so that it fits light and dark pages. Columns go
from left to right; a `map` is a box around the graph of its items.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from html import escape

import msgspec

from executor.workflow.drawing_words import cut, details, starts
from executor.workflow.graph import Graph, GraphNode, Level
from executor.workflow.layout import Layout, Point, Size, lay_out

_LETTER = 7.4
_SMALL = 6.2
_LINE = 16.0
_PADDING = 12.0
_MARGIN = 16.0
_START = " start"  # no node's name has a space
_STYLE = (
    "text{font:13px ui-sans-serif,system-ui,sans-serif;fill:currentColor}"
    ".n{font-weight:600}.s{font-size:11px;opacity:.7}"
    "rect{fill:currentColor;fill-opacity:.05;stroke:currentColor;stroke-opacity:.45}"
    ".m{fill-opacity:.03}.e{stroke-dasharray:5 4}"
    "path{fill:none;stroke:currentColor;stroke-opacity:.6;stroke-width:1.5}"
    ".any{stroke-dasharray:7 4}.failed{stroke-dasharray:2 4;stroke-linecap:round;stroke-width:2}"
    ".h{fill:currentColor;fill-opacity:.6;stroke:none}"
)


class _Box(msgspec.Struct, frozen=True):
    """A box before it has a place: its lines of text, its size, and what is drawn inside."""

    title: str
    lines: tuple[str, ...]
    size: Size
    inside: _Plan | None = None
    kind: str = ""


class _Plan(msgspec.Struct, frozen=True):
    """Boxes and their places."""

    boxes: dict[str, _Box]
    layout: Layout
    kinds: dict[tuple[str, str], str]


def as_svg(graph: Graph) -> str:
    """The graph as SVG, with a title and a description for those who do not see it."""
    plan = _plan(graph.level, graph)
    kinds = sorted(set(_kinds(plan)) - {""})
    legend = [kind for kind in ("any", "failed") if kind in kinds]
    width = max(plan.layout.size.width, 150.0 * len(legend), 200.0) + 2 * _MARGIN
    ending = None if graph.on_error is None else _ending(graph.on_error)
    bottom = plan.layout.size.height + 2 * _MARGIN
    height = bottom + (ending.size.height + _MARGIN if ending is not None else 0.0) + (28.0 if legend else 0.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img" aria-labelledby="headrace-title headrace-desc">',
        f'<title id="headrace-title">{_safe(graph.name)}</title>',
        f'<desc id="headrace-desc">{_safe(_described(graph))}</desc>',
        f"<style>{_STYLE}</style>",
        *_drawn(plan, (_MARGIN, _MARGIN)),
    ]
    if ending is not None:
        parts += _boxed(ending, (_MARGIN, bottom))
    for index, kind in enumerate(legend):
        parts += _legend(kind, (_MARGIN + 150.0 * index, height - 14.0))
    return "\n".join([*parts, "</svg>\n"])


def _plan(level: Level, graph: Graph | None = None) -> _Plan:
    needs = {name: tuple(dict.fromkeys(level.nodes[name].needs)) for name in level.order}
    boxes = {name: _node(level.nodes[name]) for name in level.order}
    kinds = {(need, name): _kind(level.nodes[name], need) for name, required in needs.items() for need in required}
    if graph is not None and graph.triggers:
        boxes[_START] = _box("", tuple(starts(graph)), "start")
        roots = [name for name, required in needs.items() if not required]
        needs = {_START: (), **needs, **dict.fromkeys(roots, (_START,))}
    return _Plan(boxes, lay_out(needs, {name: box.size for name, box in boxes.items()}), kinds)


def _node(node: GraphNode) -> _Box:
    lines = (node.uses, *details(node))
    inside = None if node.body is None else _plan(node.body.level)
    return _box(node.name, lines, "m" if inside is not None else "", inside)


def _ending(node: GraphNode) -> _Box:
    return _box("on error", (node.uses,), "e")


def _box(title: str, lines: tuple[str, ...], kind: str, inside: _Plan | None = None) -> _Box:
    title, lines = cut(title), tuple(map(cut, lines))
    width = max(len(title) * _LETTER, *(len(line) * _SMALL for line in lines), 60.0) + 2 * _PADDING
    height = (len(lines) + bool(title)) * _LINE + _PADDING
    if inside is not None:
        width = max(width, inside.layout.size.width + 2 * _PADDING)
        height += inside.layout.size.height + _PADDING
    return _Box(title, lines, Size(width, height), inside, kind)


def _kind(node: GraphNode, need: str) -> str:
    if node.when == "failed":
        return "failed"
    return "any" if need in node.any and node.when == "succeeded" else ""


def _kinds(plan: _Plan) -> Iterator[str]:
    yield from plan.kinds.values()
    for box in plan.boxes.values():
        if box.inside is not None:
            yield from _kinds(box.inside)


def _drawn(plan: _Plan, corner: Point) -> Iterator[str]:
    for edge, line in plan.layout.lines.items():
        yield from _edge([(x + corner[0], y + corner[1]) for x, y in line], plan.kinds.get(edge, ""))
    for name, box in plan.boxes.items():
        x, y = plan.layout.places[name]
        yield from _boxed(box, (x + corner[0], y + corner[1]))


def _boxed(box: _Box, corner: Point) -> Iterator[str]:
    x, y = corner
    rounded = 14 if box.kind == "start" else 6
    kind = f' class="{box.kind}"' if box.kind in ("m", "e") else ""
    size = f'width="{box.size.width:.1f}" height="{box.size.height:.1f}" rx="{rounded}"'
    yield f'<rect{kind} x="{x:.1f}" y="{y:.1f}" {size}/>'
    y += _PADDING / 2
    if box.title:
        y += _LINE
        yield f'<text class="n" x="{x + _PADDING:.1f}" y="{y - 3:.1f}">{_safe(box.title)}</text>'
    for line in box.lines:
        y += _LINE
        yield f'<text class="s" x="{x + _PADDING:.1f}" y="{y - 4:.1f}">{_safe(line)}</text>'
    if box.inside is not None:
        free = box.size.width - box.inside.layout.size.width
        yield from _drawn(box.inside, (x + free / 2, y + _PADDING / 2))


def _edge(points: list[Point], kind: str) -> Iterator[str]:
    """A smooth line through all points, level at each of them, and its head."""
    *rest, (x, y) = points
    points = [*rest, (x - 6, y)]
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        middle = (x0 + x1) / 2
        path += f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    yield f'<path{f" class={chr(34)}{kind}{chr(34)}" if kind else ""} d="{path}"/>'
    yield f'<path class="h" d="M{x:.1f} {y:.1f}l-8 -4v8z"/>'


def _legend(kind: str, corner: Point) -> Iterator[str]:
    x, y = corner
    words = {"any": "any of these", "failed": "when one failed"}[kind]
    yield f'<path class="{kind}" d="M{x:.1f} {y:.1f}h32"/>'
    yield f'<text class="s" x="{x + 40:.1f}" y="{y + 4:.1f}">{words}</text>'


def _described(graph: Graph) -> str:
    nodes = [
        f"{name} ({node.uses})" + (f" after {', '.join(node.needs)}" if node.needs else "")
        for name, node in graph.nodes.items()
    ]
    more = f" and {len(nodes) - 50} more" if len(nodes) > 50 else ""
    return f"{len(nodes)} nodes: {'; '.join(nodes[:50])}{more}."


def _safe(text: str) -> str:
    """Escaped, without the characters that XML does not have."""
    return escape("".join(character if character.isprintable() else "\ufffd" for character in text))

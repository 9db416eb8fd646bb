"""A workflow's graph as a drawing: text for terminals, SVG for pages.

In text each node is a line, and each line on the left a node that others below still need:

    ○    customer  http.request
    ├─●  check     transform
    ●─┘  notify    webhook.deliver

`○` needs nothing. `╌` leads from one of `any`, `×` to a node that waits for a failure. A graph of very many nodes is
only listed.
"""

from __future__ import annotations

from collections.abc import Iterator

from executor.workflow.drawing_svg import as_svg
from executor.workflow.drawing_words import details, starts
from executor.workflow.graph import Graph, GraphNode, Level

__all__ = ["as_svg", "as_text"]

MOST_LANES = 24
MOST_NODES = 300
_WIDEST = 48


def as_text(graph: Graph) -> str:
    """The graph in lines of text, without a newline at the end."""
    title = [f"{graph.name}  {graph.hash.hex()[:12]}  queue {graph.queue}"]
    title += [f"on {start}" for start in starts(graph)]
    lines = None if len(graph.nodes) > MOST_NODES else _drawn(graph.level)
    if lines is None:
        lines = list(_listed(graph.level, ""))
    if graph.on_error is not None:
        lines += ["", f"on error: {graph.on_error.uses}"]
    return "\n".join([*title, "", *lines])


def _drawn(level: Level) -> list[str] | None:
    """The lines; None where the graph is too wide."""
    lanes: list[str | None] = []
    left = {name: len(set(node.dependents)) for name, node in level.nodes.items()}
    rows: list[tuple[str, GraphNode | str]] = []
    for name in level.order:
        node = level.nodes[name]
        gutter = _row(node, lanes, left)
        if len(lanes) > MOST_LANES:
            return None
        rows.append((gutter, node))
        if node.body is not None:
            inner = _drawn(node.body.level)
            if inner is None:
                return None
            passing = "".join("│ " if lane is not None else "  " for lane in lanes)
            rows += [(passing, f"┆ {line}") for line in inner]
    width = max(len(gutter) for gutter, _ in rows)
    names = min(max(len(name) for name in level.nodes), _WIDEST)
    return [
        f"{gutter:<{width}} {_label(part, names) if isinstance(part, GraphNode) else part}".rstrip()
        for gutter, part in rows
    ]


def _row(node: GraphNode, lanes: list[str | None], left: dict[str, int]) -> str:
    """The line's left side; moves the lanes on to below it."""
    before = list(lanes)
    needed = {before.index(need): need for need in dict.fromkeys(node.needs)}
    for need in needed.values():
        left[need] -= 1
    closing = [column for column, need in sorted(needed.items()) if left[need] == 0]
    for column in closing:
        lanes[column] = None
    free = closing or [column for column, lane in enumerate(before) if lane is None]
    if not free:
        lanes.append(None)
        before.append(None)
        free = [len(lanes) - 1]
    own = free[0]
    cells = _cells(node, before, needed, closing, own)
    lanes[own] = node.name if left[node.name] else None
    while lanes and lanes[-1] is None:
        lanes.pop()
    return "".join(cells).rstrip()


def _cells(
    node: GraphNode, before: list[str | None], needed: dict[int, str], closing: list[int], own: int
) -> list[str]:
    """Two characters for each lane: the lane itself, and what leads on to the right."""
    least, most = min([own, *needed]), max([own, *needed])
    cells: list[str] = []
    for column, lane in enumerate(before):
        if column == own:
            cells.append("●" if needed else "○")
        elif column in needed:
            ends = column in closing
            inward = ("└" if ends else "├") if column == least else ("┘" if ends else "┤") if column == most else ""
            cells.append(inward or ("┴" if ends else "┼"))
        elif lane is not None:
            cells.append("│")
        else:
            cells.append(_dash(node, needed, column, own) if least < column < most else " ")
        cells.append(_dash(node, needed, column, own) if least <= column < most else " ")
    return cells


def _dash(node: GraphNode, needed: dict[int, str], column: int, own: int) -> str:
    """What a line right of `column` looks like: that of the needs that it comes from."""
    beyond = [need for at, need in needed.items() if (at <= column if column < own else at > column)]
    if node.when == "failed":
        return "×"
    return "╌" if beyond and all(need in node.any for need in beyond) else "─"


def _label(node: GraphNode, width: int) -> str:
    return "  ".join([f"{node.name:<{width}}", node.uses, *details(node)])


def _listed(level: Level, indent: str) -> Iterator[str]:
    for name in level.order:
        node = level.nodes[name]
        needs = f"  needs {', '.join(node.needs)}" if node.needs else ""
        yield indent + "  ".join([name, node.uses, *details(node)]) + needs
        if node.body is not None:
            yield from _listed(node.body.level, indent + "  ")

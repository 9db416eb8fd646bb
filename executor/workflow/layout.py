"""Where the boxes of a graph go: in columns from left to right, each box right of those it needs.

Layers are by the longest path. An edge over several layers goes through points of its own in the layers between, so
that it passes between boxes and not through them. The order within a layer follows the mean place of the neighbours
(the barycentre method of Sugiyama, Tagawa and Toda, 1981), a few times back and forth; so do the heights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from executor.workflow.order import Needs, topological

Edge = tuple[str, str]
Point = tuple[float, float]

COLUMN_GAP = 56.0
ROW_GAP = 20.0
_SWEEPS = 8
_MOST = 400
"""Boxes and points up to which the order is looked for; beyond, the document's stands."""


class Size(msgspec.Struct, frozen=True):
    """Of a box, in pixels."""

    width: float
    height: float


class Layout(msgspec.Struct, frozen=True):
    """`places`: the upper left corners. `lines`: for each edge, the points that it goes through."""

    places: dict[str, Point]
    lines: dict[Edge, tuple[Point, ...]]
    size: Size


def lay_out(needs: Needs, sizes: Mapping[str, Size]) -> Layout:
    """The places of these boxes, from (0, 0) on. There must be no cycle."""
    layers, chains = _layers(needs)
    sizes = {**sizes, **{name: Size(0.0, 0.0) for layer in layers for name in layer if name not in sizes}}
    before, after = _neighbours(chains.values())
    if sum(map(len, layers)) <= _MOST:
        _order(layers, before, after)
    middles = _heights(layers, sizes, before, after)
    places: dict[str, Point] = {}
    spans: dict[str, tuple[Point, Point]] = {}  # a point's line is level beside the boxes of its layer
    x = 0.0
    for layer in layers:
        width = max(sizes[name].width for name in layer)
        for name in layer:
            places[name] = (x + (width - sizes[name].width) / 2, middles[name] - sizes[name].height / 2)
            spans[name] = ((x, middles[name]), (x + width, middles[name]))
        x += width + COLUMN_GAP
    lines = {edge: _line(chain, places, sizes, spans) for edge, chain in chains.items()}
    height = max((places[name][1] + sizes[name].height for name in places), default=0.0)
    boxes = {name: places[name] for name in needs}
    return Layout(boxes, lines, Size(max(x - COLUMN_GAP, 0.0), height))


def _layers(needs: Needs) -> tuple[list[list[str]], dict[Edge, list[str]]]:
    """The layers with the points between, and each edge as a chain of boxes and points from layer to layer."""
    depth: dict[str, int] = {}
    for name in topological(needs):
        depth[name] = 1 + max((depth[need] for need in needs[name]), default=-1)
    layers: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for name, layer in depth.items():
        layers[layer].append(name)
    chains: dict[Edge, list[str]] = {}
    for name, required in needs.items():
        for need in required:
            chain = [need]
            for layer in range(depth[need] + 1, depth[name]):
                point = f"{need} > {name} @ {layer}"  # no node's name has spaces
                layers[layer].append(point)
                chain.append(point)
            chains[need, name] = [*chain, name]
    return layers, chains


def _neighbours(chains: Iterable[Sequence[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for chain in chains:
        for left, right in itertools.pairwise(chain):
            before.setdefault(right, []).append(left)
            after.setdefault(left, []).append(right)
    return before, after


def _order(layers: list[list[str]], before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> None:
    rank = {name: float(index) for layer in layers for index, name in enumerate(layer)}
    for sweep in range(_SWEEPS):
        neighbours, walk = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in walk:
            layer.sort(key=lambda name: _mean([rank[one] for one in neighbours.get(name, ())], rank[name]))
            rank |= {name: float(index) for index, name in enumerate(layer)}


def _heights(
    layers: list[list[str]], sizes: Mapping[str, Size], before: Mapping[str, list[str]], after: Mapping[str, list[str]]
) -> dict[str, float]:
    """The middle of each box, as near to its neighbours' as those above and below let it."""
    middles: dict[str, float] = {}
    for layer in layers:
        _stack(layer, sizes, dict.fromkeys(layer, 0.0), middles)
    for sweep in range(_SWEEPS):
        neighbours, walk = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in walk:
            wished = {name: _mean([middles[one] for one in neighbours.get(name, ())], middles[name]) for name in layer}
            _stack(layer, sizes, wished, middles)
    top = min((middles[name] - sizes[name].height / 2 for layer in layers for name in layer), default=0.0)
    return {name: middle - top for name, middle in middles.items()}


def _stack(
    layer: Sequence[str], sizes: Mapping[str, Size], wished: Mapping[str, float], middles: dict[str, float]
) -> None:
    """One below the other, each where it wants to be or lower; then all moved to where they want to be on average."""
    bottom = float("-inf")
    for name in layer:
        half = sizes[name].height / 2
        middles[name] = max(wished[name], bottom + ROW_GAP + half)
        bottom = middles[name] + half
    shift = sum(wished[name] - middles[name] for name in layer) / len(layer)
    for name in layer:
        middles[name] += shift


def _line(
    chain: Sequence[str],
    places: Mapping[str, Point],
    sizes: Mapping[str, Size],
    spans: Mapping[str, tuple[Point, Point]],
) -> tuple[Point, ...]:
    first, *between, last = chain
    start = (places[first][0] + sizes[first].width, places[first][1] + sizes[first].height / 2)
    end = (places[last][0], places[last][1] + sizes[last].height / 2)
    return (start, *(point for name in between for point in spans[name]), end)


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default

"""A graph as text and as SVG: every node is there, no boxes overlap, lines pass beside boxes, labels are escaped."""

from __future__ import annotations

import itertools
from typing import Any
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from executor.workflow.drawing import as_svg, as_text
from executor.workflow.graph import Graph, compile_workflow, load_yaml, parse_workflow
from executor.workflow.layout import Size, lay_out
from tests.unit.workflow.test_language import WHOLE

SVG = "{http://www.w3.org/2000/svg}"


def graph(text: str) -> Graph:
    (document,) = load_yaml(text)
    return compile_workflow(parse_workflow(document), b"\x01\x02" * 16)


def of(nodes: dict[str, Any]) -> Graph:
    return compile_workflow(parse_workflow({"workflow": "w", "nodes": nodes}), b"\x00" * 32)


def test_text_shows_the_whole_graph() -> None:
    expected = """\
orders  010201020102  queue webhook
on shop *
on emit order.*

○      list   x
│ ○    left   x  if false
├─┼─●  each   map  any  3 at once  any may fail  ↩ y
│ │ │  ┆ ○ charge  x
│ │ │  ┆ ● tags    map  10 at once
│ │ │  ┆   ┆ ○ tag  x
●╌┴╌┘  paid   wait.event  2 of 3
├×●    alarm  x  when failed
●─┘    tidy   x  when always

on error: y"""
    assert as_text(graph(WHOLE)) == expected


def test_wide_and_long_graphs_are_listed() -> None:
    wide: dict[str, Any] = {f"n{index}": {"uses": "x"} for index in range(60)}
    wide["end"] = {"uses": "x", "needs": list(wide)}
    lines = as_text(of(wide)).splitlines()
    assert lines[2] == "n0  x"
    assert lines[-1].startswith("end  x  needs n0, n1, ")
    chain = {f"n{index}": {"uses": "x", "needs": [f"n{index - 1}"] * (index > 0)} for index in range(1_000)}
    assert as_text(of(chain)).splitlines()[-1] == "n999  x  needs n998"
    ElementTree.fromstring(as_svg(of(chain)))


def test_svg_is_well_formed_and_says_what_it_shows() -> None:
    drawn = as_svg(graph(WHOLE))
    root = ElementTree.fromstring(drawn)
    assert root.get("role") == "img"
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert desc is not None
    assert title.text == "orders"
    assert "paid (wait.event) after list, left, each" in (desc.text or "")
    texts = [text.text for text in root.iter(f"{SVG}text")]
    for name in ("list", "left", "each", "charge", "tags", "tag", "paid", "alarm", "tidy", "on error", "shop *"):
        assert name in texts
    classes = [path.get("class") for path in root.iter(f"{SVG}path")]
    assert classes.count("any") == 4 + 1, "four lines of any, and the legend"
    assert classes.count("failed") == 1 + 1
    assert "currentColor" in drawn
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", ""), "nothing is fetched"


def test_labels_are_escaped() -> None:
    node = {"uses": "x", "if": """'<script>&"' != 'a\x07'"""}
    drawn = as_svg(of({"a": node}))
    assert "<script>" not in drawn
    texts = [text.text for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
    assert """if '<script>&"' != 'a\ufffd'""" in texts


LINKS = st.integers(1, 14).flatmap(
    lambda count: st.tuples(*(st.sets(st.integers(0, max(at - 1, 0)), max_size=3) for at in range(count)))
)


@given(LINKS, st.randoms(use_true_random=False))
def test_boxes_do_not_overlap_and_lines_pass_beside_them(links: tuple[set[int], ...], random: Any) -> None:
    needs = {f"n{at}": tuple(f"n{need}" for need in sorted(before) if at) for at, before in enumerate(links)}
    sizes = {name: Size(random.uniform(20, 300), random.uniform(20, 200)) for name in needs}
    made = lay_out(needs, sizes)
    boxes = {name: (x, y, x + sizes[name].width, y + sizes[name].height) for name, (x, y) in made.places.items()}
    for name, (left, top, right, bottom) in boxes.items():
        assert left >= -1e-6
        assert top >= -1e-6
        assert right <= made.size.width + 1e-6
        assert bottom <= made.size.height + 1e-6
        assert all(boxes[need][2] < left for need in needs[name])
        for other, (x0, y0, x1, y1) in boxes.items():
            assert other == name or x1 <= left or right <= x0 or y1 <= top or bottom <= y0
    assert set(made.lines) == {(need, name) for name in needs for need in needs[name]}
    for line in made.lines.values():
        for (x0, y0), (x1, y1) in itertools.pairwise(line):
            if y0 == y1:  # level: it passes the boxes of a layer
                assert not any(
                    x0 < right and left < x1 and top < y0 < bottom for left, top, right, bottom in boxes.values()
                )


@given(LINKS)
def test_every_node_has_its_line(links: tuple[set[int], ...]) -> None:
    nodes = {
        f"n{at}": {"uses": "x", "needs": [f"n{need}" for need in sorted(before) if at]}
        for at, before in enumerate(links)
    }
    made = of(nodes)
    lines = as_text(made).splitlines()[2:]
    assert [line.split()[-2] for line in lines] == list(made.level.order)
    for name, line in zip(made.level.order, lines, strict=True):
        gutter = line.rsplit(None, 2)[0]
        joins = sum(gutter.count(character) for character in "├┼┤└┴┘")
        place = made.level.order.index
        needs = made.nodes[name].needs
        closing = any(place(name) == max(map(place, made.nodes[need].dependents)) for need in needs)
        assert joins == len(needs) - closing, "the node stands at the end of one of its lanes"

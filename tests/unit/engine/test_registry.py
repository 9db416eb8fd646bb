"""A registry holds what its modules mark, and says everything that is wrong with them at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import pytest

from events.errors import ConfigError
from executor import NodeContext, node
from executor.engine import registry as registry_module
from executor.engine.registry import Registry, Runs, node_type
from tests.unit.engine import sample_nodes

SAMPLES = sample_nodes.__name__


def test_the_built_in_types_are_always_there() -> None:
    assert {"http.request", "transform", "webhook.deliver"} <= set(Registry.load())


def test_a_signature_becomes_inputs_that_refuse_unknown_fields() -> None:
    kind = Registry.load([SAMPLES])["sample.customer"]
    assert (kind.takes_context, kind.runs, kind.timeout, kind.pure) == (True, Runs.IN_LOOP, 10.0, False)
    assert kind.inputs.__struct_fields__ == ("email", "tags")
    with pytest.raises(msgspec.ValidationError, match="emial"):
        msgspec.convert({"emial": "a@b.example"}, kind.inputs)


def test_a_plain_def_runs_in_a_process() -> None:
    assert Registry.load([SAMPLES])["sample.spin"].runs is Runs.IN_PROCESS


def test_specs_say_what_a_graph_needs_to_know() -> None:
    spec = Registry.load([SAMPLES]).specs()["sample.give"]
    assert (spec.uses, spec.pure, spec.timeout, spec.retry) == ("sample.give", True, None, None)


def test_an_unknown_type_is_named_with_a_likely_one() -> None:
    with pytest.raises(ConfigError, match=r"http\.requets.*did you mean http\.request\?"):
        Registry.load()["http.requets"]


def test_an_entry_point_names_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        module = SAMPLES

    def points(group: str) -> list[Point]:
        return [Point()] if group == "headrace.nodes" else []

    monkeypatch.setattr(registry_module, "entry_points", points)
    assert "sample.give" in Registry.load()


def test_all_faults_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @node("sample.give")
    async def another() -> None: ...

    @node("sample.bare")
    async def bare(x) -> None: ...  # type: ignore[no-untyped-def]

    module = ModuleType("faulty_nodes")
    module.__dict__.update(another=another, bare=bare)
    monkeypatch.setitem(sys.modules, "faulty_nodes", module)
    with pytest.raises(ConfigError) as raised:
        Registry.load([SAMPLES, "no.such.module", "faulty_nodes"])
    missing, duplicate, signature = raised.value.faults
    assert "no.such.module: expected a module that can be imported" in missing
    assert "sample_nodes.give and " in duplicate
    assert "another" in duplicate
    assert "sample.bare" in signature
    assert "annotation" in signature


def test_a_module_imported_twice_is_no_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("again")
    module.__dict__["give"] = sample_nodes.give
    monkeypatch.setitem(sys.modules, "again", module)
    assert Registry.load([SAMPLES, "again"])["sample.give"].function is sample_nodes.give


def _star(*values: int) -> None: ...


def _keywords(**values: int) -> None: ...


def _late_context(value: int, context: NodeContext) -> None: ...


def _foreign(value: subprocess.Popen[bytes]) -> None: ...


def _dangling(value: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("function", [_star, _keywords, _late_context, _foreign, _dangling])
def test_a_signature_that_cannot_be_one_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        node_type(node("bad")(function))


def test_a_nested_synchronous_node_is_refused() -> None:
    @node("nested")
    def nested() -> None: ...

    with pytest.raises(ValueError, match="top of its module"):
        node_type(nested)


def test_importing_the_public_names_is_light() -> None:
    code = (
        "import sys; from executor import node, NodeContext, NodeError, Retry; "
        "heavy = {'litestar', 'dramatiq', 'sqlalchemy', 'asyncpg', 'httpx2', 'redis'} & set(sys.modules); "
        "print(*sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")

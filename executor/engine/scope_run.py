"""What the expressions of a run's nodes may name: at the top, and inside the items of a `map`.

    event   the delivery            input   what the run was given       nodes.<name>.output
    events  those of its batch, in the order in which they came
    run     id workflow started_at  item, index   inside a map           error   once the run fails

Outputs that are large are not part of a run's state. Where an expression names one, it is read from its event first
(`Scopes.of` waits for that), and kept while the run is held.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from executor.engine.store import RunStore
from executor.workflow.graph import Graph, GraphNode
from executor.workflow.paths import item_prefix, steps
from executor.workflow.state import Done, Items, NodeState, RunState


class Edited(Mapping[str, Any]):
    """A delivery with another body: that of a run that a person started again with what they edited."""

    def __init__(self, delivery: Mapping[str, Any], body: Any) -> None:
        self._delivery = delivery
        self._body = body

    def __getitem__(self, name: str) -> Any:
        return self._body if name == "body" else self._delivery[name]

    def __iter__(self) -> Any:
        return iter(self._delivery)

    def __len__(self) -> int:
        return len(self._delivery)


class Scopes:
    """The scopes of one run that is held.

    Args:
        state: the fold of what was noted; only read here.
        delivery: what `event` is.
        events: what `events` is: of a run that was made of a batch, all of it; default the delivery alone.
    """

    def __init__(
        self,
        id: UUID,
        graph: Graph,
        state: RunState,
        delivery: Mapping[str, Any],
        events: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._id = id
        self._graph = graph
        self._state = state
        self._items: dict[str, list[Any]] = {}
        self._outputs = _outputs(state.nodes)
        self.top: dict[str, Any] = {
            "event": delivery,
            "events": [dict(one) for one in events or (delivery,)] if graph.batched else [],
            "run": {"id": str(id), "workflow": state.workflow, "started_at": state.started_at},
            "input": state.input,
            "nodes": self._outputs,
        }

    def completed(self, path: str, output: Any) -> None:
        """From now on a node's output can be named. Those inside of items are looked up in the state."""
        if "[" not in path:
            self._outputs[path] = {"output": output}

    async def of(self, path: str, names: Iterable[str], store: RunStore) -> Mapping[str, Any]:
        """The scope of the node at `path`, with the outputs of the nodes that its expressions name."""
        if "[" not in path:
            if self._state.failing is not None:
                self.top["error"] = self._state.failing
            await self._fetch(names, self._state.nodes, self._outputs, store)
            return self.top
        scope: Mapping[str, Any] = self.top
        nodes, level, prefix = self._state.nodes, self._graph.level, ""
        names = {*names, *self._mentioned_by_maps(path)}
        await self._fetch(names, nodes, self._outputs, store)
        for map_name, index in steps(path)[0]:
            map_path = prefix + map_name
            node = level.nodes[map_name]
            assert node.body is not None
            items = self._list(map_path, node, scope)
            state = nodes[map_name]
            assert isinstance(state, Items)
            nodes = state.frames.get(index, {})
            outputs = _outputs(nodes)
            await self._fetch(names, nodes, outputs, store)
            scope = {**scope, "item": items[index], "index": index, "nodes": ChainMap(outputs, scope["nodes"])}
            level, prefix = node.body.level, f"{map_path}[{index}]."
        return scope

    def _mentioned_by_maps(self, path: str) -> Iterator[str]:
        """The nodes that the maps around a node name in their `items`, for which those are still to be listed."""
        level, prefix = self._graph.level, ""
        for map_name, index in steps(path)[0]:
            node = level.nodes[map_name]
            assert node.body is not None
            if prefix + map_name not in self._items:
                yield from node.mentions
            level, prefix = node.body.level, item_prefix(prefix + map_name, index)

    def _list(self, path: str, node: GraphNode, scope: Mapping[str, Any]) -> list[Any]:
        """The items of a map: what its expression says, which is the same each time."""
        found = self._items.get(path)
        if found is None:
            found = self._items[path] = node.inputs.render(scope)["items"]
        return found

    async def _fetch(
        self, names: Iterable[str], nodes: Mapping[str, NodeState], outputs: dict[str, Any], store: RunStore
    ) -> None:
        for name in names:
            if name not in outputs and isinstance(state := nodes.get(name), Done):
                outputs[name] = {"output": await store.output(self._id, state.version)}


def _outputs(nodes: Mapping[str, NodeState]) -> dict[str, Any]:
    """The outputs that are in the state."""
    return {
        name: {"output": state.output} for name, state in nodes.items() if isinstance(state, Done) and not state.large
    }

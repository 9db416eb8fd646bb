"""A run that begins in the middle: with what another run has come to before a node, and on its own from there.

The results are copied as facts, so that the new run's log says all of it and nothing has to be looked up elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from events.errors import HeadraceError
from executor.workflow.facts import NodeCompleted, NodeSkipped, RunFact
from executor.workflow.graph import Graph
from executor.workflow.wording import did_you_mean


def kept(facts: Sequence[RunFact], graph: Graph, node: str) -> list[NodeCompleted | NodeSkipped]:
    """The facts that a fork at `node` takes over, in the order of the log: completed and skipped nodes of the workflow
    itself, but for `node` and all behind it.

    Args:
        facts: the events of the run that is forked.
        graph: the version that the fork runs; nodes that it does not have are left out.

    Raises:
        HeadraceError: the graph has no such node.
    """
    if node not in graph.nodes:
        hint = did_you_mean(node, graph.nodes) or f"; there are {', '.join(graph.level.order)}"
        raise HeadraceError(f"workflow {graph.name}: expected one of its nodes, got {node!r}{hint}")
    again = {node}
    for name in graph.level.order:  # every node after those it needs
        if again.intersection(graph.nodes[name].needs):
            again.add(name)
    found: dict[str, NodeCompleted | NodeSkipped] = {}
    for fact in facts:
        if isinstance(fact, NodeCompleted | NodeSkipped) and fact.node in graph.nodes and fact.node not in again:
            found.pop(fact.node, None)
            found[fact.node] = fact
    return [fact for fact in found.values() if isinstance(fact, NodeCompleted) or not fact.failed]

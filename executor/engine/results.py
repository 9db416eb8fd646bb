"""What a map's items, a map and a run come to, once their nodes are done: the values that their facts hold."""

from __future__ import annotations

from typing import Any

import msgspec

from executor.engine.held import Held
from executor.engine.node import LARGE, OUTPUT_LIMIT
from executor.engine.store import RunStore
from executor.workflow.expressions import ExpressionError
from executor.workflow.facts import ItemEnded, NodeCompleted, NodeFailed, RunCompleted, RunFailed
from executor.workflow.graph import mentions
from executor.workflow.paths import item_prefix


async def item_ended(run: Held, fact: ItemEnded, store: RunStore) -> ItemEnded:
    """The fact with its item's output: what `collect` says, else what the item's last nodes came to."""
    if fact.error is not None:
        return fact
    body = run.graph.at(fact.node).body
    assert body is not None
    names = body.level.last if body.collect is None else tuple(mentions(body.collect.expressions))
    try:
        scope = await run.scopes.of(item_prefix(fact.node, fact.index) + "*", names, store)
        if body.collect is not None:
            return msgspec.structs.replace(fact, output=body.collect.render(scope))
        outputs = {name: scope["nodes"][name]["output"] if name in scope["nodes"] else None for name in names}
    except ExpressionError as error:
        return msgspec.structs.replace(fact, error=f"collect: {error}"[:2000])
    return msgspec.structs.replace(fact, output=outputs[names[0]] if len(names) == 1 else outputs)


async def map_completed(run: Held, path: str, store: RunStore) -> NodeCompleted | NodeFailed:
    """A map's output: those of its items, in the items' order; null for one that failed. All are read from the log."""
    outputs: dict[int, Any] = {}
    for fact in await store.ended_items(run.id, path):  # an item that was tried again ended twice: the last counts
        outputs[fact.index] = None if fact.error is not None else fact.output
    whole = [outputs.get(index) for index in range(len(outputs))]
    size = len(msgspec.json.encode(whole))
    if size > OUTPUT_LIMIT:
        text = f"map: expected outputs of at most {OUTPUT_LIMIT:,} bytes as JSON, got {size:,}; let `collect` keep less"
        return NodeFailed(path, 1, "error", text)
    return NodeCompleted(path, 1, whole, large=size if size > LARGE else 0)


async def run_completed(run: Held, store: RunStore) -> RunCompleted | RunFailed:
    """A run's end with its output, if the workflow says that it has one."""
    output = run.graph.output
    if output is None:
        return RunCompleted()
    try:
        scope = await run.scopes.of("*", mentions(output.expressions), store)
        return RunCompleted(output.render(scope))
    except ExpressionError as error:
        return RunFailed(f"output: {error}"[:2000])

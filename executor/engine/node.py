"""One attempt at one node: convert the inputs, call, classify what came of it.

`execute` always returns an Outcome, whatever the node does, with one exception: a cancellation of the
engine's own task passes through. An output is what JSON can carry: it is encoded once (which measures it) and
decoded again, so that the value in memory is the one a later fold reads from the log; what the node does to
its objects afterwards changes nothing.

A node that swallows cancellation cannot hold the engine: it runs in a task of its own, is cancelled at its
timeout, has `GRACE` seconds to clean up, and is then left behind with a warning, while the engine goes on
with `Failed("timeout")`; what it returns later goes nowhere. A coroutine that blocks or computes without awaiting
stops the whole loop: the watchdog finds it by `EXECUTING`, and such work belongs into a plain `def` node.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, assert_never

import msgspec
import structlog

from executor.engine.context import NodeContext
from executor.engine.registry import NodeType, Runs
from executor.workflow.outcomes import Completed, Deferred, Failed, NodeDeferral, NodeError, Outcome

if TYPE_CHECKING:
    from executor.engine.processes import KillablePool

GRACE = 5.0
"""Seconds that a cancelled node has to clean up before it is left behind."""
OUTPUT_LIMIT = 5 << 20
"""Bytes of JSON that an output may have."""
LARGE = 64 << 10
"""Bytes of JSON above which an output stays in its event, and out of the run's state and snapshots."""
MESSAGE_LIMIT = 2_000
"""Characters of a failure's message that are kept."""
EXECUTING: ContextVar[tuple[str, NodeContext] | None] = ContextVar("headrace_executing", default=None)
"""In the tasks of a node, also in those that it starts: its type's name and its attempt."""


async def execute(  # noqa: PLR0917 - one attempt, in one hot place
    kind: NodeType,
    context: NodeContext,
    inputs: Any,
    timeout: float,  # noqa: ASYNC109 - the node's, for either way to run
    pool: KillablePool,
    flying: set[asyncio.Task[Any]] | None = None,
) -> Outcome:
    """What comes of one attempt.

    Args:
        kind: the node's type.
        context: this attempt's context.
        inputs: the rendered `with` values (a dict of JSON-like values).
        timeout: seconds; for a synchronous node they start when a process is free.
        pool: runs the synchronous nodes.
        flying: holds the call's task while it runs. Who cancels that task ends this attempt and nothing else.
    """
    try:
        values = msgspec.convert(inputs, kind.inputs)
    except msgspec.ValidationError as error:
        return Failed("input", f"{kind.uses}: {error}"[:MESSAGE_LIMIT])
    limit: float | None
    match kind.runs:
        case Runs.IN_LOOP:
            call, limit = _call(kind, context, values), timeout
        case Runs.IN_PROCESS:
            call, limit = pool.run(kind, context, inputs, timeout), None  # the pool kills what is late
        case _:
            assert_never(kind.runs)
    task = asyncio.get_running_loop().create_task(call)
    if flying is None:
        return await _result(task, kind, context, limit)
    flying.add(task)
    try:
        return await _result(task, kind, context, limit)
    finally:
        flying.discard(task)


async def _result(task: asyncio.Task[Outcome], kind: NodeType, context: NodeContext, seconds: float | None) -> Outcome:
    try:
        await asyncio.sleep(0)  # a node that waits for nothing is done after this, and costs no timer
        if not task.done():
            await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        await _stop(task, kind, context)
        raise
    if not task.done():
        await _stop(task, kind, context)
        return Failed("timeout", f"{kind.uses}: expected an end within {seconds:g} s, got none")
    if task.cancelled():
        return Failed("error", f"{kind.uses}: the call was cancelled, by itself or with its run")
    return task.result()


async def _call(kind: NodeType, context: NodeContext, values: msgspec.Struct) -> Outcome:
    EXECUTING.set((kind.uses, context))  # this task's own context: there is nothing to take back
    arguments = msgspec.structs.asdict(values)
    try:
        if kind.takes_context:
            returned = await kind.function(context, **arguments)
        else:
            returned = await kind.function(**arguments)
    except NodeDeferral as deferral:
        return Deferred(_clean(str(deferral)), deferral.seconds)
    except (Exception, SystemExit) as error:  # an exit, let through, would end the worker's loop
        return failure(error)
    return completed(kind.uses, returned)


async def _stop(task: asyncio.Task[Outcome], kind: NodeType, context: NodeContext) -> None:
    task.cancel()
    await asyncio.wait((task,), timeout=GRACE)
    if not task.done():
        structlog.get_logger().warning(
            "node ignores its cancellation and is left behind",
            uses=kind.uses,
            run_id=str(context.run_id),
            node=context.node,
        )


def completed(uses: str, returned: Any) -> Outcome:
    """`Completed` with the value as JSON carries it, or `Failed` when it cannot."""
    encoded = encode_output(uses, returned)
    return encoded if isinstance(encoded, Failed) else from_json(encoded)


def from_json(encoded: bytes | memoryview) -> Completed:
    """`Completed` with what was encoded."""
    return Completed(msgspec.json.decode(encoded), len(encoded) if len(encoded) > LARGE else 0)


def encode_output(uses: str, returned: Any) -> bytes | Failed:
    """An output as JSON; `Failed("error")` when it is not JSON-like or too large."""
    try:
        encoded = msgspec.json.encode(returned)
    except (TypeError, ValueError, RecursionError) as error:
        got = type(returned).__qualname__
        return Failed("error", _clean(f"{uses} returned a {got}, expected JSON-like: {error}"))
    if len(encoded) > OUTPUT_LIMIT:
        return Failed("error", f"{uses} returned {len(encoded):,} bytes of JSON, expected at most {OUTPUT_LIMIT:,}")
    return encoded


def failure(error: BaseException) -> Failed:
    """The outcome that an exception stands for. A group of one (a TaskGroup's) stands for what is in it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    match error:
        case NodeError():
            return Failed(error.kind, _clean(str(error)), error.retry_after)
        case NodeDeferral():  # of a node in a process: it counts
            return Failed("deferred", _clean(str(error)), error.seconds)
        case TimeoutError():
            return Failed("timeout", _describe(error))
        case ConnectionError():
            return Failed("connection", _describe(error))
        case _:
            return Failed("error", _describe(error))


def _describe(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a foreign __str__ may do anything
        text = "(its text cannot be read)"
    name = type(error).__name__
    return _clean(f"{name}: {text}" if text else name)


def _clean(message: str) -> str:
    """Capped, and without lone surrogates or NUL, which no store takes."""
    return message[:MESSAGE_LIMIT].encode("utf-8", "replace").decode().replace("\0", "\ufffd")

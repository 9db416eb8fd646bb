"""Nodes for tests: they leave a line for every call in a file, which no crash of theirs can take back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from pathlib import Path

from executor import NodeContext, NodeError, node


def note(path: str, *words: object) -> None:
    """One line, appended in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


@node("test.record")
async def record(context: NodeContext, path: str) -> str:
    """Notes `run node attempt key`; answers the key."""
    note(path, context.run_id, context.node, context.attempt, context.idempotency_key)
    return context.idempotency_key


@node("test.flaky")
async def flaky(context: NodeContext, path: str, failures: int) -> int:
    """Fails its first `failures` attempts; answers the attempt that went well."""
    note(path, context.run_id, context.node, context.attempt, context.idempotency_key)
    if context.attempt <= failures:
        raise NodeError("error", f"attempt {context.attempt} of a node that fails {failures} times")
    return context.attempt


@node("test.deadly")
async def deadly(context: NodeContext, path: str, deadly: bool) -> None:
    """Kills its worker, if it is to be deadly."""
    note(path, context.run_id, context.node, context.attempt, context.idempotency_key)
    if deadly:
        os.kill(os.getpid(), signal.SIGKILL)


@node("test.until_file")
async def until_file(context: NodeContext, path: str, file: str) -> None:
    """Waits until a file exists."""
    note(path, context.run_id, context.node, context.attempt, context.idempotency_key)
    while not Path(file).exists():
        await asyncio.sleep(0.02)


@node("test.span")
async def span(context: NodeContext, path: str, seconds: float) -> None:
    """Notes `begin run pid time` and, later, `end run pid time` (Unix seconds)."""
    note(path, "begin", context.run_id, os.getpid(), time.time())
    await asyncio.sleep(seconds)
    note(path, "end", context.run_id, os.getpid(), time.time())


@node("test.gated")
async def gated(file: str) -> None:
    """Fails until a file exists."""
    if not Path(file).exists():
        raise NodeError("error", f"{file} is not there")


@node("test.spin", timeout=0.5)
def spin(seconds: float) -> None:
    """Computes for ever, in a process that can be killed."""
    while True:
        seconds += 1


@node("test.block", timeout=900)
async def block(context: NodeContext, path: str, file: str, seconds: float) -> None:
    """Waits until a file exists, and then blocks the event loop; for 0 seconds: only waits."""
    note(path, context.run_id, context.node, context.attempt, context.idempotency_key)
    while not Path(file).exists():
        await asyncio.sleep(0.02)
    await asyncio.create_task(_sleep(seconds))  # in a task of the node's own making


async def _sleep(seconds: float) -> None:
    time.sleep(seconds)


@node("test.stubborn", timeout=0.2)
async def stubborn(context: NodeContext, path: str, file: str) -> str:
    """Swallows every cancellation until a file exists, and answers late; notes its begin and its end."""
    note(path, context.run_id, context.node, context.attempt, context.idempotency_key)
    while not Path(file).exists():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)
    note(path, context.run_id, "late", context.attempt, context.idempotency_key)
    return "late"


@node("test.backtrack", timeout=900)
async def backtrack(context: NodeContext, path: str) -> bool:
    """Holds the interpreter's lock for ever."""
    note(path, context.run_id, context.node, context.attempt, context.idempotency_key)
    return re.match(r"(a+)+$", "a" * 64 + "b") is not None

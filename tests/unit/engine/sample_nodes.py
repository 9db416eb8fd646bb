"""Node functions that the tests of this directory run, here and in processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from executor import NodeContext, NodeError, node


class Customer(msgspec.Struct):
    name: str
    tags: tuple[str, ...] = ()


@node("sample.customer", timeout=10.0)
async def customer(context: NodeContext, email: str, tags: list[str] = []) -> Customer:  # noqa: B006
    tags.append("seen")
    return Customer(email.partition("@")[0], tuple(tags))


@node("sample.give", pure=True)
async def give(value: Any) -> Any:
    return value


@node("sample.object")
async def give_object() -> Any:
    return object()


@node("sample.raise")
async def raise_(kind: str) -> None:
    match kind:
        case "node":
            raise NodeError("quota", "no more today", retry_after=60.0)
        case "timeout":
            raise TimeoutError("the other side")
        case "connection":
            raise ConnectionResetError("by peer")
        case "exit":
            sys.exit(3)
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(raise_("node"))
        case "cancel":
            raise asyncio.CancelledError
        case _:
            raise ValueError("x" * 5_000)


@node("sample.sync")
def sync(context: NodeContext, value: Any) -> dict[str, Any]:
    print("not a frame")
    return {
        "value": value,
        "pid": os.getpid(),
        "key": context.idempotency_key,
        "attempt": context.attempt,
        "deadline": context.deadline,
    }


@node("sample.sync_raise")
def sync_raise(kind: str) -> None:
    match kind:
        case "node":
            raise NodeError("quota", "no more today", retry_after=60.0)
        case "exit":
            sys.exit(0)
        case _:
            raise _Unpicklable(1, 2)


class _Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("neither survives pickling")


@node("sample.spin")
def spin(started: str = "", *, deaf: bool = False) -> None:
    if deaf:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    if started:
        Path(started).write_text(str(os.getpid()))
    while True:
        pass


@node("sample.die")
def die(how: str) -> None:
    match how:
        case "exit_0":
            os._exit(0)
        case "exit_7":
            os._exit(7)
        case _:
            os.kill(os.getpid(), signal.SIGKILL)


@node("sample.hold")
def hold(path: str) -> str:
    """Says that it runs, and returns when it may."""
    Path(path + ".running").touch()
    while not Path(path).exists():
        time.sleep(0.005)
    return "held"


@node("sample.signals")
def signals() -> dict[str, bool]:
    os.kill(os.getpid(), signal.SIGINT)
    return {"ignores_sigint": signal.getsignal(signal.SIGINT) is signal.SIG_IGN}

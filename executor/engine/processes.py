"""Processes that run synchronous nodes and can be killed, so that `while True: pass` ends at its timeout.

Each process has its own pair of pipes and runs one call at a time. A call waits for a free process first; its
timeout starts after that. A call that runs out of time or is cancelled has its process killed, with
everything it started; a process that dies takes its own call with it (`Failed("process")`) and no other; the
next call gets a new one.

Why not pebble's ProcessPool: its processes share one pipe and one lock. Seen with 5.2: an idle process that
dies leaves the pool broken for good, `os._exit(0)` is noticed only at the timeout, and timeouts are looked at
ten times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

import msgspec

from executor.engine.child import Call
from executor.engine.context import NodeContext
from executor.engine.node import OUTPUT_LIMIT, from_json
from executor.engine.registry import NodeType
from executor.workflow.outcomes import Failed, Outcome

_START_TIMEOUT = 60.0
_REAP_TIMEOUT = 5.0
_REAP_LOOK = 0.01
_BOOT = (
    "import sys; parent = int(sys.argv[1]); sys.path[:] = sys.argv[2:]; "
    "from executor.engine.child import serve; serve(parent)"
)


class _StartError(Exception):
    """A process did not come up; the text says why."""


class _Child:
    """One process and its two pipes."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    @classmethod
    async def spawn(cls) -> _Child:
        """Start one. The kernel ties it to this thread (the loop's), which lives as long as the worker."""
        arguments = [sys.executable, "-c", _BOOT, str(os.getpid()), *sys.path]
        return cls(await asyncio.create_subprocess_exec(*arguments, stdin=PIPE, stdout=PIPE, start_new_session=True))

    async def ask(self, payload: bytes) -> bytes:
        """One frame there and one back. Raises EOFError or ConnectionError when the process is gone."""
        self._stdin.write(len(payload).to_bytes(4, "big") + payload)
        await self._stdin.drain()
        length = int.from_bytes(await self._stdout.readexactly(4), "big")
        if length > OUTPUT_LIMIT + 1:
            raise EOFError("a frame that no child sends")
        return await self._stdout.readexactly(length)

    def usable(self) -> bool:
        return self.process.returncode is None and not self._stdout.at_eof()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it is gone already
            os.killpg(self.process.pid, signal.SIGKILL)
        self._stdin.close()

    async def reaped(self) -> int | None:
        """Its exit code; None when it cannot be had in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _REAP_TIMEOUT)
        return self.process.returncode


class KillablePool:
    """Up to `max_workers` processes, started when first needed and then kept.

    Args:
        max_workers: how many calls run at once; more wait their turn, first come first served.
        modules: what each process imports at its start. A node's own module is imported with its first call
            anyway.
    """

    def __init__(self, max_workers: int, modules: Sequence[str] = ()) -> None:
        self._turns = asyncio.Semaphore(max_workers)
        self._modules = list(modules)
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []
        self._reaping: set[asyncio.Task[int | None]] = set()

    async def run(self, kind: NodeType, context: NodeContext, inputs: Any, timeout: float) -> Outcome:  # noqa: ASYNC109
        """What comes of calling the node in a process. `timeout`: seconds from when a process is free."""
        try:
            raw = msgspec.Raw(msgspec.msgpack.encode(inputs))
        except (TypeError, ValueError, OverflowError) as error:
            return Failed("input", f"{kind.uses}: expected JSON-like inputs, got: {error}")
        clock = asyncio.get_running_loop().time
        asked = clock()
        async with self._turns:
            try:
                child = await self._free_child()
            except _StartError as error:
                return Failed("process", f"{kind.uses}: expected a process to start, got: {error}")
            call = Call(kind.module, kind.qualname, context.fields(waited=clock() - asked), raw)
            payload = msgspec.msgpack.encode(call)
            try:
                async with asyncio.timeout(timeout):
                    answer = await child.ask(payload)
            except TimeoutError:
                self._bury(child)
                return Failed("timeout", f"{kind.uses}: expected an end within {timeout:g} s; its process was killed")
            except (EOFError, ConnectionError):
                return Failed("process", f"{kind.uses}: its process died: {_epitaph(await self._bury(child))}")
            except BaseException:  # cancelled: nobody waits for the answer any more
                self._bury(child)
                raise
            self._idle.append(child)
            return _outcome(answer)

    async def aclose(self) -> None:
        """Kill all processes and wait until the system has taken them back."""
        self._idle.clear()
        for child in list(self._children):
            self._bury(child)
        await asyncio.gather(*self._reaping)

    def kill_now(self) -> None:
        """Kill all processes from another thread, because the loop is stuck, and collect what is left of them."""
        pids = [child.process.pid for child in list(self._children) if child.process.returncode is None]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        deadline = time.monotonic() + _REAP_TIMEOUT
        for pid in pids:
            with contextlib.suppress(ChildProcessError):  # the loop was quicker
                while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                    time.sleep(_REAP_LOOK)

    async def _free_child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.usable():
                return child
            self._bury(child)  # died while idle
        return await self._start()

    async def _start(self) -> _Child:
        child = await _Child.spawn()
        self._children.add(child)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                complaint = await child.ask(msgspec.msgpack.encode(self._modules))
            if complaint:
                raise _StartError(complaint.decode())
        except TimeoutError:
            self._bury(child)
            raise _StartError(f"no answer within {_START_TIMEOUT:g} s") from None
        except (EOFError, ConnectionError):
            raise _StartError(_epitaph(await self._bury(child))) from None
        except BaseException:
            self._bury(child)
            raise
        return child

    def _bury(self, child: _Child) -> asyncio.Task[int | None]:
        """Kill it now, and let it be reaped beside us."""
        self._children.discard(child)
        child.kill()
        task = asyncio.get_running_loop().create_task(child.reaped())
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)
        return task


def _outcome(answer: bytes) -> Outcome:
    if answer[:1] == b"+":
        return from_json(memoryview(answer)[1:])
    return msgspec.msgpack.decode(memoryview(answer)[1:], type=Failed)


def _epitaph(code: int | None) -> str:
    if code is None:
        return "no exit code"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"

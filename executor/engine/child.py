"""The inside of one process of the pool: reads calls from its parent, runs them one at a time, answers.

Frames are a 4-byte big-endian length and a payload. The first frame is the list of modules to import; the
answer is empty, or says what failed. Every further frame is a `Call`; the answer is `+` and the output as
JSON, or `-` and a `Failed` as msgpack. Standard input and output belong to the frames and are taken away from
the node: what it prints goes to standard error.

The process ends with its parent: by the kernel's parent-death signal on Linux, which stops even C code that
holds the interpreter, and everywhere by a thread that sees the pipe close. It ignores SIGINT: Ctrl-C is for
the worker, which drains.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import select
import signal
import sys
import threading
from functools import cache
from operator import attrgetter
from typing import BinaryIO

import msgspec

from executor.engine.context import ContextFields, NodeContext
from executor.engine.node import encode_output, failure
from executor.engine.registry import NodeType, node_type
from executor.workflow.outcomes import Failed

_PR_SET_PDEATHSIG = 1


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call: which function, with what."""

    module: str
    qualname: str
    context: ContextFields
    inputs: msgspec.Raw


def serve(parent: int) -> None:
    """Serve calls until the pipe closes. `parent` is the process id that our parent has to have."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reader, writer = _take_pipes()
    _end_with(parent, reader.fileno())
    calls = msgspec.msgpack.Decoder(Call)
    try:
        for module in msgspec.msgpack.decode(_read(reader), type=list[str]):
            importlib.import_module(module)
    except BaseException as error:  # reported, so that the parent can say why no process starts
        _write(writer, failure(error).message.encode())
        return
    _write(writer, b"")
    while True:
        _write(writer, _answer(calls.decode(_read(reader))))


def _answer(call: Call) -> bytes:
    try:
        kind = _find(call.module, call.qualname)
        arguments = msgspec.structs.asdict(msgspec.msgpack.decode(call.inputs, type=kind.inputs))
        if kind.takes_context:
            returned = kind.function(NodeContext.of(call.context), **arguments)
        else:
            returned = kind.function(**arguments)
        encoded = encode_output(kind.uses, returned)
    except BaseException as error:  # sys.exit() in a node fails the node
        encoded = failure(error)
    return b"-" + msgspec.msgpack.encode(encoded) if isinstance(encoded, Failed) else b"+" + encoded


@cache
def _find(module: str, qualname: str) -> NodeType:
    return node_type(attrgetter(qualname)(importlib.import_module(module)))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return reader, writer


def _end_with(parent: int, pipe: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        os._exit(1)
    threading.Thread(target=_watch, args=(pipe,), daemon=True, name="headrace-parent-watch").start()


def _watch(pipe: int) -> None:
    poll = select.poll()
    poll.register(pipe, 0)  # hang-ups only: the main thread reads
    poll.poll()
    os.killpg(0, signal.SIGKILL)  # with whatever the node has started


def _read(reader: BinaryIO) -> bytes:
    header = reader.read(4)
    return reader.read(int.from_bytes(header, "big")) if header else sys.exit(0)


def _write(writer: BinaryIO, payload: bytes) -> None:
    writer.write(len(payload).to_bytes(4, "big"))
    writer.write(payload)
    writer.flush()

"""The streamed answer of a language model, joined to what an answer in one piece would be.

The protocol: server-sent events, each a `chat.completion.chunk` whose first choice has a `delta`; the last but one may
hold the usage, and `[DONE]` ends it. Pieces of a tool call belong together by their `index`.

A stream that ends before the model has is a failure of the connection, and worth another attempt.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec

from executor.engine.outbound import Streaming
from executor.engine.sse import EventReader
from executor.workflow.outcomes import NodeError

MOST_CALLS = 128
"""Tool calls in one answer."""


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    delta: dict[str, Any] = {}
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: dict[str, Any] | None = None
    model: str | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_Chunk)


class StreamError(Exception):
    """The other side says in its stream that it failed. `body`: what it said, as an answer's body would be."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        super().__init__(body[:500].decode("utf-8", "replace"))


async def joined(answer: Streaming, where: str, secret: bytes) -> dict[str, Any]:
    """The completion that the stream makes up: `choices`, `usage`, `model`.

    Args:
        where: the address, for messages.
        secret: taken out of everything that came, if there is any.

    Raises:
        NodeError: `connection` (it was cut), `answer` (it is not what the protocol says), or what the client raises.
        StreamError: it holds an error.
    """
    reader = EventReader()
    pieces = _Pieces()
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            try:
                events = reader.feed(chunk)
            except ValueError as error:
                raise NodeError("answer", f"POST {where}: {error}") from None
            for data in events:
                if data.strip() == b"[DONE]":
                    return pieces.whole()
                pieces.add(data.replace(secret, b"[key]") if secret else data, where)
    if pieces.finish_reason is None:
        raise NodeError("connection", f"POST {where}: expected the whole of the answer, got a part: the stream was cut")
    return pieces.whole()


class _Pieces:
    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, tuple[dict[str, Any], list[str]]] = {}
        self._others: dict[str, Any] = {"role": "assistant"}
        self._usage: dict[str, Any] | None = None
        self._model: str | None = None

    def add(self, data: bytes, where: str) -> None:
        try:
            chunk = _DECODER.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise NodeError("answer", f"POST {where}: expected a chat completion chunk, got: {error}") from None
        if chunk.error is not None:
            raise StreamError(data)
        self._usage = chunk.usage or self._usage
        self._model = chunk.model or self._model
        for choice in chunk.choices:
            if choice.index == 0:
                self.finish_reason = choice.finish_reason or self.finish_reason
                self._delta(choice.delta, where)

    def _delta(self, delta: dict[str, Any], where: str) -> None:
        for name, value in delta.items():
            match name, value:
                case "tool_calls", list():
                    for call in value:
                        self._call(call, where)
                case "role", str():
                    self._others["role"] = value
                case _, str():
                    self._texts.setdefault(name, []).append(value)
                case _, None:
                    pass
                case _:
                    self._others[name] = value

    def _call(self, call: Any, where: str) -> None:
        match call:
            case {"index": int(index)} if 0 <= index < MOST_CALLS:
                pass
            case _:
                raise NodeError("answer", f"POST {where}: expected at most {MOST_CALLS} tool calls with their index")
        known, arguments = self._calls.setdefault(index, ({"type": "function", "function": {}}, []))
        known |= {
            name: value for name, value in call.items() if name not in ("index", "function") and value is not None
        }
        match call.get("function"):
            case dict() as function:
                if isinstance(name := function.get("name"), str):
                    known["function"]["name"] = name
                if isinstance(more := function.get("arguments"), str):
                    arguments.append(more)

    def whole(self) -> dict[str, Any]:
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        message: dict[str, Any] = {"content": None, **self._others, **texts}
        if self._calls:
            message["tool_calls"] = [
                {**known, "function": {**known["function"], "arguments": "".join(arguments)}}
                for _, (known, arguments) in sorted(self._calls.items())
            ]
        return {
            "choices": [{"message": message, "finish_reason": self.finish_reason}],
            "usage": self._usage,
            "model": self._model,
        }

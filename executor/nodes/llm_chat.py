"""`llm.chat`: one answer of a language model, from any endpoint that speaks the protocol of OpenAI's chat completions.

    uses: llm.chat
    with: {endpoint: openai, model: gpt-4o-mini, prompt: "Summarize: ${{ event.body.text }}"}

`endpoint` names one that was applied: its URL is what stands before `/chat/completions`, its secret the API key, which
is in no history and no message. `base_url` is for servers without a key.

Output: `{text, message, tool_calls, finish_reason, usage: {input_tokens, output_tokens}, model}`, and `cost` where
`price` was given. A 429 with a `Retry-After` puts the node off and is no attempt. With `stream: true` the answer comes
in pieces and is joined; what differs is that a model that falls silent is noticed after `idle` seconds, so that the
node's timeout (120 s unless said) may be long. A stream that is cut is a failure of the kind `connection`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from executor.engine.answers import refusal, retry_after
from executor.engine.context import Endpoint, NodeContext
from executor.engine.outbound import Response, shown
from executor.engine.registry import node
from executor.nodes.llm_stream import StreamError, joined
from executor.workflow.backoff import Backoff
from executor.workflow.graph import Retry
from executor.workflow.outcomes import NodeDeferral, NodeError

_RETRY = Retry(max_attempts=5, backoff=Backoff(), on=("timeout", "connection", "http_5xx", "http_429", "stream"))
_PATH = "/chat/completions"
_KINDS = {"context_length_exceeded": "context_length", "insufficient_quota": "quota"}
"""Codes of errors that no other attempt mends, whatever their status."""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens cost, in whatever unit `cost` is to be in."""

    input: float
    output: float


class _Choice(msgspec.Struct, frozen=True):
    message: dict[str, Any]
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage | None = None
    model: str | None = None


@node("llm.chat", timeout=120.0, retry=_RETRY)
async def chat(
    context: NodeContext,
    *,
    model: str,
    endpoint: str | None = None,
    base_url: str | None = None,
    prompt: str | None = None,
    system: str | None = None,
    messages: list[dict[str, Any]] | None = None,
    tools: list[dict[str, Any]] | None = None,
    tool_choice: Any = None,
    response_format: dict[str, Any] | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    options: dict[str, Any] = {},  # noqa: B006 - every call gets a copy
    price: Price | None = None,
    stream: bool = False,
    idle: float = 60.0,
) -> dict[str, Any]:
    """Ask, and give back the first choice.

    Args:
        prompt: what the user says, with `system` before it; or all `messages` in the protocol's form.
        options: whatever else the endpoint takes, `seed` for example; `stream` and `n` are not among it.
        price: per million tokens; the output then has the call's `cost`.
        stream: have the answer come in pieces. The output is the same.
        idle: of a stream, the seconds without a byte after which it has failed (`timeout`).

    Raises:
        NodeDeferral: status 429 with a `Retry-After`.
        NodeError: `context_length`, `quota`, `http_429`, `http_5xx`, `http_4xx`, `http_3xx`; `stream` (an
            error in the stream); `answer` (not what the protocol says); `input`, or what the client raises.
    """
    if (prompt is None) == (messages is None):
        raise NodeError(
            "input", f"llm.chat: expected prompt or messages, got {'neither' if prompt is None else 'both'}"
        )
    if messages is not None and system is not None:
        raise NodeError("input", "llm.chat: expected system only with prompt, got it with messages")
    if refused := {"stream", "n"} & set(options):
        raise NodeError("input", f"llm.chat: options: expected none that changes the answer's form, got {refused}")
    said = messages if messages is not None else _said(prompt, system)
    asked = {
        "tools": tools,
        "tool_choice": tool_choice,
        "response_format": response_format,
        "temperature": temperature,
        "max_tokens": max_tokens,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    target = await _target(context, endpoint, base_url)
    url = _url(target.url)
    headers = _headers(context, target.secret)
    body = {**options, **given, "model": model, "messages": said}
    what = f"POST {shown(url)}"
    if not stream:
        response = _without(await context.http.request("POST", url, headers=headers, json=body), target.secret)
        return _output(what, _accepted(what, response), model, price)
    body = {"stream_options": {"include_usage": True}, **body, "stream": True}
    async with context.http.stream("POST", url, headers=headers, json=body, idle=idle) as answer:
        if answer.status == 200 and answer.headers.get("content-type", "").startswith("text/event-stream"):
            try:
                whole = await joined(answer, shown(url), target.secret)
            except StreamError as error:
                raise NodeError(_KINDS.get(_code(error.body), "stream"), f"{what}: got an error: {error}") from None
            return _output(what, msgspec.json.encode(whole), model, price)
        response = _without(await answer.read(), target.secret)  # refused, or not streamed
    return _output(what, _accepted(what, response), model, price)


def _said(prompt: str | None, system: str | None) -> list[dict[str, Any]]:
    first = [] if system is None else [{"role": "system", "content": system}]
    return [*first, {"role": "user", "content": prompt}]


async def _target(context: NodeContext, endpoint: str | None, base_url: str | None) -> Endpoint:
    match endpoint, base_url:
        case str(), None:
            return await context.endpoint(endpoint)
        case None, str():
            return Endpoint(base_url)
        case _:
            raise NodeError(
                "input", f"llm.chat: expected endpoint or base_url, got {'both' if endpoint else 'neither'}"
            )


def _url(base: str) -> str:
    """The address of the chat completions: `base` with their path, before a query that it may have."""
    path, mark, query = base.partition("?")
    path = path.rstrip("/")
    return (path if path.endswith(_PATH) else path + _PATH) + mark + query


def _headers(context: NodeContext, secret: bytes) -> dict[str, str]:
    headers = {"idempotency-key": context.idempotency_key}
    if context.traceparent is not None:
        headers["traceparent"] = context.traceparent
    if secret:
        if not all(0x21 <= byte <= 0x7E for byte in secret):  # the client's error would show it
            raise NodeError("input", "llm.chat: the endpoint's secret: expected an API key of ASCII without spaces")
        headers["authorization"] = f"Bearer {secret.decode('ascii')}"
    return headers


def _without(response: Response, secret: bytes) -> Response:
    """The answer without the key, which some servers repeat when they refuse it."""
    if not secret:
        return response
    return msgspec.structs.replace(response, body=response.body.replace(secret, b"[key]"))


def _accepted(what: str, response: Response) -> bytes:
    """The body of an answer that is none of a failure."""
    if response.status != 200:
        raise _refused(what, response)
    return response.body


def _refused(what: str, response: Response) -> NodeError | NodeDeferral:
    error = refusal(what, response)
    if kind := _KINDS.get(_code(response.body)):
        return NodeError(kind, str(error))
    wait = retry_after(response.headers)
    if response.status == 429 and wait is not None:
        return NodeDeferral(str(error), wait)
    return error


def _code(body: bytes) -> str:
    try:
        match msgspec.json.decode(body):
            case {"error": {"code": str(code)}}:
                return code
    except (msgspec.DecodeError, RecursionError):
        pass
    return ""


def _output(what: str, body: bytes, model: str, price: Price | None) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NodeError("answer", f"{what}: expected a chat completion, got: {error}") from None
    if not answer.choices:
        raise NodeError("answer", f"{what}: expected a choice, got none")
    choice, usage = answer.choices[0], answer.usage or _Usage()
    content = choice.message.get("content")
    output: dict[str, Any] = {
        "text": content if isinstance(content, str) else "",
        "message": choice.message,
        "tool_calls": choice.message.get("tool_calls") or [],
        "finish_reason": choice.finish_reason,
        "usage": {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens},
        "model": answer.model or model,
    }
    if price is not None:
        cost = usage.prompt_tokens * price.input + usage.completion_tokens * price.output
        output["cost"] = round(cost / 1e6, 9)
    return output

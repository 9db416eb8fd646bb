"""`search.web`: a search by any HTTP endpoint that answers with JSON.

    uses: search.web
    with: {endpoint: search, query: "${{ event.body.question }}", results: /web/results, snippet: /description}

`endpoint` names one that was applied: its URL is asked by GET, its secret goes into the header `key_header`. JSON
pointers (RFC 6901) say where the list of results is in the answer, and `title`, `url` and `snippet` in each result.

Output: `{results: [{title, url, snippet}]}`; a text that is not there is empty, a result without a URL is left out.
With `raw: true` the whole answer is there too. A 429 with a `Retry-After` puts the node off and is no attempt.
"""

from __future__ import annotations

from typing import Any

import msgspec

from executor.engine.answers import refusal, retry_after
from executor.engine.context import NodeContext
from executor.engine.outbound import shown
from executor.engine.registry import node
from executor.workflow.backoff import Backoff
from executor.workflow.graph import Retry
from executor.workflow.outcomes import NodeDeferral, NodeError

_RETRY = Retry(max_attempts=5, backoff=Backoff(), on=("timeout", "connection", "http_5xx", "http_429"))
_MOST = 100


@node("search.web", timeout=30.0, retry=_RETRY)
async def search(
    context: NodeContext,
    *,
    endpoint: str,
    query: str,
    parameter: str = "q",
    parameters: dict[str, Any] = {},  # noqa: B006 - every call gets a copy
    key_header: str = "authorization",
    key_prefix: str = "Bearer ",
    results: str = "/results",
    title: str = "/title",
    url: str = "/url",
    snippet: str = "/snippet",
    count: int = 10,
    raw: bool = False,
) -> dict[str, Any]:
    """Ask, and give back the first results.

    Args:
        parameter: the name of the query's parameter.
        parameters: others that go along.
        key_prefix: stands before the secret in `key_header`; empty for most headers but Authorization.
        count: how many results at most, 1 to 100.

    Raises:
        NodeDeferral: status 429 with a `Retry-After`.
        NodeError: `http_429`, `http_5xx`, `http_4xx`, `http_3xx`; `answer` (no JSON, or no list at `results`); `input`,
            or what the client raises.
    """
    if not 1 <= count <= _MOST:
        raise NodeError("input", f"search.web: count: expected 1 to {_MOST}, got {count}")
    for name, pointer in (("results", results), ("title", title), ("url", url), ("snippet", snippet)):
        if pointer and not pointer.startswith("/"):
            raise NodeError("input", f"search.web: {name}: expected a JSON pointer such as /items, got {pointer!r}")
    target = await context.endpoint(endpoint)
    headers = {"accept": "application/json"}
    if target.secret:
        if not all(0x21 <= byte <= 0x7E for byte in target.secret):  # the client's error would show it
            raise NodeError("input", "search.web: the endpoint's secret: expected a key of ASCII without spaces")
        headers[key_header] = key_prefix + target.secret.decode("ascii")
    response = await context.http.request("GET", target.url, headers=headers, query={**parameters, parameter: query})
    if target.secret:  # some servers repeat it when they refuse it
        response = msgspec.structs.replace(response, body=response.body.replace(target.secret, b"[key]"))
    what = f"GET {shown(target.url)}"
    if response.status != 200:
        error = refusal(what, response)
        wait = retry_after(response.headers)
        if response.status == 429 and wait is not None:
            raise NodeDeferral(str(error), wait)
        raise error
    try:
        answer = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NodeError("answer", f"{what}: expected JSON, got: {error}") from None
    found = _at(answer, results)
    if not isinstance(found, list):
        raise NodeError("answer", f"{what}: expected a list at {results!r}, got {type(found).__name__}")
    rows = [{"title": _text(one, title), "url": _text(one, url), "snippet": _text(one, snippet)} for one in found]
    output: dict[str, Any] = {"results": [row for row in rows if row["url"]][:count]}
    return output | {"raw": answer} if raw else output


def _at(value: Any, pointer: str) -> Any:
    """The value at a JSON pointer, or None."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 10:
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value


def _text(value: Any, pointer: str) -> str:
    found = _at(value, pointer)
    return found if isinstance(found, str) else ""

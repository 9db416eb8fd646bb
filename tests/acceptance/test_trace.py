"""One trace from the sender's request to the last node's call, through the log and Dramatiq, in a real collector."""

from __future__ import annotations

import pytest

from events import log
from events.replay import replay
from tests.collector import Collector, Seen
from tests.integration.http_server import http_server
from tests.system import SECRET, System

pytestmark = pytest.mark.anyio

SENDER_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SENDER = f"00-{SENDER_TRACE}-00f067aa0ba902b7-01"
BODY = b'{"card": "4242 4242 4242 4242"}'
LAST = "POST"


def workflow(url: str) -> dict[str, object]:
    call = {"uses": "http.request", "with": {"url": url, "method": "POST", "json": {"id": "${{ event.id }}"}}}
    look = {"uses": "transform", "with": {"value": "${{ event.type }}"}}
    return {"workflow": "call", "on": [{"source": "hub"}], "nodes": {"look": look, "call": call | {"needs": ["look"]}}}


async def test_the_senders_trace_reaches_the_last_node_and_a_replay_links_to_it(system: System) -> None:
    with Collector() as collector:
        system.environment |= collector.environ
        async with http_server() as server:
            await system.apply(workflow(f"{server.url}/called"))
            await system.ingest()
            system.relay()
            await system.worker().says("worker.started")
            await system.worker("high_priority").says("worker.started")
            id = await system.deliver(BODY, headers={"traceparent": SENDER})
            await system.until_quiet()
            wanted = {LAST, "node http.request", "run call", "route", "append", "POST /in/{source}"}
            first = collector.spans(lambda seen: wanted <= {s.name for s in seen if s.trace_id == SENDER_TRACE})
            await replay(system.database, id, actor="support", reason=None)
            await system.until_quiet()
            later = {"replay", "doorbell", "claim"}
            every = collector.spans(lambda seen: later <= {s.name for s in seen} and len(calls(seen)) == 2)
        mine = {span.span_id: span for span in first if span.trace_id == SENDER_TRACE}
        names = [span.name for span in path(calls(first)[0], mine)]
        assert names == [LAST, "node http.request", "run call", "route", "POST /in/{source}"]
        assert {"append"} <= {span.name for span in mine.values()}
        assert {"doorbell", "claim"} <= {span.name for span in every}
        (again,) = [span for span in every if span.name == "replay"]
        assert again.trace_id != SENDER_TRACE
        assert again.parent_id == ""
        assert any(link.startswith(SENDER_TRACE) for link in again.links)
        received = [request.headers["traceparent"].split("-")[1] for request in server.asked]
        assert received == [SENDER_TRACE, again.trace_id]
        said = "".join(str(span) for span in every) + "".join(
            file.read_text() for file in system.directory.glob("*.log")
        )
        assert "4242 4242" not in said  # fewer digits may be those of a time
        assert SECRET not in said
    assert len(await log.runs(system.database, delivery_id=id)) == 2


def calls(seen: list[Seen]) -> list[Seen]:
    return [span for span in seen if span.name == LAST and span.kind == "client"]


def path(span: Seen, known: dict[str, Seen]) -> list[Seen]:
    """A span and its ancestors."""
    found = [span]
    while (parent := known.get(found[-1].parent_id)) is not None:
        found.append(parent)
    return found

"""Spans arrive at a real collector as they are promised, and a collector that is away is nobody's trouble."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import anyio
import msgspec
import pytest
import structlog
from dramatiq.worker import Worker

from events.database import Database
from events.doorbell import broker_for, ring_now
from events.errors import Unavailable
from events.ids import Clock
from events.journal import Journal
from events.otel import make_telemetry
from events.telemetry import CURRENT, Telemetry
from events.types import Accepted, Appended, Duplicate, Receipt
from executor.engine.engine import Engine
from executor.engine.traced import outbound_client
from executor.worker.actors import declare
from executor.worker.tracing import Tracing, rung_in
from executor.workflow.outcomes import NodeError
from ingest.app import _doorbell_span
from ingest.bodies import Bodies
from ingest.catalogue import Catalogue
from ingest.certificates import Certificates
from ingest.compiled import CompiledSource
from ingest.definition import SourceDefinition
from ingest.identity import Identity
from ingest.peers import Peers
from ingest.rejections import Rejections
from ingest.room import Room
from ingest.routes import Door
from ingest.verify.base import Refused, Verification, Verified
from tests.collector import Collector, Seen
from tests.integration.http_server import Answer, http_server

SENDER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def running() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def collector(running: Collector, monkeypatch: pytest.MonkeyPatch) -> Collector:
    """The collector, and an environment that sends everything there."""
    for name, value in running.environ.items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture
def telemetry(collector: Collector) -> Iterator[Telemetry]:
    telemetry = make_telemetry("headrace-test", collector.environ)
    yield telemetry
    telemetry.close()


def of_trace(collector: Collector, traceparent: str | None, count: int) -> dict[str, Seen]:
    """The spans of one trace by name, once there are `count`."""
    assert traceparent is not None
    trace_id = traceparent[3:35]

    def found(spans: list[Seen]) -> dict[str, Seen]:
        return {span.name: span for span in spans if span.trace_id == trace_id}

    return found(collector.spans(lambda spans: len(found(spans)) >= count))


def test_a_trace_has_parents_links_kinds_and_attributes(collector: Collector, telemetry: Telemetry) -> None:
    with telemetry.span("first") as first:
        pass
    with telemetry.span("request", kind="server", parent=SENDER, attributes={"headrace.source": "shop"}) as request:
        request.set("http.response.status_code", 202)
        with telemetry.span("append", parent=request.traceparent) as append:
            pass
    links = [first.traceparent or "", "no traceparent", SENDER]
    with telemetry.span("replay", kind="consumer", links=links) as replay:
        pass
    spans = of_trace(collector, SENDER, 2)
    assert spans["request"].kind == "server"
    assert spans["request"].parent_id == SENDER[36:52]
    assert spans["request"].attributes == {"headrace.source": "shop", "http.response.status_code": 202}
    assert spans["request"].resource["service.name"] == "headrace-test"
    assert spans["request"].resource["service.version"]
    assert spans["append"].kind == "internal"
    assert spans["append"].parent_id == spans["request"].span_id
    assert f"00-{spans['append'].context}-" in (append.traceparent or "")
    alone = of_trace(collector, replay.traceparent, 1)["replay"]
    assert alone.parent_id == ""
    assert alone.kind == "consumer"
    assert alone.links == ((first.traceparent or "")[3:52], SENDER[3:52])
    assert all(span.error is None and span.start <= span.end for span in spans.values())


def test_a_failure_carries_its_kind_and_no_message(collector: Collector, telemetry: Telemetry) -> None:
    with telemetry.span("root") as root:
        with pytest.raises(ValueError), telemetry.span("raised", parent=root.traceparent):
            raise ValueError("the password is hunter2")
        with telemetry.span("failed", parent=root.traceparent) as failed:
            failed.fail("timeout")
        both = telemetry.span("both", parent=root.traceparent)
        both.fail("http_5xx")
        with pytest.raises(KeyError), both:
            raise KeyError("hunter2")
    spans = of_trace(collector, root.traceparent, 4)
    assert {name: span.error for name, span in spans.items()} == {
        "root": None,
        "raised": "ValueError",
        "failed": "timeout",
        "both": "http_5xx",
    }
    assert spans["raised"].attributes == {"error.type": "ValueError"}
    assert all(span.events == () for span in spans.values())
    assert "hunter2" not in str(spans)


async def test_tasks_and_threads_do_not_get_into_each_others_spans(collector: Collector, telemetry: Telemetry) -> None:
    async def task(number: int, root: str | None) -> None:
        with telemetry.span(f"task {number}", parent=root) as span:
            await asyncio.sleep(0.001 * (number % 5))
            assert CURRENT.get() == span.traceparent
            await asyncio.to_thread(thread, number, span.traceparent)
            assert CURRENT.get() == span.traceparent

    def thread(number: int, parent: str | None) -> None:
        with telemetry.span(f"thread {number}", parent=parent):
            time.sleep(0.001 * (number % 3))

    with telemetry.span("root") as root:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(task, number, root.traceparent)
    spans = of_trace(collector, root.traceparent, 41)
    for number in range(20):
        assert spans[f"task {number}"].parent_id == spans["root"].span_id
        assert spans[f"thread {number}"].parent_id == spans[f"task {number}"].span_id


def test_close_sends_what_waits(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "the-operators")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    telemetry = make_telemetry("headrace-test", {**collector.environ, "OTEL_SERVICE_NAME": "the-operators"})
    for _ in range(1000):
        with telemetry.span("waiting") as last:
            pass
    telemetry.close()
    telemetry.close()
    with telemetry.span("too late"):
        pass

    def waiting(spans: list[Seen]) -> list[Seen]:
        return [span for span in spans if span.name == "waiting"]

    spans = waiting(collector.spans(lambda spans: len(waiting(spans)) == 1000))
    assert (last.traceparent or "")[3:52] in {span.context for span in spans}
    assert spans[0].resource["service.name"] == "the-operators"
    assert spans[0].resource["deployment.environment.name"] == "test"


def test_what_the_sender_does_not_sample_is_not_sent(collector: Collector, telemetry: Telemetry) -> None:
    unsampled = f"00-{'5' * 32}-{'6' * 16}-00"
    with telemetry.span("quiet", parent=unsampled) as quiet:
        quiet.set("key", 1)
    with telemetry.span("loud") as loud:
        pass
    of_trace(collector, loud.traceparent, 1)
    assert (quiet.traceparent or "").startswith(unsampled[:36])
    assert not [span for span in collector.spans(lambda _: True) if span.name == "quiet"]


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "never answers"])
def test_a_collector_that_is_away_is_nobodys_trouble(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers:
            listener.listen(100)
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        telemetry = make_telemetry("headrace-test", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        with structlog.testing.capture_logs() as logs:
            slowest = 0.0
            for _ in range(10_000):  # five times as many as may wait
                began = time.perf_counter()
                with telemetry.span("lost", attributes={"key": "value"}):
                    pass
                slowest = max(slowest, time.perf_counter() - began)
            began = time.monotonic()
            telemetry.close()
            assert time.monotonic() - began < 4
    assert slowest < 1, "nobody waits for the network"
    assert len([line for line in logs if line["log_level"] == "warning"]) <= 1
    queue = telemetry._provider._active_span_processor._span_processors[0]._batch_processor._queue  # type: ignore[attr-defined]
    assert len(queue) <= 2048


async def test_an_outgoing_request_is_a_client_span_that_the_receiver_continues(
    collector: Collector, telemetry: Telemetry
) -> None:
    client = outbound_client(["127.0.0.0/8"], telemetry)
    async with http_server() as server:
        with telemetry.span("node webhook.deliver") as node:
            headers = {"Traceparent": node.traceparent or ""}
            await client.request("POST", f"{server.url}/hooks/s3cret?token=t0ken", headers=headers)
            server.answer = lambda asked: Answer(status=503)
            await client.request("PUT", server.url, headers={"x-other": "kept"})
            with pytest.raises(NodeError):
                await client.request("GET", "http://127.0.0.1:1/")
            with pytest.raises(NodeError):
                await client.request("PATCH", "http://[::bad/")
        await client.aclose()
    spans = of_trace(collector, node.traceparent, 5)
    post, put, refused = spans["POST"], spans["PUT"], spans["GET"]
    where: dict[str, Any] = {"server.address": "127.0.0.1", "server.port": server.port}
    assert post.attributes == {"http.request.method": "POST", "http.response.status_code": 200, **where}
    assert {span.kind for span in (post, put, refused)} == {"client"}
    assert {span.parent_id for span in (post, put, refused)} == {spans["node webhook.deliver"].span_id}
    assert (post.error, put.error, refused.error, spans["PATCH"].error) == (
        None,
        "503",
        "connection",
        "input",
    )
    assert server.asked[0].headers["traceparent"][3:52] == post.context
    assert "traceparent" not in server.asked[1].headers
    assert server.asked[1].headers["x-other"] == "kept"
    assert "s3cret" not in str(spans)
    assert "t0ken" not in str(spans)


async def test_a_request_its_append_and_its_doorbell(collector: Collector, telemetry: Telemetry) -> None:
    """The door itself, over a log that takes, refuses and is away in turn."""
    outcomes: Iterator[Appended | Exception] = iter([Accepted(uuid4()), Duplicate(uuid4()), Unavailable("away")])
    verifications = itertools.chain([Verified(0)] * 3, [Refused("no signature matches")])
    written: list[Receipt] = []
    answered: list[UUID | None] = []

    async def write(batch: list[Receipt]) -> list[Appended]:
        written.extend(batch)
        match next(outcomes):
            case Exception() as error:
                answered.append(None)
                raise error
            case Accepted(id) | Duplicate(id) as appended:
                answered.append(id)
                return [appended]

    compiled = CompiledSource(
        definition=SourceDefinition(source="shop", preset="none"),
        labels=("SHOP_SECRET",),
        verify=lambda incoming, now: cast(Verification, next(verifications)),
        identify=lambda incoming: Identity(b"k" * 16, None, "t"),
    )
    source = SimpleNamespace(id=1, workspace_id=1, slug="shop", compiled=compiled, fault=None, bucket=None)
    door = Door(
        catalogue=cast(Catalogue, SimpleNamespace(known=lambda slug: source)),
        keeper=Journal(write, lambda receipt: 1),  # type: ignore[arg-type]  # a list is a sequence
        clock=Clock(),
        telemetry=telemetry,
        bodies=Bodies(Room(200, 100), limit=100, timeout=5),
        rejections=Rejections(Database("", "ingest"), None, 0, 0, retention=1),
        certificates=Certificates(),
        peers=Peers([]),
    )
    for number in range(4):
        await post(door, SENDER.replace("4bf92f35", f"{number:08x}"))
    status = {}
    for number in range(4):
        trace_id = f"{number:08x}{SENDER[11:35]}"
        spans = of_trace(collector, f"00-{trace_id}", 1 if number == 3 else 2)
        request = spans["POST /in/{source}"]
        assert (request.kind, request.parent_id) == ("server", SENDER[36:52])
        status[request.attributes["http.response.status_code"]] = request.error
        if number < 3:
            assert spans["append"].parent_id == request.span_id
            traceparent = msgspec.json.decode(written[number].metadata)["traceparent"]
            assert traceparent[3:52] == request.context, "the delivery carries the request's span"
            assert request.attributes.get("headrace.event.id") == (str(answered[number]) if answered[number] else None)
            assert request.attributes.get("headrace.duplicate") == (False, True, None)[number]
        else:
            assert request.attributes["headrace.refused"] == "no signature matches"
        assert request.attributes["http.route"] == "/in/{source}"
        assert request.attributes["headrace.source"] == "shop"
    assert status == {202: None, 503: "Unavailable", 401: None}

    with _doorbell_span(telemetry, written) as doorbell:
        pass
    rung = of_trace(collector, doorbell.traceparent, 1)["doorbell"]
    assert (rung.kind, rung.parent_id, rung.attributes["headrace.deliveries"]) == ("producer", "", 3)
    assert list(rung.links) == [msgspec.json.decode(receipt.metadata)["traceparent"][3:52] for receipt in written]


async def post(door: Door, traceparent: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: dict[str, Any]) -> None:
        pass

    headers = [(b"traceparent", traceparent.encode())]
    scope = {"method": "POST", "path": "/shop", "query_string": b"", "headers": headers}
    await door(scope, receive, send)


def test_a_claim_continues_the_doorbells_trace(
    collector: Collector, telemetry: Telemetry, redis_urls: tuple[str, str]
) -> None:
    """Through a real broker and worker, which has one thread, so that a trace could be left behind in it."""
    broker = broker_for(redis_urls[0], [Tracing()])
    broker.declare_queue("default")
    taken: list[str | None] = []
    done = threading.Semaphore(0)

    class Taking:
        async def take(self) -> None:
            taken.append(CURRENT.get())
            done.release()
            if len(taken) == 2:
                raise Unavailable("the log is away")

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    declare(broker, "default", cast(Engine, Taking()), loop, telemetry)
    worker = Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    try:
        with telemetry.span("doorbell", kind="producer") as doorbell:
            for traceparent in (doorbell.traceparent, doorbell.traceparent, None):
                ring_now(broker, "default", traceparent)
                assert done.acquire(timeout=10)
    finally:
        worker.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert rung_in() is None
    first, failed, alone = (of_trace_id(collector, traceparent) for traceparent in taken)
    assert first.trace_id == failed.trace_id == (doorbell.traceparent or "")[3:35]
    assert first.parent_id == failed.parent_id == (doorbell.traceparent or "")[36:52]
    assert first.kind == "consumer"
    assert first.attributes == {"messaging.system": "dramatiq", "messaging.destination.name": "default"}
    assert (first.error, failed.error) == (None, "Unavailable")
    assert alone.parent_id == ""
    assert alone.trace_id != first.trace_id


def of_trace_id(collector: Collector, traceparent: str | None) -> Seen:
    """The span that has this context."""
    assert traceparent is not None
    context = traceparent[3:52]
    spans = collector.spans(lambda spans: any(span.context == context for span in spans))
    return next(span for span in spans if span.context == context)


async def test_a_streamed_answer_is_in_one_span_to_its_end(collector: Collector, telemetry: Telemetry) -> None:
    client = outbound_client(["127.0.0.0/8"], telemetry)
    async with http_server() as server:
        server.answer = lambda asked: Answer(body=b"data: 1")
        with telemetry.span("node llm.chat") as node:
            headers = {"Traceparent": node.traceparent or ""}
            async with client.stream("POST", server.url, headers=headers, json={}) as answer:
                assert [chunk async for chunk in answer.chunks()] == [b"data: 1"]
            with pytest.raises(NodeError):
                async with client.stream("GET", "http://127.0.0.1:1/"):
                    pass
        await client.aclose()
    spans = of_trace(collector, node.traceparent, 3)
    assert (spans["POST"].error, spans["GET"].error) == (None, "connection")
    assert spans["POST"].attributes["http.response.status_code"] == 200
    assert server.asked[0].headers["traceparent"][3:52] == spans["POST"].context

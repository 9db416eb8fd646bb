"""What people are shown: aligned, short, and nothing that their terminal would obey."""

from __future__ import annotations

import gzip
from typing import Any
from uuid import UUID

import msgspec
import pytest

from events.ids import item_ids, uuid7
from events.lists import DeliveryState, DeliverySummary
from events.log import OpenWork, RunSummary
from events.types import Event
from executor.cli.common import exact, size, span, table
from executor.cli.histories import DeliveryHistory, RunHistory, body_document, delivery_document
from executor.cli.listings import (
    MOST_SHOWN,
    delivery_text,
    run_text,
    show_deliveries,
)
from executor.cli.short import SHORT, printable, shortened

DELIVERY, RUN, REPLAY = (UUID(int=0x019A_0000_0000_7000_8000_0000_0000_0000 + n) for n in range(3))


def _event(stream: UUID, version: int, type: str, at: float, said: object) -> Event:
    return Event(stream_id=stream, version=version, type=type, recorded_at=at, body=msgspec.json.encode(said))


def _delivery() -> DeliveryHistory:
    receipt = Event(
        stream_id=DELIVERY,
        version=0,
        type="delivery.received",
        recorded_at=1000.0,
        metadata={"source": "shop", "event_type": "order.paid", "delivery_id": "d-1", "method": "POST"},
        headers=b"x-a: 1\r\nx-evil: \x1b[2J",
        body=b'{"order": "A-1"}',
    )
    runs = [{"id": str(RUN), "workflow": "bill"}]
    later = [
        _event(DELIVERY, 1, "delivery.routed", 1000.5, {"item": str(DELIVERY), "runs": runs}),
        _event(
            DELIVERY,
            2,
            "delivery.replayed",
            1060.0,
            {"replay_id": str(REPLAY), "actor": "ann@desk", "reason": "lost it"},
        ),
        _event(DELIVERY, 3, "delivery.parked", 1061.0, {"item": str(REPLAY), "reason": "claimed 6 times"}),
    ]
    run = RunSummary(
        id=RUN,
        workflow="bill",
        status="failed",
        version=4,
        delivery_id=DELIVERY,
        replay_of=None,
        started_at=1000.5,
        ended_at=1002.0,
        error="notify: http_5xx: 503",
    )
    work = OpenWork(
        id=REPLAY,
        kind="replay",
        queue="high_priority",
        due_in=4.0,
        attempt=2,
        owner=None,
        only_workflow=None,
        error="it broke",
    )
    return DeliveryHistory(receipt, later, [run], [work])


def test_the_history_of_a_delivery_tells_all() -> None:
    text = delivery_text(_delivery(), headers=True, body=True)
    assert text.startswith(f"delivery {DELIVERY}: routed\n")
    for part in (
        "source       shop",
        "delivery id  d-1",
        "request      POST, 16 bytes",
        "+0.500 s  routed to 1 run",
        f"{RUN}  bill  failed after 1.5 s: notify: http_5xx: 503",
        f"+60.000 s  replay asked for by ann@desk: lost it (replay {REPLAY})",
        "parked: claimed 6 times",
        "replay is due in 4.0 s on high_priority, attempt 2, last error: it broke",
        "x-a: 1",
        '{"order": "A-1"}',
    ):
        assert part in text
    assert "\x1b" not in text


def _received(
    facts: dict[str, Any], *later: Event, items: list[DeliverySummary | None] | None = None
) -> DeliveryHistory:
    receipt = Event(stream_id=DELIVERY, version=0, type="delivery.received", recorded_at=1000.0, metadata=facts)
    return DeliveryHistory(receipt, list(later), [], [], items or [])


def _summary(index: int, state: DeliveryState, *, items: int = 0) -> DeliverySummary:
    id = item_ids(DELIVERY, index + 1)[index]
    return DeliverySummary(
        id=id, received_at=1000.0, source="s", type="open", size=10, runs=0, state=state, items=items
    )


def test_what_no_workflow_wanted_says_so_and_what_to_do() -> None:
    passed = [{"workflow": "bill", "reason": "if was false: event.body.n > 1"}]
    said = {"item": str(DELIVERY), "runs": [], "passed_over": passed}
    text = delivery_text(_received({}, _event(DELIVERY, 1, "delivery.routed", 1001.0, said)), headers=False, body=False)
    assert text.startswith(f"delivery {DELIVERY}: unwanted\n")
    assert "routed: no workflow wants it" in text
    assert "passed over: bill: if was false: event.body.n > 1" in text
    assert text.endswith(f"apply a workflow that wants it, then headrace replay {DELIVERY}")
    assert "headrace replay" not in delivery_text(_delivery(), headers=False, body=False)
    assert "headrace replay" not in delivery_text(_received({}), headers=False, body=False)


def test_the_history_of_a_batch_lists_its_items() -> None:
    items = [_summary(0, DeliveryState.ROUTED), None, _summary(2, DeliveryState.UNWANTED)]
    replayed = _event(DELIVERY, 1, "delivery.replayed", 1001.0, {"actor": "ann", "replay_id": str(REPLAY), "items": 2})
    history = _received({"items": 3}, replayed, items=items)
    text = delivery_text(history, headers=False, body=False)
    assert text.startswith(f"delivery {DELIVERY}: batch\n")
    assert "replay asked for by ann for 2 items" in text
    first, _, third = item_ids(DELIVERY, 3)
    listed = text.partition("items: 3, 1 of them seen before\n")[2].splitlines()
    assert [line.split() for line in listed] == [
        ["ITEM", "ID", "STATE", "TYPE"],
        ["0", str(first), "routed", "open"],
        ["1", "-", "seen", "before", "-"],
        ["2", str(third), "unwanted", "open"],
    ]
    assert delivery_document(history, headers=False, body=False)["items"] == [
        {"index": 0, "id": first, "type": "open", "state": "routed", "runs": 0},
        {"index": 1, "id": None, "state": "seen before"},
        {"index": 2, "id": third, "type": "open", "state": "unwanted", "runs": 0},
    ]


def test_a_large_batch_is_cut_and_says_so() -> None:
    text = delivery_text(_received({"items": 5000}, items=[None] * 5000), headers=False, body=False)
    assert "items: 5,000, 5,000 of them seen before" in text
    assert f"… and {5000 - MOST_SHOWN:,} more; --json has them all" in text


def test_an_item_names_its_batch() -> None:
    text = delivery_text(_received({"batch": str(RUN), "index": 7}), headers=False, body=False)
    assert f"item         7 of batch {RUN}" in text
    assert text.startswith(f"delivery {DELIVERY}: waiting\n")


def test_a_handshake_says_what_it_was() -> None:
    history = _received({"handshake": "slack.url_verification"})
    text = delivery_text(history, headers=False, body=False)
    assert text.startswith(f"delivery {DELIVERY}: handshake\n")
    assert "received, a handshake (slack.url_verification), and answered" in text
    assert delivery_document(history, headers=False, body=False)["state"] == "handshake"


def test_a_list_shows_states_and_how_many_items_came(capsys: pytest.CaptureFixture[str]) -> None:
    found = [_summary(0, DeliveryState.BATCH, items=12), _summary(1, DeliveryState.HANDSHAKE)]
    show_deliveries(found, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-5:] == ["items", "10", "B", "0", "batch"]
    assert "12 items" in lines[1]
    assert lines[2].split()[-4:] == ["10", "B", "0", "handshake"]
    show_deliveries(found, as_json=True)
    assert '"state":"batch"' in capsys.readouterr().out


def test_headers_and_body_are_in_the_document_only_when_asked_for() -> None:
    document = delivery_document(_delivery(), headers=False, body=False)
    assert set(document) == {"id", "received_at", "state", "size", "metadata", "events", "runs", "work"}
    document = delivery_document(_delivery(), headers=True, body=True)
    assert document["body"] == {"json": {"order": "A-1"}}
    assert document["headers"][0] == ("x-a", "1")


@pytest.mark.parametrize(
    ("body", "document"),
    [(b"[1]", {"json": [1]}), (b"plain", {"text": "plain"}), (b"\xff\x00", {"base64": "/wA="})],
)
def test_a_body_is_shown_in_the_form_that_loses_nothing(body: bytes, document: object) -> None:
    assert body_document(body) == document


def test_the_history_of_a_run_tells_every_attempt() -> None:
    history = _delivery()
    events = [
        _event(RUN, 0, "run.started", 1000.5, {"workflow": "bill", "workflow_hash": "ab" * 32}),
        _event(
            RUN,
            1,
            "node.completed",
            1000.6,
            {"node": "fetch", "attempt": 1, "seconds": 0.1, "output": {"a": 1}},
        ),
        _event(
            RUN,
            2,
            "node.failed",
            1001.0,
            {
                "node": "notify",
                "attempt": 1,
                "seconds": 0.4,
                "kind": "http_5xx",
                "message": "503",
                "retry_at": 1002.0,
            },
        ),
        _event(RUN, 3, "node.skipped", 1002.0, {"node": "thank", "reason": "needs notify, which failed"}),
        _event(RUN, 4, "run.failed", 1002.0, {"error": "notify: http_5xx: 503"}),
    ]
    text = run_text(RunHistory(history.runs[0], events, []))
    for part in (
        f"run {RUN} of bill: failed",
        "version abababababababab",
        '+0.100 s  fetch: completed (attempt 1, 100 ms) {"a":1}',
        "notify: failed (attempt 1, 400 ms) http_5xx: 503; again at ",
        "thank: skipped: needs notify, which failed",
        "failed: notify: http_5xx: 503",
    ):
        assert part in text
    assert "still to do" not in text


def test_long_values_are_cut_and_say_so() -> None:
    assert shortened("a b\n c") == "a b c"
    assert len(shortened("x" * 500)) == SHORT
    assert shortened({"key": "x" * 500}).endswith("…")
    assert printable("a\x1b[31m\tb\n") == "a\ufffd[31m\tb\n"


def test_tables_align_and_numbers_go_to_the_right() -> None:
    assert table(["NAME", "N"], [("a", 5), ("bcdef", 1200)]).splitlines() == [
        "NAME       N",
        "a          5",
        "bcdef  1,200",
    ]
    assert table(["A", "B"], [("x", None)]).splitlines()[1] == "x  -"


def test_lengths_and_sizes_have_a_fitting_unit() -> None:
    assert [span(s) for s in (0.0123, 3.21, 90, 7200, 200_000)] == [
        "12 ms",
        "3.2 s",
        "1.5 min",
        "2.0 h",
        "2.3 d",
    ]
    assert [size(n) for n in (312, 7300, 2 << 20)] == ["312 B", "7.1 KB", "2.0 MB"]


def test_a_delivery_says_which_secret_matched_and_when_it_really_came() -> None:
    text = delivery_text(_received({"secret": "SHOP_SECRET_OLD"}), headers=False, body=False)
    assert "  verified by  SHOP_SECRET_OLD\n" in text
    assert "arrived" not in text
    assert "admitted" not in text
    facts = {"rejected": str(REPLAY), "admitted_by": "ann@desk", "received_at": 100.0}
    text = delivery_text(_received(facts), headers=False, body=False)
    assert f"  admitted by  ann@desk, as {REPLAY}\n" in text
    assert f"  arrived      {exact(100.0)[:10]}" in text
    spooled = Event(stream_id=uuid7(700.0), version=0, type="delivery.received", recorded_at=1000.0)
    text = delivery_text(DeliveryHistory(spooled, [], [], []), headers=False, body=False)
    assert f"  arrived      {exact(700.0)[:23]}" in text


def test_a_compressed_body_is_shown_as_what_it_holds() -> None:
    body = gzip.compress(b'{"order": "A-1"}')
    receipt = Event(
        stream_id=DELIVERY,
        version=0,
        type="delivery.received",
        recorded_at=1000.0,
        metadata={"encoding": "gzip"},
        body=body,
    )
    history = DeliveryHistory(receipt, [], [], [])
    assert delivery_text(history, headers=False, body=True).endswith('body, without its gzip\n{"order": "A-1"}')
    broken = DeliveryHistory(msgspec.structs.replace(receipt, body=b"not gzip"), [], [], [])
    assert delivery_text(broken, headers=False, body=True).endswith("body\nnot gzip")
    assert "base64" in delivery_document(history, headers=False, body=True)["body"], "JSON has the exact bytes"

"""Deliveries and runs as text for people: lists as tables, histories with the time since their beginning.

Nothing here reads anything but what it is given. Long values are cut, and say so with `…`; `--json` has them
whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import rich_click as click

from events.content import decoded
from events.headers import decode_headers
from events.ids import uuid7_time
from events.lists import DeliveryState, DeliverySummary
from events.log import OpenWork, RunSummary
from events.types import Event
from executor.cli.common import exact, moment, print_json, size, span, table
from executor.cli.histories import SEEN_BEFORE, DeliveryHistory, RunHistory, data_of
from executor.cli.run_events import told
from executor.cli.short import printable, shortened

FOR_EVER = 1000 * 365 * 86_400.0
"""Seconds in how many a work item is due that waits for no time."""
MOST_SHOWN = 100
"""Items of a batch in a history; `--json` has all."""
WELL_BEFORE = 1.0
"""Seconds between arrival and log from which on both are shown."""


def show_deliveries(found: Sequence[DeliverySummary], as_json: bool) -> None:
    """Prints the list of deliveries."""
    rows = [
        (
            moment(one.received_at),
            one.id,
            one.source or "-",
            f"{one.items} items" if one.state is DeliveryState.BATCH else one.type or "-",
            size(one.size),
            one.runs,
            one.state,
        )
        for one in found
    ]
    _show(["RECEIVED", "ID", "SOURCE", "TYPE", "SIZE", "RUNS", "STATE"], rows, found, "no deliveries", as_json)


def show_runs(found: Sequence[RunSummary], as_json: bool) -> None:
    """Prints the list of runs."""
    rows = [
        (
            moment(one.started_at),
            one.id,
            one.workflow,
            one.status,
            _took(one),
            one.delivery_id,
            shortened(one.error or ""),
        )
        for one in found
    ]
    _show(["STARTED", "ID", "WORKFLOW", "STATUS", "TOOK", "DELIVERY", "ERROR"], rows, found, "no runs", as_json)


def _show(
    headers: list[str], rows: Sequence[Sequence[object]], found: Iterable[object], nothing: str, as_json: bool
) -> None:
    if as_json:
        for one in found:
            print_json(one)
    elif rows:
        click.echo(table(headers, rows))
    else:
        click.echo(nothing, err=True)


def delivery_text(history: DeliveryHistory, *, headers: bool, body: bool) -> str:
    """The history of a delivery."""
    receipt, facts = history.receipt, history.receipt.metadata
    content = receipt.body or b""
    lines = [f"delivery {receipt.stream_id}: {history.state}"]
    lines += _facts(
        ("source", facts.get("source")),
        ("type", facts.get("event_type")),
        ("delivery id", facts.get("delivery_id")),
        ("item", f"{facts['index']} of batch {facts['batch']}" if "batch" in facts else None),
        ("verified by", facts.get("secret")),
        ("arrived", _arrived(receipt)),
        ("received", exact(receipt.recorded_at)),
        ("admitted by", f"{facts.get('admitted_by')}, as {facts['rejected']}" if "rejected" in facts else None),
        (
            "request",
            f"{facts.get('method', '?')}, {len(content):,} bytes, {facts.get('content_type', 'no type')}",
        ),
        ("query", facts.get("query")),
        ("trace", facts.get("traceparent")),
    )
    known = {str(run.id): run for run in history.runs}
    greeting = f", a handshake ({facts['handshake']}), and answered" if "handshake" in facts else ""
    lines += ["", "history", f"  {_after(receipt, receipt)}  received{greeting}"]
    for event in history.later:
        said = data_of(event)
        lines.append(f"  {_after(receipt, event)}  {_delivery_event(event, said)}")
        lines += [f"              {_run_line(run, known)}" for run in said.get("runs", ())]
        lines += [
            f"              passed over: {one['workflow']}: {shortened(one['reason'])}"
            for one in said.get("passed_over", ())
        ]
    if history.state is DeliveryState.UNWANTED:
        lines += ["", f"to have it taken: apply a workflow that wants it, then headrace replay {receipt.stream_id}"]
    lines += _items(history.items)
    lines += _work(history.work)
    if headers:
        lines += [
            "",
            "headers",
            *(f"  {name}: {printable(value)}" for name, value in decode_headers(receipt.headers)),
        ]
    if body:
        plain = decoded(content, coding) if (coding := facts.get("encoding", "")) else None
        lines += ["", f"body, without its {coding}" if plain is not None else "body"]
        lines += [printable((content if plain is None else plain).decode("utf-8", "replace"))]
    return "\n".join(lines)


def _arrived(receipt: Event) -> str | None:
    """When it came, where that was well before it was in the log: it lay in a spool, or was refused at first."""
    came = receipt.metadata.get("received_at") or uuid7_time(receipt.stream_id)
    return exact(came) if receipt.recorded_at - came > WELL_BEFORE else None


def _items(items: Sequence[DeliverySummary | None]) -> list[str]:
    if not items:
        return []
    rows = [
        (str(index), "-", SEEN_BEFORE, "-") if item is None else (str(index), item.id, item.state, item.type or "-")
        for index, item in enumerate(items[:MOST_SHOWN])
    ]
    more = len(items) - len(rows)
    repeated = sum(item is None for item in items)
    return [
        "",
        f"items: {len(items):,}" + (f", {repeated:,} of them {SEEN_BEFORE}" if repeated else ""),
        *(f"  {line}" for line in table(["ITEM", "ID", "STATE", "TYPE"], rows).splitlines()),
        *([f"  … and {more:,} more; --json has them all"] if more else []),
    ]


def _delivery_event(event: Event, said: dict[str, Any]) -> str:
    match event.type:
        case "delivery.routed":
            count = len(said.get("runs", ()))
            held = [f"{one['workflow']}" + (f" ({one['key']})" if one["key"] else "") for one in said.get("held", ())]
            waits = f"waits in the lane of {', '.join(held)}" if held else ""
            if not count:
                return f"routed: {waits or 'no workflow wants it'}"
            return f"routed to {count} run{'s' * (count != 1)}" + (f"; {waits}" if waits else "")
        case "delivery.settled":
            run = f"run {said['run']}" if said.get("run") else "no run of its own"
            why = f": {shortened(said['reason'])}" if said.get("reason") else ""
            return f"out of the lane of {said.get('workflow')}: {run}{why}"
        case "delivery.replayed":
            what = f" for run {said['run_id']}" if said.get("run_id") else ""
            what = f" for {said['items']:,} items" if said.get("items") else what
            why = f": {shortened(said['reason'])}" if said.get("reason") else ""
            return f"replay asked for by {said.get('actor')}{what}{why} (replay {said.get('replay_id')})"
        case "delivery.parked":
            return f"parked: {shortened(said.get('reason', ''))}"
        case other:
            return f"{other} {shortened(said)}"


def _run_line(run: dict[str, Any], known: dict[str, RunSummary]) -> str:
    head = known.get(run["id"])
    if head is None:
        return f"{run['id']}  {run['workflow']}"
    took = f" after {_took(head)}" if head.ended_at is not None else ""
    error = f": {shortened(head.error)}" if head.error else ""
    return f"{head.id}  {head.workflow}  {head.status}{took}{error}"


def run_text(history: RunHistory) -> str:
    """The history of a run."""
    head, events = history.head, history.events
    started = data_of(events[0]) if events else {}
    lines = [f"run {head.id} of {head.workflow}: {head.status}"]
    lines += _facts(
        ("workflow", f"{head.workflow}, version {started.get('workflow_hash', '?')[:16]}"),
        ("delivery", head.delivery_id),
        ("replay", head.replay_of),
        ("parent", head.parent),
        ("fork of", started.get("fork_of")),
        ("started", exact(head.started_at)),
        ("took", _took(head) if head.ended_at is not None else None),
        ("error", head.error),
        ("trace", started.get("traceparent")),
    )
    lines += ["", "history"]
    lines += [f"  {_after(events[0], event)}  {told(event.type, data_of(event))}" for event in events]
    lines += _work(history.work)
    if history.place is not None:
        lines.append(f"  it waits for {history.place}")
    return "\n".join(lines)


def _work(work: Sequence[OpenWork]) -> list[str]:
    lines = []
    for item in work:
        due = "is due" if item.due_in <= 0 else f"is due in {span(item.due_in)}"
        due = due if item.due_in < FOR_EVER else "waits for somebody to say something"
        if item.owner is not None:
            due = f"is held by {item.owner}, lease {span(max(0.0, item.due_in))}"
        error = f", last error: {shortened(item.error)}" if item.error else ""
        lines.append(f"  {item.kind} {due} on {item.queue}, attempt {item.attempt}{error}")
    return ["", "still to do", *lines] if lines else []


def _facts(*facts: tuple[str, object]) -> list[str]:
    return [f"  {name:<12} {value}" for name, value in facts if value not in (None, "")]


def _after(first: Event, event: Event) -> str:
    return f"{f'+{max(0.0, event.recorded_at - first.recorded_at):.3f} s':>10}"


def _took(run: RunSummary) -> str:
    return "-" if run.ended_at is None else span(max(0.0, run.ended_at - run.started_at))

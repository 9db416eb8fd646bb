"""The node types that the engine carries out itself, because they are about runs and not about the world.

`map` besides has keys of its own beside `with` (`nodes`, `collect`, `concurrency`, `failures`; see `definition.Body`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from executor.workflow.definition import NodeSpec
from executor.workflow.waits import OnTimeout

MOST_ITEMS = 100_000
"""Items that a `map` takes."""
MOST_DEPTH = 20
"""How deep runs start runs."""
LOOK_BACK = 60.0
"""Seconds before a `wait.event` begins from which on a delivery counts, unless the workflow says otherwise."""
MOST_LOOK_BACK = 7 * 86_400.0
"""Seconds for which arrivals are kept."""


class _Inputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of the inputs below. A duration is seconds, or text such as `30s`, `5m`, `24h`."""


class Timer(_Inputs, frozen=True, kw_only=True, rename={"for_": "for"}):
    """`wait.timer`: one of `for`, a duration, and `until`, Unix seconds or RFC 3339."""

    for_: float | str | None = None
    until: float | str | None = None


class Event(_Inputs, frozen=True, kw_only=True):
    """`wait.event`: a delivery of `source` for which `match` is true. `match` is CEL in which `event` is that delivery
    and `trigger` the run's own; in it, joined by `&&`, something of `event` has to equal something of the run.
    """

    source: str
    match: str
    type: str = "*"
    timeout: float | str | None = None
    look_back: float | str = LOOK_BACK
    on_timeout: OnTimeout = "fail"


class Approval(_Inputs, frozen=True, kw_only=True):
    """`wait.approval`: a person's decision on `text`. A refusal completes the node too: its output says so."""

    text: str = ""
    timeout: float | str | None = None
    on_timeout: OnTimeout = "fail"


class Run(_Inputs, frozen=True, kw_only=True):
    """`workflow.run`: runs another workflow with `input`; its output is the node's. With `wait: false` the node
    completes at once with `{"run_id": …}`, and the run is on its own.
    """

    workflow: str
    input: Any = None
    wait: bool = True


class Emission(_Inputs, frozen=True, kw_only=True):
    """`emit`: appends an event of the source `emit` with this `type`, which other workflows may be triggered by."""

    type: str
    body: Any = None


class Items(_Inputs, frozen=True, kw_only=True):
    """`map`: the list to go through."""

    items: Any


class Failure(_Inputs, frozen=True, kw_only=True):
    """`fail`: fails with this message."""

    message: str


CONTROLS: dict[str, NodeSpec] = {
    uses: NodeSpec(uses=uses, inputs=inputs, timeout=30.0, pure=pure)
    for uses, inputs, pure in (
        ("wait.timer", Timer, False),
        ("wait.event", Event, False),
        ("wait.approval", Approval, False),
        ("workflow.run", Run, False),
        ("emit", Emission, False),
        ("map", Items, True),
        ("fail", Failure, True),
    )
}
"""By `uses`."""
EMITTED = "emit"
"""The source of what `emit` appends."""

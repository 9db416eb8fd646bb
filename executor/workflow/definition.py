"""The workflow document as values: what a workflow is once it is read and found right.

All times are seconds as float. Nothing here is compiled: `if` and `with` hold the text as it was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from executor.workflow.backoff import Backoff
from executor.workflow.lanes import Lane
from executor.workflow.schedules import Schedule

When = Literal["succeeded", "failed", "always"]
"""What must have become of the nodes that a node needs, for it to run."""
Queue = Literal["high_priority", "default", "webhook"]
QUEUES: tuple[Queue, ...] = ("high_priority", "default", "webhook")

NODE_TIMEOUT = 30.0
"""Seconds per attempt where neither the workflow nor the node type says anything."""
MAX_NODES = 1_000
"""Nodes in one workflow."""
MAX_DOCUMENT = 1 << 20
"""Bytes of one workflow's document in its canonical form."""
MAX_DEPTH = 100
"""How deep the lists and mappings of a document nest."""


class Retry(msgspec.Struct, frozen=True):
    """When a failed attempt is followed by another.

    `max_attempts` counts the first one. `on` holds the kinds of failure that are worth another attempt
    (`timeout`, `http_5xx`, see `outcomes`); empty means all.
    """

    max_attempts: int = 3
    backoff: Backoff = Backoff()
    on: tuple[str, ...] = ()


class Caching(msgspec.Struct, frozen=True):
    """How long a node's result serves again.

    Args:
        ttl: seconds.
        key: CEL whose value tells results apart, in place of the inputs.
        stale: seconds beyond `ttl` in which a result serves if the call fails.
    """

    ttl: float
    key: str | None = None
    stale: float = 0.0


class CostClass(msgspec.Struct, frozen=True):
    """What a node's calls count as.

    Args:
        name: the class, whose limits they are under.
        reserve: what a call is taken to cost until it is known.
    """

    name: str
    reserve: float = 0.0


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a workflow needs to know of a node type.

    `inputs` is the Struct that `with` becomes; None leaves it unchecked. `retry` and `timeout` (seconds) hold
    where the workflow says nothing. `pure`: no effects, may be computed again.
    """

    uses: str
    inputs: type[msgspec.Struct] | None = None
    retry: Retry | None = None
    timeout: float | None = None
    pure: bool = False


class Trigger(msgspec.Struct, frozen=True):
    """Deliveries that start a run: of the source (its slug), a type that the glob fits, `condition` true.

    A trigger with a `schedule` is one for the deliveries that the schedule makes.
    """

    source: str
    type: str = "*"
    condition: str | None = None
    schedule: Schedule | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A step. `inputs` is its `with`; policies are settled: the workflow's, the type's, or the default.

    Args:
        needs: the nodes that all have to come before it.
        any: of these, `at_least` many have to.
        when: what must have become of them.
        body: of a `map`, the graph that each item goes through.
        undo: the node that takes back what this one did, if the run fails or is cancelled later.
        cache: how long its result serves again; None: not at all.
        limit: the cost class of its calls; None: that of its type, if that has one.
    """

    name: str
    uses: str
    inputs: dict[str, Any] = {}
    needs: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    at_least: int = 1
    when: When = "succeeded"
    condition: str | None = None
    timeout: float = NODE_TIMEOUT
    retry: Retry | None = None
    pure: bool = False
    body: Body | None = None
    undo: Node | None = None
    cache: Caching | None = None
    limit: CostClass | None = None


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The inside of a `map`.

    Args:
        nodes: the graph of each item. Its expressions may name `item` and `index` besides the rest.
        collect: the template of an item's output; None: the output of the last node, or of the last ones by name.
        concurrency: how many items are worked on at once.
        failures: how many items may fail before the map fails; a failed item's output is null. None: all may.
    """

    nodes: dict[str, Node]
    collect: Any = msgspec.UNSET
    concurrency: int = 10
    failures: int | None = 0


class LaneSpec(msgspec.Struct, frozen=True):
    """What shares a lane: the CEL of its `key` (None: all runs of the workflow), and what goes on in it."""

    key: str | None
    lane: Lane


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow that was found right. `timeout`: seconds for a whole run, None for no limit.

    Args:
        input: the JSON Schema of what a child run or a run that was asked for is given.
        output: the template of the run's output; UNSET: it has none.
        on_error: the node that runs when a run has failed, after compensations.
        lane: how runs wait for each other; None: not at all.
    """

    name: str
    nodes: dict[str, Node]
    on: tuple[Trigger, ...] = ()
    queue: Queue = "webhook"
    timeout: float | None = None
    input: dict[str, Any] | None = None
    output: Any = msgspec.UNSET
    on_error: Node | None = None
    lane: LaneSpec | None = None


def canonical(document: Mapping[str, Any]) -> bytes:
    """The document as JSON with sorted keys and no spaces: its form and the order of its keys are gone."""
    return msgspec.json.encode(document, order="deterministic")


def content_hash(document: Mapping[str, Any]) -> bytes:
    """32 bytes (BLAKE2b-256 of the canonical form) that name a version of a workflow."""
    return hashlib.blake2b(canonical(document), digest_size=32).digest()

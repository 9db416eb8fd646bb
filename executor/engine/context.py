"""What a node is told about its attempt, and what it may use.

One is made per attempt, thousands a second, so it holds references only: the logger and the idempotency key
are made when they are first asked for. The same class serves synchronous nodes in their process, there
without the HTTP client and the endpoints, which belong to the worker's loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import structlog

from executor.workflow.outcomes import NodeError

if TYPE_CHECKING:
    from executor.engine.outbound import OutboundClient


class Endpoint(msgspec.Struct, frozen=True):
    """Where `webhook.deliver` sends: a URL, and the secret that signs (empty: unsigned).

    `secret` is the key itself, or its text form `whsec_<base64>`.
    """

    url: str
    secret: bytes = b""

    def __repr__(self) -> str:
        return f"Endpoint(url={self.url!r}, secret=<{len(self.secret)} bytes>)"


EndpointResolver = Callable[[str, int], Awaitable[Endpoint]]
"""Finds an endpoint by its name and its workspace's id."""


class ContextFields(msgspec.Struct, frozen=True, array_like=True):
    """The part of a context that crosses to a process."""

    run_id: UUID
    workflow: str
    node: str
    attempt: int
    deadline: float
    traceparent: str | None
    workspace_id: int


class NodeContext:
    """One attempt at one node.

    Args:
        run_id: the run.
        workflow: its workflow's name.
        node: the node's name in the graph; with the run id it makes the idempotency key, so a compensation
            passes a name of its own.
        attempt: 1 is the first.
        deadline: Unix seconds after which the attempt is cancelled.
        traceparent: the W3C trace context to send on, if the run is traced.
        client: the guarded HTTP client; None in a process of the pool.
        endpoints: finds an endpoint by its name; None where there are none.
        workspace_id: whose run it is.
    """

    __slots__ = (
        "_client",
        "_endpoints",
        "_logger",
        "attempt",
        "deadline",
        "node",
        "run_id",
        "traceparent",
        "workflow",
        "workspace_id",
    )

    def __init__(  # noqa: PLR0917 - all of them, in this order, in one hot place
        self,
        run_id: UUID,
        workflow: str,
        node: str,
        attempt: int,
        deadline: float,
        traceparent: str | None = None,
        client: OutboundClient | None = None,
        endpoints: EndpointResolver | None = None,
        workspace_id: int = 1,
    ) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.node = node
        self.attempt = attempt
        self.deadline = deadline
        self.traceparent = traceparent
        self.workspace_id = workspace_id
        self._client = client
        self._endpoints = endpoints
        self._logger: Any = None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this node of this run, on any worker: `<run id>-<16 hex digits>`.

        The node's name is hashed: the key goes into headers and, dot-separated, into signatures.
        """
        return f"{self.run_id}-{hashlib.blake2b(self.node.encode(), digest_size=8).hexdigest()}"

    @property
    def logger(self) -> Any:
        """A structlog logger that is bound to the run, the node and the attempt."""
        if self._logger is None:
            self._logger = structlog.get_logger().bind(
                run_id=str(self.run_id), workflow=self.workflow, node=self.node, attempt=self.attempt
            )
        return self._logger

    @property
    def http(self) -> OutboundClient:
        """The HTTP client behind the guard.

        Raises:
            NodeError: this is a synchronous node; only `async def` nodes have it.
        """
        if self._client is None:
            raise NodeError("error", "context.http: expected an `async def` node, got one that runs in a process")
        return self._client

    async def endpoint(self, name: str) -> Endpoint:
        """The endpoint of that name.

        Raises:
            NodeError: kind `input`; there are no endpoints here. The resolver raises for an unknown name.
        """
        if self._endpoints is None:
            raise NodeError("input", f"endpoint {name!r}: this worker knows no endpoints; give a url instead")
        return await self._endpoints(name, self.workspace_id)

    def fields(self, waited: float = 0.0) -> ContextFields:
        """What a process needs to make this context again; `waited` seconds are added to the deadline."""
        return ContextFields(
            self.run_id,
            self.workflow,
            self.node,
            self.attempt,
            self.deadline + waited,
            self.traceparent,
            self.workspace_id,
        )

    @classmethod
    def of(cls, fields: ContextFields) -> NodeContext:
        """The context that has these fields, without client and endpoints."""
        return cls(**msgspec.structs.asdict(fields))

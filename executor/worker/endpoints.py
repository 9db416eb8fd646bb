"""Endpoints of `webhook.deliver`, as a worker finds them: by their name, with their secret opened."""

from __future__ import annotations

from events import definitions
from events.database import Database
from events.errors import ConfigError, Unavailable
from events.secretbox import SecretBox
from executor.engine.context import Endpoint, EndpointResolver
from executor.workflow.outcomes import NodeError


def endpoint_resolver(database: Database, secret_key: str) -> EndpointResolver:
    """Finds the endpoints of `webhook.deliver` and opens their secrets."""
    secrets = SecretBox(secret_key) if secret_key else None

    async def resolve(name: str, workspace_id: int) -> Endpoint:
        try:
            row = await definitions.endpoint(database, name, workspace_id)
        except Unavailable as error:
            raise NodeError("connection", str(error)) from error
        if row is None:
            raise NodeError(
                "input",
                f"endpoint {name!r}: expected one that was applied, got none; `headrace apply` makes one",
            )
        if row.secret is None:
            return Endpoint(row.url)
        if secrets is None:
            raise NodeError("input", f"endpoint {name!r} has a secret and this worker no key; set HEADRACE_SECRET_KEY")
        try:
            return Endpoint(row.url, secrets.open(row.secret, row.context))
        except ConfigError as error:
            raise NodeError("input", f"endpoint {name!r}: {error}") from error

    return resolve

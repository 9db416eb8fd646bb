"""Who may ask: every request brings an API key, and every route says which role it takes.

A route that says nothing is closed to everybody. What a key's workspace does not have is not there (404).
"""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from events import api_keys
from events.api_keys import Principal, Role
from events.database import Database

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="headrace"'}
HOW = "expected Authorization: Bearer hrk_…, a key that is valid; `headrace keys add` makes one"


class Keys(AbstractAuthenticationMiddleware):
    """Finds out whose key a request brings."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """The principal as `request.user`.

        Raises:
            NotAuthorizedException: no key, or none that is valid; it does not say which.
        """
        database: Database = connection.app.state.database
        scheme, _, text = connection.headers.get("authorization", "").partition(" ")
        if not scheme and connection.scope["type"] == ScopeType.WEBSOCKET:  # a browser's can set nothing else
            scheme, _, text = connection.headers.get("sec-websocket-protocol", "").partition(",")
        principal = await api_keys.find(database, text.strip()) if scheme.lower() == "bearer" else None
        if principal is None:
            raise NotAuthorizedException(HOW, headers=CHALLENGE)
        return AuthenticationResult(user=principal, auth=None)


def guard(connection: ASGIConnection[Any, Principal, Any, Any], handler: BaseRouteHandler) -> None:
    """Raises PermissionDeniedException where the key's role does not do for the route."""
    if handler.opt.get("public"):
        return
    wanted = handler.opt.get("role")
    if not isinstance(wanted, Role):
        raise PermissionDeniedException("this route says of no role that it may; nobody may")
    if not connection.user.role.covers(wanted):
        raise PermissionDeniedException(f"expected a key with the role {wanted}, got one with {connection.user.role}")

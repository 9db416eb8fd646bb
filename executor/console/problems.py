"""Every error as a problem document (RFC 9457): type, title, status, detail, and `errors` where there are several.

What this service does not expect is logged, and told as that and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from events.errors import BadRow, ConfigError, HeadraceError, NotFound, Unavailable
from executor.workflow.outcomes import NodeError

MEDIA_TYPE = "application/problem+json"

_log = structlog.get_logger(__name__)


class Problem(msgspec.Struct, omit_defaults=True):
    """What went wrong. `errors`: all faults, where there is more than one thing to mend."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    instance: str = ""
    errors: list[str] = []


class Refused(HeadraceError):
    """An answer that is a problem.

    Args:
        status: the HTTP status.
        detail: what was expected, what came, what to do.
        headers: to be sent along.
    """

    def __init__(
        self, status: int, detail: str, errors: Sequence[str] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = list(errors)
        self.headers = dict(headers or {})


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The response to a request that raised."""
    headers: dict[str, str] = {}
    errors: list[str] = []
    detail = str(error)
    match error:
        case Refused():
            status, errors, headers = error.status, error.errors, error.headers
        case HTTPException():
            status, detail, headers = error.status_code, error.detail, dict(error.headers or {})
            if isinstance(error.extra, list):
                errors = [_fault(one) for one in error.extra]
        case ConfigError():
            status, errors = 422, list(error.faults)
        case NodeError():
            status = 422
        case NotFound():
            status = 404
        case Unavailable():
            status, headers, detail = 503, {"Retry-After": "1"}, "the log cannot be reached now; try again"
            _log.warning("console.unavailable", error=str(error))
        case BadRow():
            status = 422
        case HeadraceError():
            status = 409
        case _:
            status, detail = 500, "this should not happen; the log of the console says more"
            _log.error("console.failed", path=request.url.path, exc_info=error)
    title = HTTPStatus(status).phrase
    body = Problem(title, status, detail, instance=request.url.path, errors=errors)
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _fault(one: Any) -> str:
    if isinstance(one, Mapping):
        return ": ".join(str(one[key]) for key in ("key", "message") if one.get(key))
    return str(one)

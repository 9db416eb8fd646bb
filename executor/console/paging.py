"""Pages of lists: stable while rows are added, because they go by the last row's own id and not by counting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from litestar.params import Parameter

Row = TypeVar("Row")
Cursor = Annotated[UUID | None, Parameter(description="`next` of the page before; none for the first.")]


class Page(msgspec.Struct, Generic[Row]):
    """Rows, and where the next page begins; null on the last."""

    items: list[Row]
    next: str | None = None


def page_of(rows: Sequence[Row], limit: int, key: Callable[[Row], Any]) -> Page[Row]:
    """A page of the first `limit`. `rows`: one more than that where there are more."""
    shown = list(rows[:limit])
    return Page(shown, str(key(shown[-1])) if len(rows) > limit else None)

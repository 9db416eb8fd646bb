# mypy: disable-error-code="import-not-found, untyped-decorator"
"""Three durable no-op steps for Restate; served by Hypercorn, as its guide does, in the peers' own environment."""

from __future__ import annotations

import restate

bench = restate.Service("bench")


async def noop() -> None:
    """Does nothing, durably."""


@bench.handler("three")
async def three(ctx: restate.Context) -> str:
    """Three steps, each journalled before the next begins."""
    for name in ("first", "second", "third"):
        await ctx.run_typed(name, noop)
    return "done"


app = restate.app([bench])

"""`transform`: the value that its expressions make, as an output for other nodes to name. A step reads

    uses: transform
    with: {value: {id: "${{ nodes.customer.output.id }}", total: "${{ event.body.amount * 100 }}"}}

It has no effects, so its output is committed with the next commit of its run.
"""

from __future__ import annotations

from typing import Any

from executor.engine.registry import node


@node("transform", pure=True)
async def transform(value: Any) -> Any:
    """Its rendered `value`, of any JSON type."""
    return value

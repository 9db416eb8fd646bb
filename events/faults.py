"""Named points at which a test makes a process die, stop or fail. In production the table is empty and a point is one
look at it.

A test process installs an action before it starts the code under test (`install("run.commit.after", action)`); a worker
process under test gets them through `HEADRACE_TEST_FAULTS`, which only the test's own entry point reads.
"""

from __future__ import annotations

from collections.abc import Callable

_actions: dict[str, Callable[[str], None]] = {}


def point(name: str, detail: str = "") -> None:
    """A place where a fault may be injected. `detail` tells an action where it stands (a node's name, say)."""
    if _actions:
        action = _actions.get(name)
        if action is not None:
            action(detail)


def install(name: str, action: Callable[[str], None]) -> None:
    """Calls `action` whenever the point is passed. For tests."""
    _actions[name] = action


def clear() -> None:
    """Forgets all actions."""
    _actions.clear()

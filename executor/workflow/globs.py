"""Globs over the types of events: `*`, `?`, `[…]`, as in file names, and case matters."""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache


@lru_cache(maxsize=1024)
def pattern(glob: str) -> re.Pattern[str]:
    """The glob as a compiled pattern."""
    return re.compile(fnmatch.translate(glob))


def fits(glob: str, type: str) -> bool:
    """Whether the glob fits a type."""
    return glob == "*" or pattern(glob).match(type) is not None

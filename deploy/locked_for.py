"""Prints the part of requirements.lock that some of its packages need, hashes included.

    python deploy/locked_for.py                 what the project needs in production (no extras)
    python deploy/locked_for.py hatchling       what these packages need

So there is one lock, and an image holds no tests and no embedded servers. Who needs whom is read from uv's `# via`
comments. A comment that is wrong cannot harm: pip, told to require hashes, refuses a list with something missing.
Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def main(wanted: list[str]) -> None:
    """Prints the entries of `wanted`, or of the project's dependencies if it is empty, and of all they need."""
    if not wanted:
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    print("\n".join(closure((ROOT / "requirements.lock").read_text(), [_name(one) for one in wanted])))


def closure(lock: str, wanted: list[str]) -> list[str]:
    """The lock's entries that `wanted` names, and those whose `# via` names one of these, and so on.

    Raises:
        SystemExit: the lock does not hold what is wanted.
    """
    # A list: one package may have an entry for each of several platforms.
    entries = [(_name(entry), entry) for entry in re.split(r"\n(?=[A-Za-z0-9])", lock) if entry[0] != "#"]
    if missing := sorted(set(wanted) - {name for name, _ in entries}):
        raise SystemExit(f"requirements.lock: expected {', '.join(missing)}, got no such entry; `make lock`")
    needed: set[str] = set()
    found = set(wanted)
    while found:
        needed |= found
        found = {name for name, entry in entries if name not in needed and found & _parents(entry)}
    return [entry.rstrip() for name, entry in entries if name in needed]


def _parents(entry: str) -> set[str]:
    """Who needs this entry: the names of its comment, which has a line for each if there are several."""
    return {_name(line) for line in re.findall(r"^    #(?: via)? +(.+)$", entry, re.MULTILINE)}


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


if __name__ == "__main__":
    main(sys.argv[1:])

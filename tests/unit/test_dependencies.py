"""What the packages import is declared in pyproject.toml and has its line in docs/dependencies.md."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.unit.test_imports import PACKAGES, ROOT, imports, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Installed for the development machine alone, so only its commands may import them.
EMBEDDED = "executor.cli."


def declared(requirements: list[str]) -> set[str]:
    """The names of distributions in `requirements`, in the one form in which names are compared."""
    return {plain(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_declared() -> None:
    everywhere = declared(PROJECT["dependencies"])
    embedded = declared(PROJECT["optional-dependencies"]["embedded"])
    origins = packages_distributions()
    known = set(sys.stdlib_module_names) | set(PACKAGES)
    wrong, seen = [], set()
    for name, tree in modules():
        allowed = everywhere | embedded if name.startswith(EMBEDDED) else everywhere
        for line, imported in imports(tree):
            top = imported.partition(".")[0]
            if top in known:
                continue
            found = {plain(origin) for origin in origins.get(top, [])}
            seen |= found & allowed
            if not found & allowed:
                wrong.append(f"{name}:{line} imports {imported}, which is of {', '.join(sorted(found)) or 'nobody'}")
    assert not wrong, "declare it in pyproject.toml: " + "; ".join(wrong)
    assert len(seen) > 15, "the walk over the imports sees next to none of them"


def test_every_dependency_has_its_line_in_the_document() -> None:
    document = (ROOT / "docs" / "dependencies.md").read_text()
    rows = [line.split("|")[1] for line in document.splitlines() if line.startswith("| ")]
    named = {plain(name) for row in rows for name in re.findall(r"[\w-]+", row)}
    named |= {f"opentelemetry{name}" for name in named if name.startswith("-")}
    missing = declared(PROJECT["dependencies"]) - named
    assert not missing, f"say in docs/dependencies.md what it is for: {', '.join(sorted(missing))}"

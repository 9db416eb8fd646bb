"""The rule of imports: what each part of the tree may stand on. One look at the import graph keeps it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("events", "ingest", "executor", "migrations")

# (who, may not import, except in) — a prefix of module names each.
FENCES = [
    ("events", ("ingest", "executor", "migrations"), ()),
    ("ingest", ("executor", "migrations"), ()),
    # The command line is the one entry point above both services: it starts ingest, and applies and signs for sources.
    ("executor", ("ingest", "migrations"), ("executor.cli",)),
    # Nothing imports the roots but entry points.
    ("executor.engine", ("executor.worker", "executor.cli"), ()),
    ("executor.nodes", ("executor.worker", "executor.cli"), ()),
    ("executor.worker", ("executor.cli",), ()),
    # The pure core: no I/O, no clock, no framework.
    (
        "executor.workflow",
        (
            "executor.engine",
            "executor.worker",
            "executor.cli",
            "executor.nodes",
            "asyncio",
            "asyncpg",
            "sqlalchemy",
            "redis",
            "dramatiq",
            "httpx2",
            "litestar",
            "socket",
            "subprocess",
            "threading",
            "time",
            "random",
            "structlog",
            "opentelemetry",
        ),
        (),
    ),
    (
        "ingest.verify",
        ("asyncio", "asyncpg", "sqlalchemy", "redis", "litestar", "socket", "time", "structlog"),
        (),
    ),
    # SQL stands in `events`.
    ("ingest", ("asyncpg", "sqlalchemy"), ()),
    ("executor", ("asyncpg", "sqlalchemy"), ("executor.cli",)),
    # The spool is ingest's own file, where the database is away: its SQL is nobody else's.
    ("", ("sqlite3",), ("ingest.spool_store", "ingest.spool_place", "ingest.spool_look")),
    # Dramatiq is the doorbell and the worker.
    ("", ("dramatiq",), ("events.doorbell", "executor.worker", "executor.cli")),
    # The web framework is at the edge.
    ("", ("litestar", "uvicorn"), ("ingest.app", "ingest.protocol", "executor.console", "executor.cli")),
    # The Redis client is where Redis is.
    (
        "",
        ("redis",),
        (
            "events.beats",
            "events.doorbell",
            "executor.engine.snapshots",
            "executor.engine.cache_store",
            "executor.engine.live",
            "executor.console.wakeups",
            "executor.worker.relay",
            "executor.cli",
        ),
    ),
    # The SDK is loaded where telemetry is switched on.
    ("", ("opentelemetry",), ("events.otel", "events.otel_spans", "events.otel_exporter")),
]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text(), path)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every import, the late ones too, except those for the type checker alone."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def inside(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize(
    ("who", "forbidden", "but"), FENCES, ids=[f"{who or 'all'}-{what[0]}" for who, what, _ in FENCES]
)
def test_fence(who: str, forbidden: tuple[str, ...], but: tuple[str, ...]) -> None:
    wrong = [
        f"{name}:{line} imports {imported}"
        for name, tree in modules()
        if inside(name, who) and not any(inside(name, prefix) for prefix in but)
        for line, imported in imports(tree)
        if any(inside(imported, prefix) for prefix in forbidden)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_environment_is_read_at_the_roots_only() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        if not inside(name, "executor.cli")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and ast.unparse(node.value) == "os"
    ]
    assert not wrong, "os.environ is read by the composition roots and handed down: " + ", ".join(wrong)

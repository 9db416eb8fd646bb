"""`headrace spool` tells what lies in a spool, beside the process that owns it, and changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.definitions import SourceRow
from events.headers import encode_headers
from events.types import Receipt
from executor.cli.main import main
from ingest.spool_rows import encode
from ingest.spool_statements import VERSION
from ingest.spool_store import Store
from tests.rows import receipt

REASON = "the log does not take it: \x1b[2Jnumber out of range"


@pytest.fixture
def rows() -> list[Receipt]:
    refused, waiting = receipt(body=b'{"a": "\\u001b"}'), receipt(body=b"waits")
    headers = encode_headers([(b"x-kind", b"\x1b[31mred"), (b"authorization", b"[redacted]")])
    return [msgspec.structs.replace(refused, headers=headers), waiting]


@pytest.fixture
def store(tmp_path: Path, rows: list[Receipt], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An ingest's spool, open; the first row was refused."""
    monkeypatch.setenv("HEADRACE_SPOOL_DIR", str(tmp_path / "a spool"))
    monkeypatch.delenv("HEADRACE_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "a spool")
    store.insert(rows, [encode(row) for row in rows])
    store.refuse(1, REASON)
    yield store
    store.close()


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["spool", *arguments])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status, out, err = typed(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_what_waits_is_counted_and_what_was_refused_is_listed(
    store: Store, rows: list[Receipt], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = typed(capsys, "list")
    assert status == 0
    assert str(rows[0].stream_id) in out
    assert "number out of range" in out
    assert str(rows[1].stream_id) not in out
    assert "1 waiting (the oldest since " in err
    assert "1 refused; " in err
    found = document(capsys, "list")
    assert (found["waiting"], found["refused"], found["size"]) == (1, 1, store.size)
    assert found["oldest"] == store.oldest
    assert [one["refused"] for one in found["rows"]] == [REASON]


def test_a_source_has_the_name_that_the_owner_knew(
    store: Store, rows: list[Receipt], capsys: pytest.CaptureFixture[str]
) -> None:
    source = SourceRow(rows[0].source_id, 1, "shop", {}, (b"sealed",))
    store.remember("sources", msgspec.msgpack.encode([source]))
    status, out, _ = typed(capsys, "list")
    assert (status, "shop" in out) == (0, True)
    assert "sealed" not in typed(capsys, "show", str(rows[0].stream_id), "--json")[1]
    store.remember("sources", b"of another version")
    assert f"number {rows[0].source_id}" in typed(capsys, "list")[1]


def test_one_is_shown_and_the_terminal_obeys_nothing(
    store: Store, rows: list[Receipt], capsys: pytest.CaptureFixture[str]
) -> None:
    id = str(rows[0].stream_id)
    _, brief, _ = typed(capsys, "show", id)
    assert "refused by the log" in brief
    assert "x-kind" not in brief
    assert '{"a"' not in brief
    _, text, _ = typed(capsys, "show", id, "--headers", "--body")
    assert "authorization: [redacted]" in text
    assert '{"a"' in text
    assert "\x1b" not in text
    found = document(capsys, "show", id, "--headers", "--body")
    assert (found["readable"], found["refused"]) == (True, REASON)
    assert found["headers"] == [["x-kind", "\x1b[31mred"], ["authorization", "[redacted]"]]
    assert found["body"] == {"json": {"a": "\x1b"}}
    assert "waits for the log" in typed(capsys, "show", str(rows[1].stream_id))[1]


def test_a_look_changes_nothing_and_hinders_nobody(
    store: Store, rows: list[Receipt], capsys: pytest.CaptureFixture[str]
) -> None:
    typed(capsys, "list")
    more = receipt()
    store.insert([more], [encode(more)])
    assert document(capsys, "list")["waiting"] == 2
    store.close()
    try:
        found = document(capsys, "list")  # the owner is gone
        assert (found["waiting"], found["refused"]) == (2, 1)
    finally:
        again = Store(store.path.parent)
        store._sqlite, store._lock = again._sqlite, again._lock
    assert again.rows == 3  # what was refused is tried again


def test_what_the_disk_damaged_is_shown_as_far_as_it_goes(
    store: Store, rows: list[Receipt], capsys: pytest.CaptureFixture[str]
) -> None:
    store._sqlite.execute("UPDATE delivery SET receipt = x'00' WHERE seq = 1")
    status, out, _ = typed(capsys, "show", str(rows[0].stream_id), "--headers", "--body")
    assert (status, "cannot be read" in out) == (0, True)
    assert document(capsys, "show", str(rows[0].stream_id), "--body")["readable"] is False


def test_faults_say_what_to_do(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(receipt().stream_id)
    status, _, err = typed(capsys, "show", missing)
    assert (status, f"`headrace events {missing}`" in err) == (1, True)
    monkeypatch.setenv("HEADRACE_SPOOL_DIR", str(tmp_path / "none"))
    assert "no spool lies in" in typed(capsys, "list")[2]
    assert not (tmp_path / "none").exists()
    monkeypatch.delenv("HEADRACE_SPOOL_DIR")
    assert "set HEADRACE_SPOOL_DIR" in typed(capsys, "list")[2]

    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("HEADRACE_SPOOL_DIR", str(other))
    (other / "spool.db").write_bytes(b"")
    assert document(capsys, "list")["waiting"] == 0
    with sqlite3.connect(other / "spool.db") as newer:
        newer.execute(f"PRAGMA user_version = {VERSION + 1}")
    newer.close()
    assert "of a newer Headrace" in typed(capsys, "list")[2]
    (other / "spool.db").write_bytes(b"no database at all" * 300)
    assert "expected a sound file" in typed(capsys, "list")[2]

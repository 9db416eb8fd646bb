"""Whatever is asked, logged, traced or stored: no secret of a source or an endpoint is in it, in no usual writing."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
import redis

from executor.cli.main import main
from ingest.signing import sign
from tests.collector import Collector
from tests.integration.http_server import http_server
from tests.system import SECRET_KEY, System, until

pytestmark = pytest.mark.anyio

MARK = "marker-that-is-no-secret"
"""Sent along in headers and bodies: it must be found where a secret must not, or the search sees nothing."""

SECRETS = {
    "GITHUB": "gh-Secret/with+signs~1",
    "GITHUB_OLD": "gh-Ended-secret~2",
    "STANDARD": "whsec_" + base64.b64encode(b"standard-Secret-key-3333").decode(),
    "BEARER": "bearer-Secret-token-4",
    "HEADER_KEY": "header-Secret-key-5",
    "QUERY_KEY": "query-Secret-key-6",
    "BASIC": "user-name:basic-Secret-pass-7",
    "VERIFY_TOKEN": "handshake-Secret-token-8",
    "META": "meta-Secret-app-9",
    "CRM": "whsec_" + base64.b64encode(b"endpoint-Secret-key-1010").decode(),
}

DEFINITIONS = """
{source: hub, preset: github, secrets: [{env: GITHUB}, {env: GITHUB_OLD, until: 2020-01-01T00:00:00Z}]}
---
{source: std, preset: standard, secrets: [{env: STANDARD}]}
---
{source: bearer, preset: generic, verify: {scheme: bearer}, secrets: [{env: BEARER}]}
---
{source: header, preset: generic, verify: {scheme: apikey, header: X-Their-Own}, secrets: [{env: HEADER_KEY}]}
---
{source: query, preset: generic, verify: {scheme: apikey, query: pass}, secrets: [{env: QUERY_KEY}]}
---
{source: basic, preset: generic, verify: {scheme: basic}, secrets: [{env: BASIC}]}
---
{source: meta, preset: meta, secrets: [{env: META}, {env: VERIFY_TOKEN, for: handshake}]}
---
{endpoint: crm, url: '%s', secret: {env: CRM}}
---
workflow: send
on: [{source: hub}]
nodes: {out: {uses: webhook.deliver, with: {endpoint: crm, body: "${{ event.body }}"}}}
"""

Sent = tuple[int, str, dict[str, str], bytes]
"""Expected status, path and query, headers, body."""


def writings(secret: str) -> set[str]:
    """How a secret might be written: as it is, its key, base64 at any offset, hex, escaped for a URL or JSON."""
    plain = {secret}
    if secret.startswith("whsec_"):
        plain |= {secret.removeprefix("whsec_"), base64.b64decode(secret.removeprefix("whsec_")).decode()}
    if ":" in secret:
        plain.add(secret.partition(":")[2])
    found = set(plain)
    for text in plain:
        raw = text.encode()
        found |= {quote(text, safe=""), json.dumps(text)[1:-1]}
        for offset in range(3):
            inner = base64.b64encode(b"\0" * offset + raw).decode()[4 if offset else 0 :].rstrip("=")[:-1]
            found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return found | {text.encode().hex() for text in found}


def shown_in(haystack: str) -> set[str]:
    """The names of the secrets that can be read in a text."""
    lower = haystack.lower()
    return {
        name
        for name, secret in SECRETS.items()
        for writing in writings(secret)
        if writing in haystack or (len(writing) > 2 and set(writing) <= set("0123456789abcdef") and writing in lower)
    }


def good(body: bytes) -> Iterator[Sent]:
    """A delivery to every source, as its sender makes it, and a greeting."""
    now = time.time()
    named = {"X-Delivery-Id": "1", "X-Event-Type": "t", "X-Mark": MARK}
    yield 202, "/in/hub", dict(sign("github", SECRETS["GITHUB"], "push", "1", body, now)), body
    yield 202, "/in/std", dict(sign("standard", SECRETS["STANDARD"], "t", "1", body, now)), body
    yield 202, "/in/bearer", named | {"Authorization": f"Bearer {SECRETS['BEARER']}"}, body
    yield 202, "/in/header", named | {"X-Their-Own": SECRETS["HEADER_KEY"]}, body
    yield 202, f"/in/query?pass={quote(SECRETS['QUERY_KEY'])}", named, body
    yield 202, f"/in/query?%70ass={quote(SECRETS['QUERY_KEY'])}", named | {"X-Delivery-Id": "2"}, body
    yield 202, "/in/basic", named | {"Authorization": basic()}, body


def bad(body: bytes) -> Iterator[Sent]:
    """Refused, with true secrets in the wrong place."""
    now = time.time()
    marked = {"X-Mark": MARK}
    ended = dict(sign("github", SECRETS["GITHUB_OLD"], "push", "2", body, now))
    yield 401, "/in/hub", ended, body
    yield 401, f"/in/hub?access_token={quote(SECRETS['BEARER'])}&{quote(SECRETS['GITHUB'])}", marked, body
    yield 401, "/in/bearer", marked | {"Authorization": f"Token {SECRETS['BEARER']}"}, body
    yield 401, "/in/bearer", marked | {"Authorization": basic()}, body
    yield 401, "/in/header", marked | {"X-Their-Own": SECRETS["HEADER_KEY"] + "x"}, body
    yield 401, f"/in/query?pass={quote(SECRETS['QUERY_KEY'])}&pass=2", marked, body
    yield 401, "/in/basic", marked | {"Authorization": f"Bearer {SECRETS['BASIC']}"}, body
    yield 401, "/in/std", dict(sign("standard", SECRETS["CRM"], "t", "3", body, now)), body


def basic() -> str:
    return "Basic " + base64.b64encode(SECRETS["BASIC"].encode()).decode()


async def dump(url: str) -> str:
    """Every row of every table, as text; bytes are hex."""
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        return "\n".join(
            [str(row[0]) for (name,) in names for row in await connection.fetch(f"SELECT t::text FROM {name} AS t")]
        )
    finally:
        await connection.close()


def redis_dump(*urls: str) -> str:
    """Every key and, as hex, what is under it."""
    said = []
    for url in urls:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter():
                said.append(key.decode("latin-1") + " " + (client.dump(key) or b"").hex())
    return "\n".join(said)


def test_the_search_finds_every_writing() -> None:
    for name, secret in SECRETS.items():
        raw = secret.encode()
        for text in (
            f"x{secret}y",
            base64.b64encode(b"ab" + raw + b"cd").decode(),
            base64.urlsafe_b64encode(b"a" + raw + b"c").decode(),
            raw.hex(),
            raw.hex().upper(),
            base64.b64encode(b"user:" + raw).hex(),
            f"?a={quote(secret, safe='')}",
        ):
            assert name in shown_in(text), text
    assert shown_in("nothing of the kind, gh-Secret, bearer-Secret") == set()


async def test_no_secret_is_shown_logged_traced_or_stored(
    system: System, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"event": "order.paid", "mark": MARK}).encode()
    everything: dict[str, str] = {}
    with Collector() as collector:
        system.environment |= collector.environ | {"HEADRACE_LOG_LEVEL": "debug"}
        for name, value in (system.environment | SECRETS).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)

        async def type_command(*arguments: str) -> str:
            """What a command shows, also as JSON."""
            for more in ((), ("--json",)):
                status: list[object] = []

                def run(more: tuple[str, ...] = more, status: list[object] = status) -> None:
                    try:
                        main((*arguments, *more))
                    except SystemExit as ended:
                        status.append(ended.code)

                await asyncio.to_thread(run)
                shown = capsys.readouterr()
                assert status in ([0], [None]), (arguments, more, shown.err)
                everything[" ".join(("headrace", *arguments, *more))] = shown.out + shown.err
            return shown.out

        async with http_server() as server:
            file = tmp_path / "definitions.yaml"
            file.write_text(DEFINITIONS.replace("%s", f"{server.url}/crm"))
            await type_command("apply", str(file))
            await system.ingest()
            system.relay()
            await system.worker().says("worker.started")
            for status, path, headers, content in (*good(body), *bad(body)):
                answer = await system._client.post(f"{system.url}{path}", content=content, headers=headers)
                assert answer.status_code == status, (path, answer.text)
                everything[f"answer to {path.partition('?')[0]} {status} {time.monotonic_ns()}"] = answer.text
            token = quote(SECRETS["VERIFY_TOKEN"])
            greeting = f"hub.mode=subscribe&hub.challenge=123&hub.verify_token={token}"
            greeted = await system._client.get(f"{system.url}/in/meta?{greeting}")
            assert (greeted.status_code, greeted.text) == (200, "123")
            await system.until_quiet()
            await until(lambda: _called(server.asked), "the endpoint was called")
            collector.spans(lambda seen: any(span.name == "node webhook.deliver" for span in seen))

        for listing in ("events", "runs"):
            lines = (await type_command(listing)).splitlines()
            for line in lines:
                more = ("--headers", "--body") if listing == "events" else ()
                await type_command(listing, json.loads(line)["id"], *more)
        await type_command("secrets", "list")
        await type_command("secrets", "reseal")
        lines = (await type_command("rejected", "list")).splitlines()
        assert len(lines) == len(list(bad(body)))
        for line in lines:
            await type_command("rejected", "show", json.loads(line)["id"], "--headers", "--body")
        await type_command("rejected", "recheck", "--dry-run")
        await type_command("rejected", "recheck")
        await type_command("apply", str(file))
        everything["the database"] = await dump(system.environment["HEADRACE_DATABASE_URL"])
        everything["Redis"] = await asyncio.to_thread(
            redis_dump, system.environment["HEADRACE_REDIS_URL"], system.environment["HEADRACE_STATE_REDIS_URL"]
        )
        for log in tmp_path.glob("*.log"):
            everything[log.name] = log.read_text()
        everything["spans"] = "\n".join(map(str, collector.spans(bool)))

    shown = {where: found for where, said in everything.items() if (found := shown_in(said))}
    assert shown == {}
    assert not any(SECRET_KEY in said for said in everything.values())
    # The same search of the same places finds what was sent beside the secrets.
    found = {where for where, said in everything.items() if MARK in said or MARK.encode().hex() in said}
    assert "the database" in found
    assert sum(where.startswith("headrace events 0") for where in found) >= len(list(good(body)))
    assert sum(where.startswith("headrace rejected show") for where in found) >= len(lines)
    assert "node webhook.deliver" in everything["spans"]
    assert "delivery.refused" in "".join(said for where, said in everything.items() if where.startswith("ingest"))


async def _called(asked: Sequence[object]) -> bool:
    return bool(asked)

"""Refused requests come back once their source was corrected, each once; and secrets change their key."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from events.database import Database
from events.definitions import sources
from events.headers import encode_headers
from events.rejections import HOUR
from events.secretbox import SecretBox
from executor.cli.main import main
from ingest.rejections import Rejections
from ingest.signing import sign
from ingest.verify.base import Incoming, headers_of
from tests.system import SECRET_KEY, System, until

pytestmark = pytest.mark.anyio

RIGHT, WRONG = "the right secret", "the wrong secret"
OTHER_KEY = base64.b64encode(b"o" * 32).decode()
SHOP = "{source: shop, preset: github, secrets: [{value: '%s'}]}"

Headrace = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def headrace(
    system: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Headrace:
    """Types a command; answers status, stdout and stderr. `key`: secret_key for this and the commands after it."""
    monkeypatch.chdir(tmp_path)
    for name, value in system.environment.items():
        monkeypatch.setenv(name, value)

    async def type_command(*arguments: str, key: str | None = None) -> tuple[int, str, str]:
        if key is not None:
            monkeypatch.setenv("HEADRACE_SECRET_KEY", key)
        status = 0

        def run() -> None:
            nonlocal status
            try:
                main(arguments)
            except SystemExit as ended:
                status = int(ended.code or 0)

        await asyncio.to_thread(run)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return type_command


async def done(headrace: Headrace, *arguments: str, **more: Any) -> list[dict[str, Any]]:
    """Types a command with --json that must succeed; its lines."""
    status, out, err = await headrace(*arguments, "--json", **more)
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


async def apply(headrace: Headrace, tmp_path: Path, *documents: str, **more: Any) -> list[str]:
    (tmp_path / "definitions.yaml").write_text("\n---\n".join(documents))
    return [line["what"] for line in await done(headrace, "apply", str(tmp_path / "definitions.yaml"), **more)]


class Door:
    """Keeps requests for a source as ingest does when it refuses them."""

    def __init__(self, system: System, database: Database) -> None:
        self._system = system
        self._database = database

    async def refuse(
        self,
        slug: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        query: bytes = b"",
        ago: float = 0.0,
        key: str | None = SECRET_KEY,
        method: str = "POST",
    ) -> UUID:
        """`ago`: how many seconds before now it came."""
        (id,) = [row.id for row in await sources(self._system.database) if row.slug == slug]
        raw = [(name.lower().encode(), value.encode()) for name, value in headers]
        rejections = Rejections(self._database, SecretBox(key) if key else None, 100, 1 << 20, retention=HOUR)
        kept = await rejections.keep(
            workspace_id=1,
            source_id=id,
            slug=slug,
            incoming=Incoming(method, f"/in/{slug}", query, headers_of(raw), body, "192.0.2.7"),
            raw_headers=raw,
            redacted_headers=encode_headers(
                [(name, b"[redacted]" if name == b"authorization" else value) for name, value in raw]
            ),
            reason="no signature matches",
            now=self._database.clock.now() - ago,
        )
        assert kept is not None
        return kept

    async def refuse_github(self, body: bytes, delivery: str = "d", **more: Any) -> UUID:
        """To `shop`, signed with the right secret."""
        return await self.refuse("shop", sign("github", RIGHT, "push", delivery, body, time.time()), body, **more)


@pytest.fixture
async def door(system: System) -> Any:
    database = Database(system.environment["HEADRACE_DATABASE_URL"], "ingest")
    await database.open()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        yield Door(system, database)


async def test_after_a_secret_is_corrected_what_was_refused_is_admitted_once(
    system: System, headrace: Headrace, door: Door, tmp_path: Path
) -> None:
    await apply(headrace, tmp_path, SHOP % WRONG)
    ids = [await door.refuse_github(b'{"n": %d}' % n, f"d{n}") for n in range(3)]
    listed = await done(headrace, "rejected", "list")
    assert [(line["id"], line["state"], line["source"]) for line in listed] == [
        (str(id), "refused", "shop") for id in sorted(ids, reverse=True)
    ]
    for line in await done(headrace, "rejected", "recheck"):
        assert (line["result"], line["reason"]) == ("refused", "no signature matches")

    assert await apply(headrace, tmp_path, SHOP % RIGHT) == ["changed"]
    tried = await done(headrace, "rejected", "recheck", "--source", "shop", "--dry-run")
    assert [(line["result"], line["delivery"]) for line in tried] == [("admitted", None)] * 3
    assert await system.count("SELECT count(*) FROM event") == 0

    results = await done(headrace, "rejected", "recheck", "--source", "shop")
    assert [line["id"] for line in results] == [str(id) for id in ids]  # in the order in which they came
    assert {line["result"] for line in results} == {"admitted"}
    assert await system.count("SELECT count(*) FROM work_item") == 3
    for number, line in enumerate(results):
        ((event,),) = [await done(headrace, "events", line["delivery"], "--body", "--headers")]
        assert event["body"] == {"json": {"n": number}}
        facts = event["metadata"]
        assert (facts["rejected"], facts["source"], facts["event_type"]) == (line["id"], "shop", "push")
        assert facts["delivery_id"] == f"d{number}"
        assert "@" in facts["admitted_by"]
        assert facts["received_at"] == pytest.approx(time.time(), abs=60)
        ((shown,),) = [await done(headrace, "rejected", "show", line["id"], "--body")]
        assert (shown["state"], shown["admitted_as"], shown["body"]) == (
            "admitted",
            line["delivery"],
            {"json": {"n": number}},
        )

    assert await done(headrace, "rejected", "recheck") == []
    again = await done(headrace, "rejected", "recheck", *map(str, ids))
    assert again == [result | {"earlier": True} for result in results]
    _, out, err = await headrace("rejected", "recheck", *map(str, ids))
    assert out.count("was admitted before, as") == len(ids)
    assert f"{len(ids)} checked: 0 admitted, 0 duplicate, 0 still refused, {len(ids)} dealt with before" in err
    assert await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 3


async def test_what_the_sender_has_sent_again_meanwhile_is_a_duplicate(
    system: System, headrace: Headrace, door: Door, tmp_path: Path
) -> None:
    await apply(headrace, tmp_path, SHOP % RIGHT)
    await system.ingest()
    first, twice = [await door.refuse_github(b"{}", "same") for _ in range(2)]
    other = [await door.refuse_github(b"{}", "other") for _ in range(2)]
    headers = dict(sign("github", RIGHT, "push", "same", b"{}", time.time()))
    answer = (await system._client.post(f"{system.url}/in/shop", content=b"{}", headers=headers)).json()

    tried = await done(headrace, "rejected", "recheck", str(first), "--dry-run")
    assert [(line["result"], line["delivery"]) for line in tried] == [("duplicate", answer["id"])]
    results = await done(headrace, "rejected", "recheck")
    assert [line["result"] for line in results] == ["duplicate", "duplicate", "admitted", "duplicate"]
    assert {line["delivery"] for line in results[:2]} == {answer["id"]}
    assert results[2]["delivery"] == results[3]["delivery"] != answer["id"]
    states = {line["id"]: line["state"] for line in await done(headrace, "rejected", "list")}
    assert [states[str(id)] for id in (first, twice, *other)] == ["duplicate", "duplicate", "admitted", "duplicate"]
    assert await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 2


async def test_a_command_that_is_killed_before_its_note_is_typed_again(
    system: System, headrace: Headrace, door: Door, tmp_path: Path
) -> None:
    await apply(headrace, tmp_path, SHOP % RIGHT)
    ids = [await door.refuse_github(b"{}", f"d{n}") for n in range(3)]
    killed = system.process("recheck", "rejected", "recheck", faults="rejected.appended@2=kill")
    await killed.dies(signal.SIGKILL)
    assert await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 2
    assert await system.count("SELECT count(*) FROM rejected WHERE admitted_as IS NOT NULL") == 1

    results = await done(headrace, "rejected", "recheck")
    assert [(line["id"], line["result"]) for line in results] == [(str(id), "admitted") for id in ids[1:]]
    assert await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 3
    assert await system.count("SELECT count(DISTINCT admitted_as) FROM rejected") == 3
    assert await system.count("SELECT count(*) FROM work_item") == 3


async def test_what_is_admitted_runs(system: System, headrace: Headrace, door: Door, tmp_path: Path) -> None:
    node = f"{{uses: test.record, with: {{path: '{system.record}'}}}}"
    workflow = f"{{workflow: w, on: [{{source: shop}}], nodes: {{n: {node}}}}}"
    await apply(headrace, tmp_path, SHOP % RIGHT, workflow)
    system.worker()
    system.relay()
    await door.refuse_github(b"{}")
    (line,) = await done(headrace, "rejected", "recheck")
    await system.until_quiet()
    (run,) = await done(headrace, "runs")
    assert (run["delivery_id"], run["status"]) == (line["delivery"], "completed")


async def test_without_redis_it_is_admitted_all_the_same(
    system: System, headrace: Headrace, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(headrace, tmp_path, SHOP % RIGHT)
    await door.refuse_github(b"{}")
    monkeypatch.setenv("HEADRACE_REDIS_URL", "redis://127.0.0.1:1/0")
    status, out, err = await headrace("rejected", "recheck")
    assert status == 0
    assert "admitted as" in out
    assert "no doorbell" in err
    assert "1 checked: 1 admitted, 0 duplicate, 0 still refused" in err


async def test_a_request_is_judged_at_the_time_at_which_it_came(
    system: System, headrace: Headrace, door: Door, tmp_path: Path
) -> None:
    stripe = f"{{source: shop, preset: stripe, secrets: [{{value: '{RIGHT}'}}]}}"
    await apply(headrace, tmp_path, stripe)
    fresh, stale = b'{"id": "evt_1", "type": "t"}', b'{"id": "evt_2", "type": "t"}'
    hour_ago = time.time() - HOUR
    passes = await door.refuse("shop", sign("stripe", RIGHT, "t", "", fresh, hour_ago - 10), fresh, ago=HOUR)
    stays = await door.refuse("shop", sign("stripe", RIGHT, "t", "", stale, hour_ago - 900), stale, ago=HOUR)
    results = {line["id"]: line for line in await done(headrace, "rejected", "recheck")}
    assert results[str(passes)]["result"] == "admitted"
    assert results[str(stays)]["result"] == "refused"
    assert re.fullmatch(r"the timestamp is 9\d\d s old; at most 300 s are accepted", results[str(stays)]["reason"])
    status, out, _ = await headrace("rejected", "recheck")
    assert status == 0
    assert f"still refused: {results[str(stays)]['reason']}" in out


async def test_a_secret_that_had_ended_does_not_pass_afterwards(headrace: Headrace, door: Door, tmp_path: Path) -> None:
    end = datetime.fromtimestamp(int(time.time()) - HOUR, UTC)
    old = f"{{value: '{RIGHT}', until: {end.isoformat()}}}"
    await apply(headrace, tmp_path, f"{{source: shop, preset: github, secrets: [{{value: new}}, {old}]}}")
    before = await door.refuse_github(b"{}", "1", ago=HOUR + 60)
    after = await door.refuse_github(b"{}", "2", ago=HOUR - 60)
    results = {line["id"]: line for line in await done(headrace, "rejected", "recheck")}
    assert results[str(before)]["result"] == "admitted"
    assert results[str(after)]["reason"] == f"the secret that matches ended at {end:%Y-%m-%d %H:%M:%S} UTC"


async def test_who_is_refused_is_told_under_which_id_staff_finds_it(
    system: System, headrace: Headrace, tmp_path: Path
) -> None:
    bearer = "{source: shop, preset: generic, verify: {scheme: bearer}, secrets: [{value: '%s'}]}"
    await apply(headrace, tmp_path, bearer % WRONG)
    await system.ingest()
    headers = {"Authorization": "Bearer right", "X-Delivery-Id": "1", "X-Event-Type": "t"}
    answer = await system._client.post(f"{system.url}/in/shop?q=1", content=b'{"a": 1}', headers=headers)
    assert answer.status_code == 401
    id = answer.json()["rejected"]
    ((shown,),) = [await done(headrace, "rejected", "show", id, "--headers", "--body")]
    assert shown["body"] == {"json": {"a": 1}}
    assert ["authorization", "[redacted]"] in shown["headers"]
    assert shown["metadata"]["query"] == "q=[redacted]"
    await apply(headrace, tmp_path, bearer % "right")
    (line,) = await done(headrace, "rejected", "recheck", id)
    assert line["result"] == "admitted"


async def test_a_token_is_checked_again_and_never_shown(
    system: System, headrace: Headrace, door: Door, tmp_path: Path
) -> None:
    token = "a-token-that-nobody-sees"
    bearer = "{source: shop, preset: generic, verify: {scheme: bearer}, secrets: [{value: '%s'}]}"
    await apply(headrace, tmp_path, bearer % WRONG)
    headers = [("Authorization", f"Bearer {token}"), ("X-Delivery-Id", "1"), ("X-Event-Type", "t")]
    sealed = await door.refuse("shop", headers, b"{}", query=b"access_token=" + token.encode())
    bare = await door.refuse("shop", headers, b"[]", key=None)
    blind = await door.refuse("shop", headers, b"[]", query=b"q=1", key=None)
    foreign = await door.refuse("shop", headers, b"[]", key=OTHER_KEY)
    await apply(headrace, tmp_path, bearer % token)
    results = {line["id"]: line for line in await done(headrace, "rejected", "recheck")}
    assert results[str(sealed)]["result"] == "admitted"
    assert results[str(bare)]["reason"] == "header Authorization does not begin with Bearer"
    assert results[str(blind)]["reason"] == "its query was not kept: there was no secret_key when it came"
    assert "expected the key that sealed this" in results[str(foreign)]["reason"]
    for arguments in (["list"], ["show", str(sealed), "--headers", "--body"], ["recheck"]):
        for more in ([], ["--json"]):
            status, out, err = await headrace("rejected", *arguments, *more)
            assert status == 0
            assert token not in out + err


async def test_a_greeting_is_not_admitted(system: System, headrace: Headrace, door: Door, tmp_path: Path) -> None:
    slack = f"{{source: shop, preset: slack, secrets: [{{value: '{RIGHT}'}}]}}"
    await apply(headrace, tmp_path, slack)
    now = str(int(time.time()))
    for body in (b'{"type": "url_verification", "challenge": "c"}', b'{"event_id": "1", "event": {"type": "t"}}'):
        signature = dict(sign("generic", RIGHT, "", "", b"v0:%b:%b" % (now.encode(), body), 0))["X-Signature"]
        headers = [("X-Slack-Signature", f"v0={signature}"), ("X-Slack-Request-Timestamp", now)]
        await door.refuse("shop", headers, body)
        await door.refuse("shop", headers, body, method="GET")
    results = await done(headrace, "rejected", "recheck")
    assert [line["result"] for line in results] == ["refused", "refused", "admitted", "refused"]
    assert results[0]["reason"].startswith("it was a greeting")
    assert results[3]["reason"].startswith("a GET delivers nothing here")


async def test_the_relay_deletes_what_is_old(
    system: System, headrace: Headrace, door: Door, tmp_path: Path, database_url: str
) -> None:
    await apply(headrace, tmp_path, SHOP % RIGHT)
    await door.refuse_github(b"old")
    owner = await asyncpg.connect(database_url)
    await owner.execute("UPDATE rejected SET recorded_at = recorded_at - interval '71 hours'")
    await owner.close()
    young = await door.refuse_github(b"young")
    system.environment["HEADRACE_REJECTED_RETENTION"] = "70h"
    system.relay()

    async def deleted() -> bool:
        return await system.count("SELECT count(*) FROM rejected") == 1

    await until(deleted, "the relay has deleted the old one")
    assert [line["id"] for line in await done(headrace, "rejected", "list")] == [str(young)]


async def test_what_is_not_there_is_one_line(headrace: Headrace, tmp_path: Path) -> None:
    missing = "019a1b2c-3d4e-7f50-8a6b-7c8d9e0f1a2b"
    for arguments, said in (
        (["show", missing], "no refused request has the id"),
        (["recheck", missing], "no refused request has the id"),
        (["list", "--source", "none"], "no source has the name 'none'"),
        (["recheck", "--source", "none"], "no source has the name 'none'"),
    ):
        status, out, err = await headrace("rejected", *arguments)
        assert (status, out) == (1, "")
        assert said in err
        assert len(err.splitlines()) == 1
    status, _, err = await headrace("rejected", "recheck", missing, "--source", "x")
    assert (status, "expected ids or --source" in err) == (2, True)
    assert (await headrace("rejected", "list"))[2] == "no refused requests\n"


ENDPOINT = "{endpoint: crm, url: 'https://crm.example', secret: {value: crm-secret}}"
TWO = (
    "{source: shop, preset: github, secrets: [{value: first}, {value: old, until: 2030-01-02T03:04:05Z}]}",
    "{source: quiet, preset: none}",
    ENDPOINT,
)


async def test_a_key_is_changed_without_a_gap(system: System, headrace: Headrace, tmp_path: Path) -> None:
    assert await apply(headrace, tmp_path, *TWO) == ["added"] * 3
    before = await done(headrace, "secrets", "list")
    assert [(line["kind"], line["name"], line["label"], line["until"], line["current"]) for line in before] == [
        ("source", "shop", "secrets[0]", None, True),
        ("source", "shop", "secrets[1]", 1893553445.0, True),
        ("endpoint", "crm", "-", None, True),
    ]
    both = f"{OTHER_KEY},{SECRET_KEY}"
    between = await done(headrace, "secrets", "list", key=both)
    assert [line["current"] for line in between] == [False] * 3
    assert [line["key"] for line in between] == [line["key"] for line in before]

    epoch = await system.count("SELECT epoch FROM config")
    resealed = await done(headrace, "secrets", "reseal")
    assert {(line["name"], line["what"]) for line in resealed} == {
        ("shop", "resealed"),
        ("quiet", "unchanged"),
        ("crm", "resealed"),
    }
    assert await system.count("SELECT epoch FROM config") == epoch + 1
    assert {line["what"] for line in await done(headrace, "secrets", "reseal")} == {"unchanged"}
    assert await system.count("SELECT epoch FROM config") == epoch + 1

    after = await done(headrace, "secrets", "list", key=OTHER_KEY)
    assert [line["current"] for line in after] == [True] * 3
    assert len({line["key"] for line in (*before, *after)}) == 2
    assert await apply(headrace, tmp_path, *TWO) == ["unchanged"] * 3  # all open with the new key alone


async def test_an_apply_seals_anew_what_an_older_key_has_sealed(
    system: System, headrace: Headrace, tmp_path: Path
) -> None:
    await apply(headrace, tmp_path, *TWO)
    epoch = await system.count("SELECT epoch FROM config")
    assert await apply(headrace, tmp_path, *TWO, key=f"{OTHER_KEY},{SECRET_KEY}") == [
        "resealed",
        "unchanged",
        "resealed",
    ]
    assert await system.count("SELECT epoch FROM config") == epoch + 1
    assert await apply(headrace, tmp_path, *TWO, key=OTHER_KEY) == ["unchanged"] * 3
    changed = (*TWO[:2], ENDPOINT.replace("crm-secret", "another"))
    assert await apply(headrace, tmp_path, *changed, key=f"{SECRET_KEY},{OTHER_KEY}") == [
        "resealed",
        "unchanged",
        "changed",
    ]


async def test_a_secret_that_no_key_opens_leaves_all_as_it_was(
    system: System, headrace: Headrace, tmp_path: Path
) -> None:
    await apply(headrace, tmp_path, TWO[0], TWO[1])
    await apply(headrace, tmp_path, ENDPOINT, key=OTHER_KEY)
    third = base64.b64encode(b"3" * 32).decode()
    everything = (
        "SELECT string_agg(t, ' ' ORDER BY t) FROM "
        "(SELECT source::text AS t FROM source UNION ALL SELECT endpoint::text FROM endpoint) AS a"
    )
    stored = await system.database.fetchval(everything)
    status, out, err = await headrace("secrets", "reseal", key=f"{third},{OTHER_KEY}")
    assert (status, out) == (1, "")
    assert "source shop: secret_key: expected the key that sealed this" in err
    assert err.count("expected the key that sealed this") == 1, "once for both of its secrets"
    assert await system.database.fetchval(everything) == stored
    status, _, err = await headrace("secrets", "reseal", key="")
    assert status == 1
    assert "secret_key: expected 32 bytes in base64, got nothing" in err


async def test_resealing_waits_for_an_apply_and_loses_nothing_of_it(
    system: System, headrace: Headrace, tmp_path: Path
) -> None:
    await apply(headrace, tmp_path, *TWO)
    both = f"{OTHER_KEY},{SECRET_KEY}"
    files = []
    for number in range(6):
        files.append(tmp_path / f"more-{number}.yaml")
        files[-1].write_text("\n---\n".join((ENDPOINT.replace("crm-secret", f"s{number}"), SHOP % f"secret {number}")))
    environment = {"HEADRACE_SECRET_KEY": both}
    commands = [system.process("apply", "apply", str(file), more=environment) for file in files]
    commands += [system.process("reseal", "secrets", "reseal", more=environment) for _ in range(3)]
    for command in commands:
        assert await asyncio.to_thread(command._child.wait, 60) == 0, command.log.read_text()
    assert {line["current"] for line in await done(headrace, "secrets", "list", key=OTHER_KEY)} == {True}

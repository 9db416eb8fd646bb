"""The console as its users have it: a real process, keys, and runs that a worker carries out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from events import api_keys, workspaces
from events.api_keys import Role
from tests.system import System

pytestmark = pytest.mark.anyio

ECHO: dict[str, Any] = {
    "workflow": "echo",
    "on": [{"source": "hub", "type": "never"}],
    "input": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
    "nodes": {"double": {"uses": "transform", "with": {"value": "${{ input.n * 2 }}"}}},
    "output": "${{ nodes.double.output }}",
}
PATIENT: dict[str, Any] = {
    "workflow": "patient",
    "on": [{"source": "hub", "type": "never"}],
    "nodes": {
        "ask": {"uses": "wait.approval", "with": {"text": "go on?"}},
        "fail": {"uses": "fail", "needs": ["ask"], "with": {"message": "no"}},
    },
}


class Api:
    """One key's view of the console."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.client = httpx2.AsyncClient(base_url=url, headers=headers, timeout=30)

    async def __call__(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        response = await self.client.request(method, path, **more)
        assert response.status_code == status, (method, path, response.status_code, response.text)
        if status >= 400:
            assert response.headers["content-type"].startswith("application/problem+json")
            problem = response.json()
            assert problem["status"] == status
            assert problem["instance"] == path.partition("?")[0]
            return problem
        return response.json() if response.content else None


class Console:
    """A system with a console: `api("admin")` has a key of that role, `api(None)` has none."""

    def __init__(self, system: System, url: str) -> None:
        self.system, self.url = system, url
        self.opened: list[Api] = []

    async def key(self, role: Role, workspace: int = 1) -> str:
        return await api_keys.add(self.system.database, workspace, str(uuid4()), role)

    async def api(self, role: Role | None, workspace: int = 1) -> Api:
        return self.with_key(None if role is None else await self.key(role, workspace))

    def with_key(self, key: str | None) -> Api:
        return self.at(self.url, key)

    def at(self, url: str, key: str | None) -> Api:
        self.opened.append(Api(url, key))
        return self.opened[-1]


@pytest.fixture
async def console(system: System) -> AsyncIterator[Console]:
    await system.apply(ECHO, PATIENT)
    process = system.process("console", "console", "--port", "0")
    made = Console(system, (await process.says("console.listening"))["url"])
    yield made
    for api in made.opened:
        await api.client.aclose()


async def ended(api: Api, id: str) -> Any:
    return await api("GET", f"/run/{id}?wait=30")


async def test_runs_are_started_once_for_each_key_and_steered(console: Console) -> None:
    system = console.system
    system.worker("high_priority")
    system.relay()
    api, viewer = await console.api(Role.OPERATOR), await console.api(Role.VIEWER)
    answer = await api("POST", "/run?wait=30", json={"workflow": "echo", "input": {"n": 21}})
    assert (answer["status"], answer["output"]) == ("completed", 42)

    # One run for a key, however often and from however many at once.
    again: dict[str, Any] = {"json": {"workflow": "echo", "input": {"n": 4}}, "headers": {"Idempotency-Key": "four"}}
    first, *others = await asyncio.gather(*[api.client.post("/run", **again) for _ in range(10)])
    ids = {response.json()["id"] for response in (first, *others)}
    assert len(ids) == 1
    assert sorted(response.status_code for response in (first, *others))[0] in {200, 202}
    assert first.headers["location"] == f"/run/{first.json()['id']}"
    assert (await ended(viewer, first.json()["id"]))["output"] == 8
    assert (await api("POST", "/run", **again))["output"] == 8
    other: dict[str, Any] = {"json": {"workflow": "echo", "input": {"n": 5}}, "headers": {"Idempotency-Key": "four"}}
    assert "got another" in (await api("POST", "/run", 422, **other))["detail"]
    assert await system.count("SELECT count(*) FROM run") == 2

    # What is wrong is told, and nothing is begun.
    wrong = await api("POST", "/run", 422, json={"workflow": "echo", "input": {"n": "x"}})
    assert wrong["errors"] == ["$.n: 'x' is not of type 'integer'"]
    assert "expected one that was applied" in (await api("POST", "/run", 404, json={"workflow": "ecko"}))["detail"]
    await api("POST", "/run", 400, json={"workflow": "echo", "inputs": {}})
    await api("POST", "/run?wait=61", 400, json={"workflow": "echo", "input": {"n": 1}})
    assert await system.count("SELECT count(*) FROM run") == 2

    # Steering: approve, fail, retry from a node, pause, resume, cancel, fork.
    run = (await api("POST", "/run", 202, json={"workflow": "patient"}))["id"]
    await api("POST", f"/run/{run}/approve", 202, json={"node": "ask"})
    assert (await ended(viewer, run))["status"] == "failed"
    await api("POST", f"/run/{run}/cancel", 409)
    await api("POST", f"/run/{run}/retry", 202, json={"node": "ask"})
    await api("POST", f"/run/{run}/pause", 202, json={"reason": "lunch"})
    await api("POST", f"/run/{run}/resume", 202)
    await api("POST", f"/run/{run}/cancel", 202, json={"reason": "enough"})
    assert (await ended(viewer, run))["status"] == "cancelled"
    forked = await api("POST", f"/run/{run}/fork", 201, json={"node": "fail"})
    assert (await ended(viewer, forked["id"]))["status"] == "failed"
    types, after = [], "-1"
    while True:
        page = await viewer("GET", f"/run/{run}/events?after={after}&limit=3")
        types += [event["type"] for event in page["items"]]
        if (after := page["next"]) is None:
            break
    assert types[0] == "run.started"
    assert {"node.waiting", "signal.received", "run.failed", "run.reopened", "run.cancelled"} <= set(types)
    stored = await system.count("SELECT count(*) FROM event WHERE stream_id = $1", UUID(run))
    assert len(types) == stored

    # Lists page by cursor.
    found, cursor = [], ""
    while True:
        page = await viewer("GET", f"/run?limit=1{cursor}")
        found += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(found) == len(set(found)) == await system.count("SELECT count(*) FROM run")
    assert [one["id"] for one in (await viewer("GET", "/run?status=cancelled"))["items"]] == [run]


async def test_workflows_are_published_with_their_etags(console: Console) -> None:
    admin = await console.api(Role.ADMIN)
    shown = await admin.client.get("/workflow/echo")
    etag = shown.headers["etag"]
    assert (await admin.client.get("/workflow/echo", headers={"If-None-Match": etag})).status_code == 304
    changed = {**ECHO, "output": "${{ nodes.double.output + 1 }}"}
    answer = await admin("PUT", "/workflow/echo", json=changed, headers={"If-Match": etag})
    assert answer["what"] == "changed"
    stale = await admin("PUT", "/workflow/echo", 412, json=ECHO, headers={"If-Match": etag})
    assert answer["hash"] in stale["detail"]
    await admin("PUT", "/workflow/new", 412, json={**ECHO, "workflow": "new"}, headers={"If-Match": "*"})
    yaml = "workflow: new\non: [{source: api}]\nnodes: {a: {uses: transform, with: {value: 1}}}\n"
    assert (await admin("PUT", "/workflow/new", 201, content=yaml))["what"] == "added"
    faults = await admin("PUT", "/workflow/new", 422, content="workflow: new\nnodes: {a: {uses: nothing, neds: [b]}}\n")
    assert len(faults["errors"]) >= 2
    await admin("PUT", "/workflow/other", 422, content=yaml)
    await admin("PUT", "/workflow/new", 422, content=yaml.replace("api", "nowhere"))
    assert [one["name"] for one in await admin("GET", "/workflow")] == ["echo", "new", "patient"]
    versions = await admin("GET", "/workflow/echo/versions")
    assert [one["current"] for one in versions] == [True, False]
    await admin("GET", "/workflow/none", 404)


async def test_every_route_is_closed_to_whoever_may_not(console: Console) -> None:
    """Generated from the reference: a route that is added later is tried too."""
    system = console.system
    nobody, viewer = await console.api(None), await console.api(Role.VIEWER)
    other = await workspaces.add(system.database, "other", "free")
    stranger = await console.api(Role.ADMIN, other)
    run = (await (await console.api(Role.OPERATOR))("POST", "/run", 202, json={"workflow": "patient"}))["id"]
    revoked = await console.key(Role.ADMIN)
    await system.database.fetch("UPDATE api_key SET revoked_at = now() WHERE prefix = $1", revoked.split("_")[1])
    expired = await api_keys.add(system.database, 1, "expired", Role.ADMIN, -1.0)
    key = await console.key(Role.ADMIN)
    bad = [revoked, expired, key[:-1], key[:-1] + ("A" if key[-1] != "A" else "B"), "hrk_", key.upper(), f"{key} x"]
    schema = await nobody("GET", "/openapi.json")
    tried = 0
    for path, methods in schema["paths"].items():
        for method in methods:
            url = path.replace("{run_id}", run).replace("{name}", "echo")
            for text in (None, *bad):
                response = await console.with_key(text).client.request(method.upper(), url)
                assert response.status_code == 401, (method, url, text)
                assert response.headers["www-authenticate"].startswith("Bearer")
                assert "hrk_" not in response.text.replace("hrk_…", "")
            if method != "get":
                body = {"node": "ask", "workflow": "echo"}
                await viewer(method.upper(), url, 403, json=body)
                if "{" in path and method == "post":
                    steered = {"node": "ask"} if url.endswith(("approve", "fork", "retry")) else {}
                    await stranger("POST", url, 404, json=steered)
            elif "{" in path:
                await stranger("GET", url, 404)
            else:
                seen = (await stranger.client.get(url)).text
                assert run not in seen
            tried += 1
    assert tried >= 17
    assert (await stranger("GET", "/run"))["items"] == []
    assert await stranger("GET", "/workflow") == []
    await stranger("POST", "/run", 404, json={"workflow": "echo", "input": {"n": 1}})
    await viewer("GET", "/workers", 403)
    admin = await console.api(Role.ADMIN)
    assert {one["queue"] for one in await admin("GET", "/queues")} >= {"high_priority", "webhook", "default"}
    assert await admin("GET", "/workers") == []
    assert [one["slug"] for one in await admin("GET", "/workspaces")] == ["default", "other"]
    await nobody("GET", "/health/ready")
    page = await nobody.client.get("/")
    assert "POST" in page.text
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    too_large = await admin.client.post("/run", content=b'{"workflow": "' + b"x" * (6 << 20) + b'"}')
    assert too_large.status_code == 413
    assert await system.count("SELECT count(*) FROM api_key WHERE last_used_at IS NOT NULL") >= 3


async def test_requests_are_counted_over_all_consoles(console: Console, redis_urls: tuple[str, str]) -> None:
    """Two processes, thirty requests at once, room for seven; and Redis away refuses nobody."""
    system = console.system
    more = {"HEADRACE_API_RATE": "7", "HEADRACE_API_WORKSPACE_RATE": "9"}
    processes = [system.process("console", "console", "--port", "0", more=more) for _ in range(2)]
    urls = [(await process.says("console.listening"))["url"] for process in processes]
    key = await console.key(Role.VIEWER)
    apis = [console.at(url, key) for url in urls]
    answers = await asyncio.gather(*[apis[n % 2].client.get("/run") for n in range(30)])
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [429] * 23
    passed = next(answer for answer in answers if answer.status_code == 200)
    assert passed.headers["ratelimit-policy"] == '"key";q=7;w=60, "workspace";q=9;w=60'
    assert passed.headers["ratelimit"].startswith('"key";r=')
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["content-type"].startswith("application/problem+json")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    others = [console.at(urls[0], await console.key(Role.VIEWER)) for _ in range(3)]
    codes = [(await one.client.get("/workflow")).status_code for one in others]
    assert codes == [200, 200, 429], "the workspace has had its nine"
    assert (await others[0].client.get("/health/live")).status_code == 200
    deaf = system.process(
        "console", "console", "--port", "0", more=more | {"HEADRACE_REDIS_URL": "redis://127.0.0.1:1"}
    )
    alone = console.at((await deaf.says("console.listening"))["url"], key)
    assert [(await alone.client.get("/run")).status_code for _ in range(3)] == [200] * 3


async def test_who_watches_does_not_hold_the_end_of_a_console(system: System) -> None:
    await system.apply(PATIENT)
    process = system.process("console", "console", "--port", "0")
    url = (await process.says("console.listening"))["url"]
    key = await api_keys.add(system.database, 1, "watcher", Role.OPERATOR)
    async with httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        run = (await client.post("/run", json={"workflow": "patient"})).json()["id"]
        async with client.stream("GET", f"/live/run/{run}/stream") as stream:
            chunks = stream.aiter_bytes()
            assert b"run.started" in await anext(chunks)
            process.send(signal.SIGTERM)
            async with asyncio.timeout(5):  # half of what requests under way get
                assert [chunk async for chunk in chunks] == []
                await process.ends()

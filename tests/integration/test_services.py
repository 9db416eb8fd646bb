"""Every test has a database and Redis databases to itself."""

from __future__ import annotations

import asyncpg
import pytest
import redis


async def _tables(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        await connection.execute("CREATE TABLE left_behind (id int)")
    finally:
        await connection.close()
    return found


@pytest.mark.parametrize("turn", [1, 2])
async def test_a_test_sees_the_schema_and_nothing_of_the_test_before(
    turn: int, database_url: str, redis_urls: tuple[str, str]
) -> None:
    assert await _tables(database_url) > 0
    broker, state = redis_urls
    assert broker != state
    for url in redis_urls:
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() == 0
            client.set("left", "behind")


def test_payloads_are_json_objects_with_an_event_name(github_payloads: list[tuple[str, bytes]]) -> None:
    assert all(event and body.startswith(b"{") for event, body in github_payloads)

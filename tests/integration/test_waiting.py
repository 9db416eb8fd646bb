"""A worker's wait for doorbells: woken by Redis and not by a poll, and on the lookout when no doorbell comes."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from redis import Redis

from events.doorbell import broker_for, ring_now
from events.errors import Unavailable
from executor.worker.waiting import Lookout, WaitingBroker


def until_blocked(client: Redis, count: int) -> None:
    deadline = time.monotonic() + 10
    while client.info("clients")["blocked_clients"] < count:
        assert time.monotonic() < deadline, f"not {count} consumers blocked"


def test_blocked_consumers_are_all_woken_and_one_gets_the_doorbell(redis_urls: tuple[str, str]) -> None:
    broker = broker_for(redis_urls[0], [], WaitingBroker)
    before = broker.client.info("clients")["blocked_clients"]
    consumers = [broker.consume("default", prefetch=8, timeout=4000) for _ in range(3)]
    got: list[Any] = []
    threads = [threading.Thread(target=lambda consumer=consumer: got.append(next(consumer))) for consumer in consumers]
    for thread in threads:
        thread.start()
    until_blocked(broker.client, before + 3)
    ring_now(broker, "default")
    for thread in threads:
        thread.join()
    assert sorted(message is None for message in got) == [False, True, True], "the first look after the ring finds it"
    (message,) = [message for message in got if message is not None]
    assert message.args == ("default",)
    assert broker.client.llen("dramatiq:default") == 0


def test_a_consumer_with_nothing_to_do_answers_so_that_it_can_end(redis_urls: tuple[str, str]) -> None:
    broker = broker_for(redis_urls[0], [], WaitingBroker)
    assert next(broker.consume("default", prefetch=8, timeout=10)) is None


def test_a_redis_that_cannot_block_is_polled(redis_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    broker = broker_for(redis_urls[0], [], WaitingBroker)
    execute = broker.client.execute_command

    def old(command: str, *arguments: Any, **options: Any) -> Any:
        return execute(command.replace("BLMOVE", "BLMOVE_OF_LATER"), *arguments, **options)

    monkeypatch.setattr(broker.client, "execute_command", old)
    consumer = broker.consume("default", prefetch=8, timeout=10)
    assert next(consumer) is None
    ring_now(broker, "default")
    assert next(consumer) is not None


@pytest.mark.anyio
async def test_a_lookout_looks_by_itself_also_after_the_log_was_away() -> None:
    looks: list[float] = []
    enough = asyncio.Event()

    class Engine:
        async def take(self) -> None:
            looks.append(time.monotonic())
            if len(looks) == 1:
                raise Unavailable("the log is away")
            if len(looks) == 3:
                enough.set()

    keeping = asyncio.create_task(Lookout(Engine(), quiet=0.01).keep())
    await asyncio.wait_for(enough.wait(), 10)
    keeping.cancel()


@pytest.mark.anyio
async def test_a_lookout_that_is_told_often_does_not_look_by_itself() -> None:
    looks = 0

    class Engine:
        async def take(self) -> None:
            nonlocal looks
            looks += 1

    lookout = Lookout(Engine(), quiet=3600)
    keeping = asyncio.create_task(lookout.keep())
    for _ in range(5):
        await lookout.take()
        await asyncio.sleep(0)
    keeping.cancel()
    assert looks == 5

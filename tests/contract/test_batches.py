"""The contract of batches, nonces and receipts without work: what is claimed, what is left alone, what stays whole."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence

import asyncpg
import msgspec
import pytest

from events import log
from events.database import Database
from events.deliveries import DeliveryWriter, delivery_journal, size_of
from events.errors import BadRow, Unavailable
from events.ids import uuid7
from events.types import Accepted, Appended, Duplicate, Receipt
from tests.contract.conftest import Open
from tests.rows import batch, nonced, receipt
from tests.system import until

pytestmark = pytest.mark.anyio

_numbers = itertools.count()


async def count(operator: Database, table: str = "event") -> int:
    return int(await operator.fetchval(f"SELECT count(*) FROM {table}"))


def accepted(results: Sequence[Appended]) -> list[bool]:
    return [isinstance(result, Accepted) for result in results]


def counting(ingest: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are sent from now on."""
    statements: list[str] = []
    fetch = ingest.fetch

    async def counted(statement: str, *arguments: object) -> list[asyncpg.Record]:
        statements.append(statement)
        return await fetch(statement, *arguments)

    monkeypatch.setattr(ingest, "fetch", counted)
    return statements


async def test_a_batch_is_one_receipt_without_work_and_its_items_have_work(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        sent = batch("a", "b", "c")
        assert await DeliveryWriter(ingest).write([sent]) == [Accepted(sent.stream_id)]
        ids = {item.stream_id for item in sent.items}
        assert {row[0] for row in await operator.fetch("SELECT stream_id FROM work_item")} == ids
        for item in sent.items:
            (event,) = await log.stream(operator, item.stream_id)
            assert (event.type, event.body) == ("delivery.received", item.body)
        assert [event.body for event in await log.stream(operator, sent.stream_id)] == [b"{}"]


async def test_what_is_not_routed_makes_no_work(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        greeting = msgspec.structs.replace(receipt(), routed=False)
        other = receipt()
        assert accepted(await DeliveryWriter(ingest).write([greeting, other])) == [True, True]
        assert [row[0] for row in await operator.fetch("SELECT id FROM work_item")] == [other.stream_id]


async def test_an_item_that_came_in_another_batch_is_left_out_alone(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        first, second, third = batch("a", "b"), batch("b", "c", "c"), batch("c", "d")
        assert accepted(await writer.write([first])) == [True]
        assert accepted(await writer.write([second, third])) == [True, True]
        bodies = await operator.fetch("SELECT body FROM event WHERE body <> '{}' ORDER BY body")
        assert [row[0] for row in bodies] == [b"a", b"b", b"c", b"d"]
        assert await log.stream(operator, second.items[0].stream_id) == []
        assert await log.stream(operator, second.items[1].stream_id) != []


async def test_a_batch_that_comes_again_changes_nothing(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        first, again = batch("a", key="k"), batch("a", "new", key="k")
        assert await writer.write([first, again]) == [Accepted(first.stream_id), Duplicate(first.stream_id)]
        assert await writer.write([batch("newer", key="k")]) == [Duplicate(first.stream_id)]
        assert (await count(operator), await count(operator, "delivery_key")) == (2, 2)
        assert accepted(await writer.write([receipt("new"), receipt("newer")])) == [True, True]


async def test_items_do_not_count_for_receipts(open_as: Open) -> None:
    async with open_as("ingest") as ingest:
        writer = DeliveryWriter(ingest)
        first, sent = receipt("k"), batch("a")
        await writer.write([first])
        assert await writer.write([sent, receipt("k")]) == [Accepted(sent.stream_id), Duplicate(first.stream_id)]


async def test_an_item_and_a_delivery_by_itself_are_the_same_event(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        sent = batch("a", "b")
        await writer.write([sent])
        assert await writer.write([receipt("a")]) == [Duplicate(sent.items[0].stream_id)]
        await writer.write([receipt("c"), batch("c", "d")])
        assert await count(operator) == 6


async def test_appending_again_under_the_same_id_is_accepted_again(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        sent = [receipt(), batch("a", "b"), nonced("n"), nonced("m", "a plain one")]
        for _ in range(3):
            assert await writer.write(sent) == [Accepted(one.stream_id) for one in sent]
        assert await count(operator) == 6


@pytest.mark.parametrize("place", ["receipt", "item"])
async def test_a_bad_row_takes_its_batch_along_and_nothing_else(open_as: Open, place: str) -> None:
    bad = batch("x", "y", "z")
    if place == "receipt":
        bad = msgspec.structs.replace(bad, metadata="not json")
    else:
        spoiled = msgspec.structs.replace(bad.items[1], metadata='{"no": "\\u0000"}')
        bad = msgspec.structs.replace(bad, items=(bad.items[0], spoiled, bad.items[2]))
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        journal = delivery_journal(ingest, max_waiting=100)
        rows = [receipt(), batch("a", "b"), bad, nonced("n"), batch("c")]
        results = await asyncio.gather(*[journal.append(row) for row in rows], return_exceptions=True)
        assert [type(result) for result in results] == [Accepted, Accepted, BadRow, Accepted, Accepted]
        assert await count(operator) == 1 + 3 + 1 + 2
        assert await count(operator, "delivery_key") == 1 + 3 + 2 + 2
        assert accepted(await DeliveryWriter(ingest).write([receipt("x"), receipt("y")])) == [True, True]


async def test_a_repeated_nonce_is_answered_with_what_it_first_came_with(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        first = nonced("n")
        assert accepted(await writer.write([first])) == [True]
        assert await writer.write([nonced("n"), nonced("n")]) == [Duplicate(first.stream_id)] * 2
        assert await writer.write([batch("a", nonce="n")]) == [Duplicate(first.stream_id)]
        assert (await count(operator), await count(operator, "delivery_key")) == (1, 2)


async def test_the_same_nonce_of_another_source_is_another_nonce(open_as: Open) -> None:
    async with open_as("ingest") as ingest:
        other = msgspec.structs.replace(nonced("n"), source_id=2)
        assert accepted(await DeliveryWriter(ingest).write([nonced("n"), other])) == [True, True]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("attack", ["receipt", "batch", "item"])
async def test_a_used_nonce_cannot_keep_a_real_delivery_out(open_as: Open, attack: str, together: bool) -> None:
    forged = {"receipt": nonced("used", "real"), "batch": batch("x", key="real", nonce="used")}.get(
        attack, batch("real", nonce="used")
    )
    real = nonced("fresh", "real")
    async with open_as("ingest") as ingest:
        writer = DeliveryWriter(ingest)
        before = nonced("used")
        await writer.write([before])
        for rows in ([forged, real],) if together else ([forged], [real]):
            results = await writer.write(rows)
        assert results[-1] == Accepted(real.stream_id)
        assert await writer.write([forged]) == [Duplicate(before.stream_id)]


async def test_a_used_nonce_in_the_same_batch_cannot_either(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        first, forged, real = nonced("n1", "k1"), nonced("n1", "k2"), nonced("n2", "k2")
        results = await DeliveryWriter(ingest).write([first, forged, forged, real, nonced("n1", "k2")])
        assert results[0] == Accepted(first.stream_id)
        assert results[3] == Accepted(real.stream_id)
        assert {results[1], results[2], results[4]} == {Duplicate(first.stream_id)}
        assert (await count(operator), await count(operator, "delivery_key")) == (2, 4)


@pytest.mark.parametrize("known", ["before", "same batch", "item of the same batch"])
async def test_a_known_id_with_a_new_nonce_uses_the_nonce_up(open_as: Open, known: str) -> None:
    """Or somebody could send the nonce of the second try with a body of their own."""
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        first = batch("k") if known.startswith("item") else nonced("old", "k")
        told = Duplicate(first.items[0].stream_id if first.items else first.stream_id)
        again = nonced("new", "k")
        if known == "before":
            await writer.write([first])
            results = await writer.write([again])
        else:
            results = (await writer.write([first, again]))[1:]
        assert results == [told]
        events, keys = await count(operator), await count(operator, "delivery_key")
        assert keys == 3
        assert await writer.write([nonced("new", "other"), again, batch("x", nonce="new")]) == [told] * 3
        assert (await count(operator), await count(operator, "delivery_key")) == (events, keys)
        real = nonced("newer", "other")
        assert await writer.write([real]) == [Accepted(real.stream_id)]


async def test_a_batch_that_comes_again_uses_its_nonce_up_too(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        first = batch("a", key="k", nonce="old")
        await writer.write([first])
        again, forged = batch("a", "b", key="k", nonce="new"), batch("b", key="other", nonce="new")
        assert await writer.write([again, forged]) == [Duplicate(first.stream_id)] * 2
        assert await writer.write([nonced("new")]) == [Duplicate(first.stream_id)]
        assert await count(operator) == 2
        assert accepted(await writer.write([receipt("b")])) == [True]


@pytest.mark.parametrize("earlier", [True, False], ids=["known before", "all in one batch"])
async def test_a_forged_body_behind_the_second_try_of_the_same_batch_is_a_duplicate(
    open_as: Open, earlier: bool
) -> None:
    first, again, forged, real = nonced("t", "e1"), nonced("u", "e1"), nonced("u", "e2"), nonced("v", "e2")
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        if earlier:
            await writer.write([first])
        results = await writer.write([first, again, forged, real])
        assert results == [
            Accepted(first.stream_id),
            Duplicate(first.stream_id),
            Duplicate(first.stream_id),
            Accepted(real.stream_id),
        ]
        assert (await count(operator), await count(operator, "delivery_key")) == (2, 5)


async def test_an_append_that_is_repeated_beside_a_second_try_undoes_nothing(open_as: Open) -> None:
    async with open_as("ingest") as ingest:
        writer = DeliveryWriter(ingest)
        first = nonced("t", "k")
        await writer.write([first])
        results = await writer.write([first, nonced("u", "k")])
        assert results == [Accepted(first.stream_id), Duplicate(first.stream_id)]


async def test_many_second_tries_in_one_batch_take_few_statements(
    open_as: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        statements = counting(ingest, monkeypatch)
        rows = [nonced(f"u{number}", "k") for number in range(60)]
        assert await DeliveryWriter(ingest).write(rows) == [
            Accepted(rows[0].stream_id),
            *[Duplicate(rows[0].stream_id)] * 59,
        ]
        assert sum("INSERT" in statement for statement in statements) == 2
        assert await count(operator, "delivery_key") == 61


async def test_nobody_waits_for_a_nonce_s_second_carrier(open_as: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_as("ingest") as ingest:
        statements = counting(ingest, monkeypatch)
        forged, real = [nonced("n1", "k2") for _ in range(20)], nonced("n2", "k2")
        results = await DeliveryWriter(ingest).write([nonced("n1", "k1"), *forged, real])
        assert results[-1] == Accepted(real.stream_id)
        assert accepted(results) == [True] + [False] * 20 + [True]
        assert sum("INSERT" in statement for statement in statements) == 1


async def test_receipts_that_all_wait_for_each_other_are_taken_one_by_one(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        rows = [
            nonced("1", "a"),
            nonced("2", "b"),
            batch("a", key="x", nonce="2"),
            batch("b", key="y", nonce="1"),
        ]
        assert accepted(await DeliveryWriter(ingest).write(rows)) == [True, True, False, False]
        assert (await count(operator), await count(operator, "delivery_key")) == (2, 4)


async def test_a_known_id_with_a_new_nonce_undoes_nothing(open_as: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some sign every try anew: their duplicates are nothing rare, and do not cost the batch a second append."""
    async with open_as("ingest") as ingest:
        writer = DeliveryWriter(ingest)
        await writer.write([nonced("old", "k")])
        statements = counting(ingest, monkeypatch)
        assert accepted(await writer.write([nonced("new", "k"), receipt()])) == [False, True]
        assert sum("INSERT" in statement for statement in statements) == 1


class Rival:
    """Another process in the middle of its append: it holds the keys that it has taken until it commits. It looks for
    deadlocks so late that they are the tested side's.
    """

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], operator: Database) -> None:
        self._connection = connection
        self._operator = operator

    async def take(self, one: Receipt) -> None:
        insert = "INSERT INTO delivery_key (source_id, key, stream_id) VALUES ($1, $2, $3)"
        await self._connection.execute(insert, one.source_id, one.key, one.stream_id)

    async def blocks(self) -> None:
        """Returns when somebody waits for a key."""
        pid = self._connection.get_server_pid()

        async def waited_for() -> bool:
            query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))"
            return bool(await self._operator.fetchval(query, pid))

        await until(waited_for, "somebody waits for the rival's key")


@contextlib.asynccontextmanager
async def rival(database_url: str, operator: Database) -> AsyncIterator[Rival]:
    """Commits at the end."""
    connection = await asyncpg.connect(database_url, server_settings={"deadlock_timeout": "1h"})
    try:
        async with connection.transaction():
            yield Rival(connection, operator)
    finally:
        await connection.close()


async def test_another_process_takes_the_id_after_the_nonce_was_claimed(open_as: Open, database_url: str) -> None:
    other, mine = receipt("k"), nonced("n", "k")
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        async with rival(database_url, operator) as process:
            await process.take(other)
            writing = asyncio.create_task(DeliveryWriter(ingest).write([mine, receipt()]))
            await process.blocks()
        results = await writing
        assert results[0] == Duplicate(other.stream_id)
        assert accepted(results) == [False, True]
        assert await DeliveryWriter(ingest).write([nonced("n")]) == [Duplicate(other.stream_id)]
        assert await count(operator) == 1


async def test_another_process_claims_the_nonce_of_a_second_try(open_as: Open, database_url: str) -> None:
    """A forged body that waits for it appends nothing, and leaves the id that it names alone."""
    first, forged, real = nonced("t", "e1"), nonced("u", "e2"), nonced("v", "e2")
    assert forged.nonce is not None
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        await writer.write([first])
        async with rival(database_url, operator) as process:
            await process.take(msgspec.structs.replace(first, key=forged.nonce))  # as a second try with it does
            writing = asyncio.create_task(writer.write([forged]))
            await process.blocks()
        assert await writing == [Duplicate(first.stream_id)]
        assert await count(operator) == 1
        assert await writer.write([real]) == [Accepted(real.stream_id)]


async def test_one_of_two_processes_has_a_nonce(open_as: Open) -> None:
    async with open_as("ingest") as one, open_as("ingest") as other, open_as("operator") as operator:
        first = nonced("t", "k")
        await DeliveryWriter(one).write([first])
        for number in range(20):
            again, forged = nonced(f"u{number}", "k"), nonced(f"u{number}", f"forged {number}")
            writes = DeliveryWriter(one).write([again]), DeliveryWriter(other).write([forged])
            answers = [answer for (answer,) in await asyncio.gather(*writes)]
            holder = await operator.fetchval("SELECT stream_id FROM delivery_key WHERE key = $1", again.nonce)
            if holder == forged.stream_id:  # it came first, and nothing tells it from a real one
                assert answers == [Duplicate(forged.stream_id), Accepted(forged.stream_id)]
            else:
                assert answers == [Duplicate(first.stream_id)] * 2
                real = nonced(f"v{number}", f"forged {number}")
                assert await DeliveryWriter(other).write([real]) == [Accepted(real.stream_id)]


LOW, HIGH = sorted(("one", "two"), key=lambda name: receipt(name).key)


@pytest.mark.parametrize(
    ("first", "then", "mine"),
    [
        (receipt(LOW), receipt(HIGH), lambda: [receipt(LOW), receipt(HIGH)]),
        (receipt(LOW), receipt(HIGH), lambda: [receipt(HIGH), batch(LOW)]),
        (receipt(LOW), receipt(HIGH), lambda: [receipt(LOW), batch(HIGH)]),
        (receipt(LOW), receipt(HIGH), lambda: [batch(HIGH, LOW)]),
        (receipt(HIGH), receipt(LOW), lambda: [receipt(LOW), batch("item", key=HIGH)]),
    ],
    ids=["plain", "an item before a receipt", "a receipt before an item", "items", "a batch before all others"],
)
async def test_keys_are_taken_in_one_order_by_all(
    open_as: Open, database_url: str, first: Receipt, then: Receipt, mine: Callable[[], list[Receipt]]
) -> None:
    """Whoever waits for the first of two keys does not hold the second."""
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        async with rival(database_url, operator) as process:
            await process.take(first)
            writing = asyncio.create_task(DeliveryWriter(ingest).write(mine()))
            await process.blocks()
            await process.take(then)
        await writing


async def test_an_id_that_is_always_taken_away_again_is_unavailable_in_the_end(open_as: Open) -> None:
    own = nonced("n")
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        clash = msgspec.structs.replace(own, key=own.nonce or b"")  # no sane caller makes this one
        with pytest.raises(Unavailable, match="send it again"):
            await DeliveryWriter(ingest).write([clash])
        assert await count(operator, "delivery_key") == 0


async def test_four_processes_with_the_same_keys_neither_deadlock_nor_double(open_as: Open) -> None:
    """Keys that are a plain receipt's here and an item's there, batches' own keys, nonces: in any order at once."""
    rng = random.Random(7)
    keys = [f"k{number}" for number in range(30)]

    def one() -> Receipt:
        kind = rng.random()
        if kind < 0.4:
            return batch(*rng.sample(keys, 8), key=f"batch {rng.randrange(25)}")
        if kind < 0.6:
            return nonced(f"n{rng.randrange(25)}", rng.choice(keys))
        if kind < 0.7:
            return batch(*rng.sample(keys, 3), key=f"batch {rng.randrange(25)}", nonce=f"n{rng.randrange(25)}")
        return receipt(rng.choice(keys))

    async with (
        open_as("operator") as operator,
        open_as("ingest") as a,
        open_as("ingest") as b,
        open_as("ingest") as c,
        open_as("ingest") as d,
    ):
        nonces: set[bytes] = set()
        for _ in range(25):
            keys = [f"k{next(_numbers)} {rng.random()}" for _ in range(30)]
            turns = [[receipt(key) for key in rng.sample(keys, 20)] for _ in range(2)]  # the plain way, too
            turns += [[one() for _ in range(12)] for _ in range(10)]
            writers = itertools.cycle(DeliveryWriter(database) for database in (a, b, c, d))
            results = await asyncio.gather(*[writer.write(turn) for turn, writer in zip(turns, writers, strict=False)])
            nonces |= {sent.nonce for turn in turns for sent in turn if sent.nonce is not None}
            ids = {receipt.stream_id for turn in turns for receipt in turn}
            for turn, answers in zip(turns, results, strict=True):
                for sent, answer in zip(turn, answers, strict=True):
                    assert isinstance(answer, Duplicate) or answer.id == sent.stream_id
            told = {answer.id for answers in results for answer in answers if isinstance(answer, Accepted)}
            kept = {row[0] for row in await operator.fetch("SELECT stream_id FROM event")}
            assert told == kept & ids
        orphans = """
        SELECT count(*) FROM delivery_key k WHERE NOT EXISTS (SELECT FROM event e WHERE e.stream_id = k.stream_id)
        """
        assert await operator.fetchval(orphans) == 0, "no key is left behind for what is not in the log"
        sent_nonces = "SELECT count(*) FROM delivery_key WHERE key = ANY ($1)"
        assert await operator.fetchval(sent_nonces, list(nonces)) == len(nonces), "none is left to be used"


async def test_ten_thousand_items_are_one_commit(open_as: Open) -> None:
    parent = batch(*[f"item {number}" for number in range(10_000)])
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        assert await delivery_journal(ingest, max_waiting=1).append(parent) == Accepted(parent.stream_id)
        assert await operator.fetchval("SELECT count(DISTINCT tx) FROM event") == 1
        assert (await count(operator), await count(operator, "work_item")) == (10_001, 10_000)


async def test_a_batch_is_as_large_as_its_items_together() -> None:
    parent = batch("a", "b")
    assert size_of(parent) > sum(size_of(item) for item in parent.items)
    assert size_of(receipt(body=b"x" * 1000)) == 1512


async def test_an_item_outside_of_all_partitions_takes_its_batch_along(open_as: Open) -> None:
    sent = batch("a", "b")
    stray = msgspec.structs.replace(sent.items[1], stream_id=uuid7(0.0))
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        with pytest.raises(BadRow, match="no partition"):
            await DeliveryWriter(ingest).write([msgspec.structs.replace(sent, items=(sent.items[0], stray))])
        assert (await count(operator), await count(operator, "delivery_key")) == (0, 0)

"""Who may stay connected: never too many, never idle for long, and nobody who is at work is sent away."""

from __future__ import annotations

import resource

import pytest
import structlog.testing

from ingest.connections import OTHER_FILES, Connections, allowed_connections

pytestmark = pytest.mark.anyio


class Peer:
    """A connection that notes when it was closed."""

    def __init__(self, house: Connections, now: float) -> None:
        self._house = house
        self.closed = False
        self.slow = False  # whether it takes its time to be gone
        self.counted = 0
        house.opened(self, now)

    def recount(self) -> None:
        self.counted += 1

    def close_now(self) -> None:
        self.closed = True
        if not self.slow:
            self._house.closed(self)


def a_house(most: int = 3) -> Connections:
    return Connections(most=most, patience=10.0, header_limit=1000, most_unread=1000)


async def test_one_too_many_closes_the_one_that_is_idle_longest() -> None:
    house = a_house()
    first, second, third = (Peer(house, now) for now in (1.0, 2.0, 3.0))
    house.busy(first)
    house.idle(first, 4.0)  # was at work since
    fourth = Peer(house, 5.0)
    assert [peer.closed for peer in (first, second, third, fourth)] == [False, True, False, False]
    assert house.count == 3


async def test_those_who_are_being_closed_are_not_closed_twice() -> None:
    house = a_house()
    first, second, _ = (Peer(house, now) for now in (1.0, 2.0, 3.0))
    for peer in (first, second):
        peer.slow = True
    Peer(house, 4.0)
    Peer(house, 5.0)
    assert first.closed
    assert second.closed


async def test_who_is_at_work_stays_and_the_new_one_goes() -> None:
    house = a_house()
    peers = [Peer(house, 1.0) for _ in range(3)]
    for peer in peers:
        house.busy(peer)
    assert Peer(house, 2.0).closed
    assert not any(peer.closed for peer in peers)
    assert house.count == 3


async def test_who_is_idle_for_too_long_is_closed() -> None:
    house = a_house()
    early, later, busy = (Peer(house, now) for now in (1.0, 2.0, 1.0))
    house.busy(busy)

    def closed_by(now: float) -> list[bool]:
        house.look(now)
        return [peer.closed for peer in (early, later, busy)]

    assert closed_by(11.0) == [False, False, False]
    assert closed_by(11.5) == [True, False, False]
    assert closed_by(1000.0) == [True, True, False]
    house.idle(busy, 1000.0)
    assert closed_by(1010.5) == [True, True, True]
    assert house.count == 0


async def test_who_does_not_take_its_answer_is_closed_though_at_work() -> None:
    house = a_house()
    stuck, quick = Peer(house, 1.0), Peer(house, 1.0)
    for peer in (stuck, quick):
        house.busy(peer)
        house.leaving(peer, 2.0)
    house.leaving(stuck, 9.0)  # the first moment counts
    house.took(quick)
    house.look(12.5)
    assert stuck.closed
    assert not quick.closed


async def test_what_comes_bit_by_bit_is_counted_anew_until_it_is_done() -> None:
    house = a_house()
    peer = Peer(house, 1.0)
    house.busy(peer)
    house.holds(peer)
    house.look(2.0)
    house.look(3.0)
    house.idle(peer, 3.5)
    house.look(4.0)
    assert peer.counted == 2


async def test_however_many_are_turned_away_the_log_has_one_line() -> None:
    house = a_house()
    with structlog.testing.capture_logs() as said:
        for _ in range(50):
            Peer(house, 1.0)
        house.turned_away["malformed"] += 7
        house.look(2.0)
        house.look(3.0)
    assert [(line["event"], line["malformed"], line["too_many"]) for line in said] == [
        ("connections.turned_away", 7, 47)
    ]


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, wanted: limits.__setitem__(0, wanted[0]))
    with structlog.testing.capture_logs() as said:
        assert allowed_connections(500) == 500
        assert limits[0] == 1024
        assert allowed_connections(2000) == 2000
        assert limits[0] == 2000 + OTHER_FILES
        assert said == []
        assert allowed_connections(10_000) == 4096 - OTHER_FILES
    assert said[0]["event"] == "connections.fewer"

"""`make bench-verify`: what each preset's verification costs, in µs, for a body of 8 KB; and what naming it costs.

`verify`: headers to verdict, by the first of two secrets. `second`: by the second, as during a rotation. `refuse`: a
body that was altered. `identify`: id, type and dedup key. Medians over rounds that take the presets in turns. What
parses JSON does so anew each time, as in the service; certificates were fetched before.

    python -m tests.bench.verify [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import msgspec

from ingest.compiled import compile_source
from ingest.definition import FromEnv, SourceDefinition
from ingest.providers import PRESETS
from ingest.verify.base import Incoming, Refused, Site, Verified, Verifier
from tests.bench.stand import publish
from tests.unit.ingest import test_paypal, test_public_key, test_sns
from tests.unit.ingest.authority import certificate
from tests.unit.ingest.requests import NOW, request
from tests.unit.ingest.senders import PLAYERS, URL, arrived, sent

SIZE = 8192
LEAST = 0.01
"""Seconds that a round of one measurement takes, at least."""


class Candidate(msgspec.Struct, frozen=True):
    """A preset with a request that passes; `swapped` verifies with the secrets the other way round."""

    preset: str
    incoming: Incoming
    verify: Verifier
    swapped: Verifier | None
    identify: Callable[[Incoming], object]


def padded(document: object) -> bytes:
    """The document with one more member, so that it has SIZE bytes."""
    assert isinstance(document, dict)
    short = len(json.dumps(document | {"padding": ""}))
    return json.dumps(document | {"padding": "w" * max(0, SIZE - short)}).encode()


def shared(preset: str) -> Candidate:
    """A preset whose secret the sender has too."""
    player = PLAYERS[preset]
    document = msgspec.json.decode(player.text)
    body = padded(document) if isinstance(document, dict) else player.text.encode()
    incoming = arrived(sent(preset, body))
    secrets = [player.secret.encode(), player.other.encode()]
    definition = SourceDefinition(source="bench", preset=preset, secrets=(FromEnv("A"), FromEnv("B")), url=URL)
    source, swapped = compile_source(definition, secrets), compile_source(definition, secrets[::-1])
    return Candidate(preset, incoming, source.verify, swapped.verify, source.identify)


def private() -> list[Candidate]:
    """Those that sign with a key of their own."""
    paypal_body = padded({"id": "WH-1", "event_type": "PAYMENT.SALE.COMPLETED"})
    sns_body = json.dumps(test_sns.signed(test_sns.NOTIFICATION | {"Message": "w" * (SIZE - 900)}, "2")).encode()
    list_body = json.dumps([{"sg_event_id": "1", "event": "open", "padding": "w" * (SIZE - 60)}]).encode()
    discord_body = padded({"type": 1, "event": {"type": "APPLICATION_AUTHORIZED"}})
    sites = {
        "paypal": test_paypal.site(certificate("paypal")),
        "sns": Site(options=test_sns.OPTIONS, certificates={test_sns.URL: certificate("sns")}),
        "sendgrid": Site(),
        "discord": Site(),
    }
    secrets = {
        "sendgrid": [test_public_key.public_of(test_public_key.curve)],
        "discord": [test_public_key.EDWARDS_PUBLIC],
    }
    requests = {
        "paypal": request(paypal_body, *test_paypal.transmission(paypal_body)),
        "sns": request(sns_body, ("content-type", "text/plain")),
        "sendgrid": request(list_body, *test_public_key.by_sendgrid(list_body)),
        "discord": request(discord_body, *test_public_key.by_discord(discord_body)),
    }
    found = []
    for preset, incoming in requests.items():
        verify = PRESETS[preset].scheme.compile(secrets.get(preset, []), sites[preset])
        definition = SourceDefinition(source="bench", preset=preset)
        found.append(Candidate(preset, incoming, verify, None, compile_source(definition, []).identify))
    return found


def seconds(call: Callable[[], object]) -> float:
    """Seconds for one call, over as many as fill LEAST."""
    count = 1
    while True:
        began = time.perf_counter()
        for _ in range(count):
            call()
        took = time.perf_counter() - began
        if took >= LEAST:
            return took / count
        count = max(2 * count, int(count * LEAST / max(took, 1e-9)))


def measured(one: Candidate) -> dict[str, float]:
    incoming, verify, swapped = one.incoming, one.verify, one.swapped
    altered = msgspec.structs.replace(incoming, body=incoming.body.replace(b"w", b"v", 1) + b" ")
    assert isinstance(verify(incoming, NOW), Verified), one.preset
    figures = {
        "verify": seconds(lambda: verify(incoming, NOW)),
        "identify": seconds(lambda: one.identify(incoming)),
    }
    if swapped is not None:
        figures["second"] = seconds(lambda: swapped(incoming, NOW))
    if isinstance(verify(altered, NOW), Refused):  # a token is not bound to any body
        figures["refuse"] = seconds(lambda: verify(altered, NOW))
    return figures


def main(rounds: int) -> None:
    candidates = {one.preset: one for one in [*map(shared, PLAYERS), *private()]}
    results: dict[str, list[dict[str, float]]] = {preset: [] for preset in candidates}
    for _ in range(rounds):
        for preset, one in candidates.items():
            results[preset].append(measured(one))
    medians = {
        preset: {key: statistics.median(one[key] for one in kept) for key in kept[0]}
        for preset, kept in results.items()
    }
    columns = ("verify", "second", "refuse", "identify")
    publish(
        "verify",
        f"µs per delivery, body of {SIZE:,} bytes; medians of {rounds}",
        ("preset", *columns),
        [
            (preset, *(f"{medians[preset][key] * 1e6:.1f}" if key in medians[preset] else "-" for key in columns))
            for preset in PRESETS
            if preset in medians
        ],
        {f"{preset}_{key}_s": value for preset, kept in medians.items() for key, value in kept.items()},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    main(parser.parse_args().rounds)

"""The payloads of the package are what they claim to be: of realistic size, and identified by their names."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import executor.demo
from ingest.signing import sign
from ingest.sources import compile_source, parse_source
from ingest.verify.schemes import Verified
from tests.unit.ingest.requests import NOW, request

PAYLOADS = sorted((Path(executor.demo.__file__).parent / "payloads").glob("*.json"))
TYPES = {
    "github.issues": "issues.labeled",
    "github.ping": "ping",
    "github.pull_request": "pull_request.opened",
    "github.push": "push",
    "github.release": "release.published",
    "stripe.invoice.paid": "invoice.paid",
    "stripe.payment_intent.succeeded": "payment_intent.succeeded",
}


def test_none_is_missing() -> None:
    assert [path.stem for path in PAYLOADS] == sorted(TYPES)


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_a_payload_passes_its_preset_and_has_its_type(path: Path) -> None:
    body = path.read_bytes()
    assert 2_000 <= len(body) <= 9_000
    msgspec.json.decode(body)
    preset, _, event = path.stem.partition(".")
    source = compile_source(parse_source({"source": "demo", "preset": preset, "secrets": ["s"]}), [b"s"])
    incoming = request(body, *sign(preset, "s", event, "d-1", body, NOW))
    assert source.verify(incoming, NOW) == Verified(0)
    assert source.identify(incoming).event_type == TYPES[path.stem]

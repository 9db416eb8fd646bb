"""What a source may say beside its signature: read in full, and every fault said at once."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
import yaml

from events.errors import ConfigError
from events.types import Accepted
from ingest.definition import FromEnv, FromFile, Rate, SourceDefinition, Written, label_of
from ingest.identity import First, Form, Header, Pointer, Query
from ingest.parsing import parse_source
from ingest.providers import PRESETS
from ingest.providers.base import Response
from ingest.reply import Reply, responder
from ingest.verify.schemes import ApiKey, Basic, Hmac, Pairs, Scheme, Standard, Timestamp

FULL = """
source: shop
preset: generic
secrets:
  - {env: NEW}
  - {env: OLD, until: 2026-12-31T00:00:00Z}
  - {file: /run/secrets/greeting, for: handshake}
  - {value: spelled-out, until: "2027-01-01T00:00:00+01:00"}
addresses: [203.0.113.0/24, "2001:db8::/32", "::ffff:192.0.2.1"]
methods: [POST, PUT]
split: {pointer: /events}
response: {status: 200, headers: {X-Seen: "yes"}, body: ok}
rate: {limit: 100, per: 1m, burst: 250}
"""
END = datetime(2026, 12, 31, tzinfo=UTC).timestamp()


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_source(yaml.safe_load(text))
    return caught.value.faults


def test_everything_is_read_and_survives_being_stored() -> None:
    definition = parse_source(yaml.safe_load(FULL))
    assert definition.secrets == (
        FromEnv("NEW"),
        FromEnv("OLD", until=END),
        FromFile("/run/secrets/greeting", handshake=True),
        Written(until=END + 23 * 3600),
    )
    assert definition.addresses == ("203.0.113.0/24", "2001:db8::/32", "192.0.2.1/32")
    assert definition.methods == ("POST", "PUT")
    assert definition.split == "/events"
    assert definition.response == Response(200, (("X-Seen", "yes"),), "ok")
    assert definition.rate == Rate(100.0, 60.0, 250.0)
    stored = msgspec.json.encode(definition)
    assert b"spelled-out" not in stored
    assert msgspec.json.decode(stored, type=SourceDefinition) == definition


def test_a_definition_of_the_first_stage_is_still_read() -> None:
    stored = b'{"source":"s","preset":"github","secrets":[{"from":"env","name":"A"}],"verify":null,"id":null,"url":""}'
    definition = msgspec.json.decode(stored, type=SourceDefinition)
    assert definition.secrets == (FromEnv("A"),)
    assert definition.response is None


def test_a_secret_is_called_by_where_it_came_from() -> None:
    definition = parse_source(yaml.safe_load(FULL))
    assert [label_of(secret, index) for index, secret in enumerate(definition.secrets)] == [
        "NEW",
        "OLD",
        "greeting",
        "secrets[3]",
    ]


def test_all_faults_come_at_once() -> None:
    found = faults("""
        source: shop
        preset: generic
        secrets: [{env: A, until: 2026-12-31}, {env: B, for: decoration}, {env: C, untl: 1}]
        addresses: [10.0.0.1/8, nowhere]
        methods: [POST, FETCH]
        split: {pointer: events}
        response: {status: 301, headers: {Content-Length: "3", X-A: "ü"}, body: 7}
        rate: {limit: 0, per: soon, burst: 0.5}
        options: {webhook: x}
    """)
    for expected in (
        "secrets[0].until: expected a time with its zone",
        "secrets[1].for: expected handshake",
        "secrets[2]: expected {env: NAME}",
        "addresses[0]: expected a network, for example 10.0.0.0/8",
        "addresses[1]: expected a network",
        "methods: expected a list of POST",
        "split.pointer: expected a JSON Pointer",
        "response.status: expected 200 to 299",
        "response.headers.Content-Length: expected a header name",
        "response.headers.X-A: expected printable ASCII",
        "response.body: expected text",
        "rate.limit: expected a number above 0",
        "rate.per: expected a duration",
        "rate.burst: expected a number of at least 1",
        "options.webhook: expected one of nothing",
    ):
        assert any(fault.startswith(expected) for fault in found), (expected, found)


def test_a_handshake_secret_is_no_signing_secret() -> None:
    assert faults("{source: s, preset: github, secrets: [{env: A, for: handshake}]}") == [
        "secrets: expected at least one, or preset none, which verifies nothing, got none"
    ]


@pytest.mark.parametrize(
    ("verify", "scheme"),
    [
        ("{scheme: basic}", Basic()),
        ("{scheme: apikey, query: key}", ApiKey(query="key")),
        ("{scheme: standard, tolerance: 1m}", Standard(60.0)),
        (
            "{scheme: hmac, header: 'X-Sig-{n}', algorithm: sha384, encoding: base64}",
            Hmac("X-Sig-{n}", "sha384", "base64"),
        ),
        (
            "{scheme: hmac, header: X-Sig, pairs: {separator: ;, signature: h1, timestamp: ts},"
            " signed: '{timestamp}:{body}', timestamp: {tolerance: 5s}}",
            Hmac(
                "X-Sig", pairs=Pairs(";", "h1", "ts"), signed="{timestamp}:{body}", timestamp=Timestamp(tolerance=5.0)
            ),
        ),
        (
            "{scheme: hmac, header: X-Sig, timestamp: {pointer: /sent, unit: iso8601}}",
            Hmac("X-Sig", timestamp=Timestamp(unit="iso8601", pointer="/sent")),
        ),
    ],
)
def test_every_usual_way_to_verify_can_be_said(verify: str, scheme: Scheme) -> None:
    document = f"{{source: s, preset: generic, secrets: [a], id: hash, verify: {verify}}}"
    definition = parse_source(yaml.safe_load(document))
    assert definition.verify == scheme
    assert msgspec.json.decode(msgspec.json.encode(definition), type=SourceDefinition).verify == scheme


def test_ids_and_types_are_found_anywhere() -> None:
    definition = parse_source(
        yaml.safe_load(
            "{source: s, preset: generic, secrets: [a], id: [{query: q}, {form: Sid}],"
            " type: {first: [{header: X-T}, {pointer: /t}]}, split: {pointer: ''}}"
        )
    )
    assert definition.id == (Query("q"), Form("Sid"))
    assert definition.type == (First((Header("X-T"), Pointer("/t"))),)
    assert definition.split == ""


def test_an_empty_answer_is_empty_and_none_is_the_receipt_s_id() -> None:
    accepted = Accepted(UUID(int=7))
    assert responder(Response(200, body=""))(accepted).body == b""
    assert responder(Response(204))(accepted) == Reply(204, [], b"")
    assert responder(Response(200))(accepted).body == b'{"id":"00000000-0000-0000-0000-000000000007","duplicate":false}'
    assert responder(PRESETS["slack"].response)(accepted).headers == [(b"content-length", b"0")]
    read = [
        parse_source({"source": "s", "preset": "github", "secrets": ["a"], "response": r}) for r in ({"body": ""}, {})
    ]
    assert [one.response for one in read] == [Response(body=""), Response()]

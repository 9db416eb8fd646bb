"""A source: parsed with every fault at once, stored without its secrets, compiled so that it fails closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from events.errors import ConfigError
from ingest.providers import PRESETS
from ingest.signing import sign
from ingest.sources import (
    FromEnv,
    FromFile,
    SourceDefinition,
    Written,
    compile_source,
    parse_source,
    resolve_secrets,
)
from ingest.verify.schemes import Bearer, Hmac, Refused, Timestamp, Verified
from tests.unit.ingest.requests import NOW, SECRET, SECRETS, WHSEC, request

FULL = """
source: shop-2
preset: generic
secrets: [{env: SHOP}, {file: /run/secrets/shop}, {value: spelled-out}, plain]
verify:
  scheme: hmac
  algorithm: sha512
  encoding: base64
  header: X-Signature
  prefix: "v="
  signed: "{id}.{timestamp}.{url}.{body}"
  timestamp: {header: X-Timestamp, unit: ms, tolerance: 1m30s}
id: {header: X-Id}
type: [{header: X-Kind}, {pointer: /action}]
url: https://hooks.example.com/in/shop-2
"""


def parse(text: str) -> SourceDefinition:
    return parse_source(yaml.safe_load(text))


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value.faults


def test_all_that_can_be_said_is_read() -> None:
    definition = parse(FULL)
    assert definition.source == "shop-2"
    assert definition.secrets == (FromEnv("SHOP"), FromFile("/run/secrets/shop"), Written(), Written())
    assert definition.verify == Hmac(
        header="X-Signature",
        algorithm="sha512",
        encoding="base64",
        prefix="v=",
        signed="{id}.{timestamp}.{url}.{body}",
        timestamp=Timestamp("X-Timestamp", "ms", 90.0),
        id_header="X-Id",
    )
    assert definition.url == "https://hooks.example.com/in/shop-2"


def test_a_definition_is_stored_and_read_back_without_its_secrets() -> None:
    definition = parse(FULL)
    stored = msgspec.json.encode(definition)
    for text in (stored.decode(), repr(definition), str(definition)):
        assert "spelled-out" not in text
        assert "plain" not in text
    assert msgspec.json.decode(stored, type=SourceDefinition) == definition
    assert msgspec.convert(msgspec.json.decode(stored), SourceDefinition) == definition


@pytest.mark.parametrize(
    ("verify", "expected"),
    [
        ("{scheme: bearer}", Bearer()),
        ("{scheme: bearer, header: X-Token}", Bearer("X-Token", "")),
        ("{scheme: bearer, header: authorization, prefix: 'Token '}", Bearer("authorization", "Token ")),
        ("{scheme: hmac, header: X-S}", Hmac(header="X-S", id_header="X-Delivery-Id")),
    ],
)
def test_a_scheme_has_defaults(verify: str, expected: object) -> None:
    assert parse(f"source: a\npreset: generic\nsecrets: [s]\nverify: {verify}").verify == expected


def test_all_faults_come_at_once_and_none_shows_a_secret() -> None:
    found = faults(
        """
        source: A_B
        preset: githb
        secret: hunter2
        secrets: [{envv: hunter2}, 3, "", {env: A, value: hunter2}, [hunter2]]
        id: {heder: X}
        type: {pointer: x}
        url: ftp://example.com
        """
    )
    expected = "{env: NAME}, {file: path}, {value: text} or plain text"
    assert found == [
        "secret: expected one of source, preset, secrets, verify, id, type, url, options, addresses, methods, split, "
        "response, rate, got an unknown key; did you mean secrets?",
        "source: expected 1 to 63 of a-z, 0-9 and -, got 'A_B'",
        f"preset: expected one of {', '.join(PRESETS)}, got 'githb'; did you mean github?",
        "url: expected an http(s) URL without a query, got 'ftp://example.com'",
        "id.heder: expected one of header, pointer, query, form, first, got an unknown key; did you mean header?",
        "type.pointer: expected a JSON Pointer such as /data/id, got 'x'",
        f"secrets[0]: expected {expected}, got {{envv: …}}",
        f"secrets[1]: expected {expected}, got a number",
        f"secrets[2]: expected {expected}, got empty text",
        f"secrets[3]: expected {expected}, got {{env: …, value: …}}",
        f"secrets[4]: expected {expected}, got a list",
    ]


@pytest.mark.parametrize(
    ("verify", "fault"),
    [
        ("3", "verify: expected {scheme: …}, one of hmac, standard, bearer, basic, apikey, got 3"),
        (
            "{header: X}",
            "verify: expected {scheme: …}, one of hmac, standard, bearer, basic, apikey, got {'header': 'X'}",
        ),
        ("{scheme: md5}", "verify.scheme: expected one of hmac, standard, bearer, basic, apikey, got 'md5'"),
        ("{scheme: hmac}", "verify.header: expected a header name, got nothing"),
        (
            "{scheme: hmac, header: X, algorithm: md5}",
            "verify.algorithm: expected one of sha1, sha256, sha384, sha512, got 'md5'",
        ),
        ("{scheme: hmac, header: X, encodin: hex}", "verify.encodin: expected one of"),
        ("{scheme: hmac, header: X, prefix: 1}", "verify.prefix: expected text, got 1"),
        ("{scheme: hmac, header: X, signed: fixed}", "verify.signed: expected {body} in it"),
        ("{scheme: hmac, header: X, timestamp: T}", "verify.timestamp: expected {header: …, unit: s, ms or iso8601"),
        (
            "{scheme: hmac, header: X, signed: '{timestamp}{body}', timestamp: {header: T, tolerance: soon}}",
            "verify.timestamp.tolerance: expected a duration such as 30s, 5m or 24h, got 'soon'",
        ),
        (
            "{scheme: hmac, header: X, signed: '{timestamp}{body}', timestamp: {header: T, tolerance: 0}}",
            "verify.timestamp.tolerance: expected more than 0 s and at most a week, got 0 s",
        ),
    ],
)
def test_a_wrong_scheme_is_named_by_its_path(verify: str, fault: str) -> None:
    found = faults(f"source: a\npreset: generic\nsecrets: [s]\nverify: {verify}")
    assert len(found) == 1
    assert found[0].startswith(fault)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ("[]", "document: expected a mapping with source, preset"),
        ("{source: a, preset: github}", "secrets: expected at least one, or preset none"),
        ("{source: a, preset: github, secrets: []}", "secrets: expected at least one, or preset none"),
        ("{source: a, preset: github, secrets: s}", "secrets: expected a list of {env: NAME}"),
        (
            "{source: a, preset: none, secrets: [s]}",
            "secrets: expected none, because preset none verifies nothing",
        ),
        (
            "{source: a, preset: none, verify: {scheme: bearer}}",
            "verify: expected nothing, because preset none",
        ),
        (
            "{source: a, preset: github, secrets: [s], id: sha1}",
            "id: expected {header: …} or {pointer: …} or {query: …} or {form: …} or {first: …} or hash",
        ),
        (
            "{source: a, preset: github, secrets: [s], type: []}",
            "type: expected {header: …} or {pointer: …} or {query: …} or {form: …} or {first: …}, got an",
        ),
        ("{source: a, preset: github, secrets: [s], 1: 2}", "1: expected one of source"),
    ],
)
def test_what_would_leave_a_source_open_or_dead_is_a_fault(document: str, fault: str) -> None:
    found = faults(document)
    assert any(line.startswith(fault) for line in found), found


def test_secrets_are_found_where_they_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("  from the file\n")
    definition = parse(f"source: a\npreset: generic\nsecrets: [{{env: S}}, {{file: {path}}}, {{value: v}}, p]")
    assert resolve_secrets(definition, {"S": "from the environment"}) == [
        "from the environment",
        "from the file",
        "v",
        "p",
    ]


def test_every_secret_that_is_missing_or_no_key_is_named_but_not_shown(tmp_path: Path) -> None:
    (tmp_path / "blank").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff")
    definition = parse(
        f"""
        source: a
        preset: standard
        secrets: [{{env: MISSING}}, {{env: BLANK}}, {{file: {tmp_path}/none}}, {{file: {tmp_path}/blank}},
                  {{file: {tmp_path}/bytes}}, "whsec_hunter2!", {WHSEC}]
        """
    )
    with pytest.raises(ConfigError) as caught:
        resolve_secrets(definition, {"BLANK": " "})
    assert caught.value.faults == [
        "secrets[0]: expected a value in the environment variable MISSING, got none",
        "secrets[1]: expected a value in the environment variable BLANK, got none",
        f"secrets[2]: expected a readable file {tmp_path}/none, got: No such file or directory",
        f"secrets[3]: expected a secret in the file {tmp_path}/blank, got a blank one",
        f"secrets[4]: expected a readable file {tmp_path}/bytes, got: bytes that are not UTF-8",
        "secrets[5]: expected whsec_ or whpk_ and base64, got something else",
    ]


def test_a_stored_definition_says_that_it_has_no_secrets() -> None:
    definition = parse("source: a\npreset: generic\nsecrets: [plain]")
    stored = msgspec.json.decode(msgspec.json.encode(definition), type=SourceDefinition)
    with pytest.raises(ConfigError, match="got a stored definition, which has none"):
        resolve_secrets(stored, {})


@pytest.mark.parametrize("preset", ["github", "stripe", "standard", "generic", "none"])
def test_what_we_send_as_a_preset_a_source_of_that_preset_takes(preset: str) -> None:
    document: dict[str, Any] = {"source": "a", "preset": preset}
    if SECRETS[preset]:
        document["secrets"] = ["another-secret" if preset != "standard" else "YWJj", SECRETS[preset]]
    definition = parse_source(document)
    source = compile_source(definition, [secret.encode() for secret in resolve_secrets(definition, {})])
    body = b'{"id":"evt_1","type":"order.paid","action":"paid"}'
    incoming = request(body, *sign(preset, SECRETS[preset], "order.paid", "evt_1", body, NOW))
    assert source.verify(incoming, NOW) == Verified(1 if SECRETS[preset] else -1)
    identity = source.identify(incoming)
    assert identity.delivery_id == (None if preset == "none" else "evt_1")
    assert identity.event_type == ("" if preset == "none" else "order.paid")


def test_id_and_type_of_any_preset_can_be_said_otherwise() -> None:
    definition = parse("{source: a, preset: none, id: {pointer: /n}, type: {header: X-Kind}}")
    identity = compile_source(definition, []).identify(request(b'{"n":7}', ("X-Kind", "tick")))
    assert (identity.delivery_id, identity.event_type) == ("7", "tick")
    hashed = parse("{source: a, preset: github, secrets: [s], id: hash}")
    again = compile_source(hashed, [b"s"]).identify(request(b"{}", ("X-GitHub-Delivery", "1")))
    assert again.delivery_id is None


@pytest.mark.parametrize(
    ("definition", "secrets"),
    [
        (SourceDefinition(source="a", preset="of-a-newer-version"), [SECRET.encode()]),
        (SourceDefinition(source="a", preset="github"), []),
        (SourceDefinition(source="a", preset="github"), [b""]),
        (SourceDefinition(source="a", preset="generic", verify=Hmac(header="X", signed="{x}")), [b"s"]),
    ],
)
def test_a_source_that_cannot_verify_refuses_instead_of_raising(
    definition: SourceDefinition, secrets: list[bytes]
) -> None:
    source = compile_source(definition, secrets)
    incoming = request(b"{}", *sign("github", SECRET, "push", "1", b"{}", NOW))
    assert isinstance(source.verify(incoming, NOW), Refused)
    assert len(source.identify(incoming).key) == 16


@pytest.mark.parametrize("preset", ["githb", ""])
def test_signing_as_nobody_is_a_fault(preset: str) -> None:
    with pytest.raises(ConfigError, match="preset: expected one of github, gitlab"):
        sign(preset, SECRET, "", "", b"", NOW)


@pytest.mark.parametrize(
    ("preset", "secret"), [("github", ""), ("stripe", " "), ("standard", "!"), ("standard", "whsec_")]
)
def test_signing_without_a_key_is_a_fault(preset: str, secret: str) -> None:
    with pytest.raises(ConfigError, match="secret: expected"):
        sign(preset, secret, "", "", b"", NOW)


@pytest.mark.parametrize("slug", ["emit", "schedule", "api"])
def test_the_names_of_events_from_within_are_taken(slug: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_source({"source": slug, "preset": "generic", "secrets": ["x" * 32]})
    assert caught.value.faults == [
        "source: expected another name than emit, schedule, api: events from within have these"
    ]

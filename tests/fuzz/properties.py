"""What must hold for any request: nothing raises, what was signed passes, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import msgspec
from cryptography.x509 import Certificate

from events.content import decoded, parse
from ingest.compiled import CompiledSource, compile_source
from ingest.definition import scheme_of
from ingest.handshakes import Answer
from ingest.splitting import MOST_ITEMS, most_bytes
from ingest.verify.base import Description, Incoming, Refused, Site, Verification, Verified, Wanted
from ingest.verify.unsigned import Unsigned
from tests.fuzz.raw import HOST, Raw
from tests.fuzz.signers import PAYPAL_CERTIFICATE, SNS_CERTIFICATE, proof, sealed
from tests.fuzz.sources import definition_of
from tests.unit.ingest.authority import certificate

NOW = 1_772_445_600.0


@dataclass(frozen=True)
class Target:
    """One source, compiled with secrets that we know."""

    name: str
    scheme: Description
    site: Site
    source: CompiledSource


@cache
def target(name: str) -> Target:
    """The source of this name."""
    certificates: dict[str, Certificate] = {
        PAYPAL_CERTIFICATE: certificate("paypal", hosts=("paypal.com",)),
        SNS_CERTIFICATE: certificate("sns", hosts=("sns.amazonaws.com",)),
    }
    url = f"{HOST}/in/{name}"
    definition, texts = definition_of(name, url)
    secrets = [text.encode() for text in texts]
    source = compile_source(definition, secrets, certificates=certificates)
    scheme, site = scheme_of(definition), Site(url, definition.options, certificates)
    assert scheme is not None
    assert not scheme.faults(site)
    return Target(name, scheme, site, source)


def judge(door: Target, raw: Raw, now: float = NOW) -> Verification:
    """The verdict, after all that ingest does with a request, in any order: none of it may raise."""
    incoming = raw.incoming()
    verdict = door.source.verify(incoming, now)
    assert isinstance(verdict, Verified | Refused | Wanted)
    if isinstance(verdict, Wanted):
        assert verdict.url.startswith(("https://api.paypal.com/", "https://api.sandbox.paypal.com/", "https://sns."))
    _greet(door, incoming)
    _describe(door, incoming)
    plain = decoded(raw.body, raw.header("content-encoding").decode("latin-1"), 1 << 22)
    if plain is not None and plain != raw.body:
        assert len(plain) <= 1 << 22
        _describe(door, msgspec.structs.replace(incoming, body=plain))
    return verdict


def _greet(door: Target, incoming: Incoming) -> None:
    for before in (False, True):
        answer = door.source.greet(incoming, NOW, before=before)
        if answer is None:
            continue
        assert isinstance(answer, Answer)
        assert 200 <= answer.status < 300
        assert all(b"\n" not in value and b"\r" not in value for pair in answer.headers for value in pair)
        assert len(answer.body) < 1 << 14
        if answer.confirm:
            host = answer.confirm.split("/")[2]
            assert answer.confirm.startswith("https://sns.")
            assert host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _describe(door: Target, incoming: Incoming) -> None:
    bodies = [incoming.body]
    if (items := door.source.events(incoming)) is not None:
        assert 0 < len(items) <= MOST_ITEMS
        assert sum(map(len, items)) <= most_bytes(incoming.body)
        bodies += items[:3]
    for body in bodies:
        identity = door.source.identify(msgspec.structs.replace(incoming, body=body))
        assert door.source.identify_whole(incoming).delivery_id is None
        assert len(identity.key) == 16
        assert len(identity.event_type) <= 200
        assert identity.event_type.isprintable()
        assert identity.delivery_id is None or 0 < len(identity.delivery_id) <= 255
    content_type = incoming.headers.get(b"content-type", b"").decode("latin-1")
    msgspec.json.encode(parse(incoming.body, content_type))


def check_forgery(door: Target, original: Raw, forged: Raw, now: float = NOW) -> bool:
    """Whether a request that was altered after it was signed passes; if so, all that is signed must be as it was."""
    verdict = judge(door, forged, now)
    if not isinstance(verdict, Verified) or isinstance(door.scheme, Unsigned):
        return False
    before, after = sealed(door.scheme, original, door.site), sealed(door.scheme, forged, door.site)
    if isinstance(before, list) and isinstance(after, list) and hasattr(door.scheme, "schemes"):
        unchanged = any(one == two for one, two in zip(before, after, strict=True))
    else:
        unchanged = before == after
    assert unchanged, f"{door.name} accepted a forgery: {forged!r}\nmade of {original!r}"
    proofs = proof(door.scheme, original)
    kept = set(proofs) & set(proof(door.scheme, forged))
    assert kept or not proofs, f"{door.name} accepted another signature: {forged!r}\nmade of {original!r}"
    if verdict.nonce is not None:
        genuine = door.source.verify(original.incoming(), now)
        assert isinstance(genuine, Verified)
        assert genuine.nonce == verdict.nonce, f"{door.name} accepted a token twice: {forged!r}"
    return True


def check_stranger(door: Target, raw: Raw, now: float = NOW) -> None:
    """A request that nobody signed never passes."""
    if not isinstance(door.scheme, Unsigned):
        assert not isinstance(judge(door, raw, now), Verified), f"{door.name} accepted a request by nobody: {raw!r}"

"""A source as it runs: its definition and its secrets, compiled once into what the door asks of it.

Promises: nothing here raises for what a sender sends; a source that cannot verify (a preset of another version, no
usable secret) refuses everything, so that it does not stop its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from cryptography.x509 import Certificate

from events.content_text import media_type
from events.types import Appended
from ingest.definition import SecretRef, SourceDefinition, label_of, scheme_of
from ingest.handshakes import Answer, Handshake, Keys
from ingest.identity import First, Header, Identify, Part, compile_identity
from ingest.providers import PRESETS
from ingest.providers.base import Response
from ingest.reply import Reply, responder
from ingest.splitting import Split, pointed
from ingest.verify.addresses import within_addresses
from ingest.verify.base import Description, Incoming, Site, Verifier, refuse_all
from ingest.verify.ends import with_ends
from ingest.verify.unsigned import Unsigned

_HASHED = compile_identity((), ())


class Credentials(msgspec.Struct, frozen=True):
    """Names, in lower case, of headers and query parameters whose values are not stored as they came.

    `needed`: headers that are read for a signature, an id or a type; they are no secrets, whatever they are called.
    """

    headers: frozenset[bytes] = frozenset()
    query: frozenset[bytes] = frozenset()
    needed: frozenset[bytes] = frozenset()


class CompiledSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source ready for requests.

    Args:
        verify: (request, Unix seconds now) to a verdict; `Verified.secret` is an index into `labels`.
        labels: what the secrets that sign are called.
        identify: what a delivery, or an item of a batch, is called; after verification only.
        identify_whole: the same for a batch itself: no id, the hash of all of it.
        split: None where the source sends no batches; see `events`.
        batch_types: media types of batches; empty: any.
        respond: what an accepted delivery is answered.
        methods: those that deliver. `greeting_methods`: those that only greet. `allow`: all of them, for a header.
        wants_peer: whether the sender's address is asked for.
    """

    definition: SourceDefinition
    verify: Verifier
    identify: Identify = _HASHED
    identify_whole: Identify = _HASHED
    split: Split | None = None
    batch_types: frozenset[str] = frozenset()
    handshake: Handshake | None = None
    keys: Callable[[float], Keys] = lambda now: Keys((), (), Site())
    labels: tuple[str, ...] = ()
    credentials: Credentials = Credentials()
    respond: Callable[[Appended], Reply] = responder(Response())
    methods: frozenset[str] = frozenset(("POST",))
    greeting_methods: frozenset[str] = frozenset()
    allow: bytes = b"POST"
    wants_peer: bool = False

    def events(self, incoming: Incoming) -> list[bytes] | None:
        """The bodies of a batch's events; None where the request is no batch. Its body is decoded."""
        if self.split is None:
            return None
        if self.batch_types:
            declared = incoming.headers.get(b"content-type", b"").decode("latin-1")
            if media_type(declared)[0] not in self.batch_types:
                return None
        return self.split(incoming.body)

    def greet(self, incoming: Incoming, now: float, *, before: bool) -> Answer | None:
        """The answer to a greeting; None where the request is none, or not one that is answered at this point.

        Args:
            now: Unix seconds; secrets that have ended answer nothing.
            before: whether it is asked before verification.
        """
        if self.handshake is None or self.handshake.before is not before:
            return None
        if before and incoming.body:  # no greeting that anybody can send has a body: it would be kept
            return None
        return self.handshake.answer(incoming, self.keys(now))


def compile_source(
    definition: SourceDefinition,
    secrets: list[bytes],
    *,
    public_url: str = "",
    certificates: Mapping[str, Certificate] = {},
) -> CompiledSource:
    """The source, ready for requests. It does not raise: see the header.

    Args:
        secrets: as they were stored, in the definition's order.
        public_url: where senders reach ingest; a source without a URL of its own has `PUBLIC_URL/in/SLUG`.
        certificates: those that were fetched so far; it may grow.
    """
    preset, scheme = PRESETS.get(definition.preset), scheme_of(definition)
    if preset is None or scheme is None:
        return _refusing(definition, "the source's preset is unknown")
    if isinstance(scheme, Unsigned) and definition.preset != "none":
        return _refusing(definition, "the source has no scheme")
    url = definition.url or (f"{public_url.rstrip('/')}/in/{definition.source}" if public_url else "")
    site = Site(url, definition.options, certificates)
    try:
        id = preset.id if definition.id is None else definition.id
        type = preset.type if definition.type is None else definition.type
        identify = compile_identity(id, type, scheme.covered())
        split = preset.split if definition.split is None else pointed(definition.split)
    except ValueError:
        return _refusing(definition, "the source's id, type or split is not usable")
    for_greeting = {index for index, reference in enumerate(definition.secrets) if reference.handshake}
    signing = [secret for index, secret in enumerate(secrets) if index not in for_greeting]
    signers = [(reference, index) for index, reference in enumerate(definition.secrets) if not reference.handshake]
    methods = definition.methods or preset.methods
    greeting = preset.handshake.methods if preset.handshake is not None else ()
    return CompiledSource(
        definition=definition,
        verify=within_addresses(_verifier(scheme, [one for one, _ in signers], signing, site), definition.addresses),
        identify=identify,
        identify_whole=compile_identity((), (), scheme.covered()),
        split=split,
        batch_types=frozenset(preset.batch_types if definition.split is None else ()),
        handshake=preset.handshake,
        keys=_keys(definition.secrets, secrets, site),
        labels=tuple(label_of(*numbered) for numbered in signers)
        or tuple(f"secrets[{n}]" for n in range(len(secrets))),
        credentials=_credentials(scheme, (*id, *type)),
        respond=responder(definition.response or preset.response),
        methods=frozenset(methods),
        greeting_methods=frozenset(greeting),
        allow=", ".join(dict.fromkeys((*methods, *greeting))).encode(),
        wants_peer=bool(definition.addresses),
    )


def _refusing(definition: SourceDefinition, reason: str) -> CompiledSource:
    return CompiledSource(definition=definition, verify=refuse_all(reason))


def _verifier(scheme: Description, references: Sequence[SecretRef], signing: list[bytes], site: Site) -> Verifier:
    """By the secrets that are meant for signatures, each until its end."""
    ends = [reference.until for reference in references] or [None] * len(signing)
    if len(ends) != len(signing):
        return refuse_all("the source's secrets are not those of its definition")
    return with_ends(lambda some: scheme.compile(some, site), signing, ends)


def _keys(references: Sequence[SecretRef], secrets: list[bytes], site: Site) -> Callable[[float], Keys]:
    """By the time: the secrets that have not ended, apart by what they are for."""
    if not references:
        everything = Keys(secrets, (), site)
        return lambda now: everything

    def at(now: float) -> Keys:
        left = [
            (one.handshake, secret)
            for one, secret in zip(references, secrets, strict=False)
            if one.until is None or now < one.until
        ]
        return Keys([secret for greets, secret in left if not greets], [one for greets, one in left if greets], site)

    if any(one.until is not None for one in references):
        return at
    always = at(0.0)
    return lambda now: always


def _credentials(scheme: Description, parts: Iterable[Part]) -> Credentials:
    headers, query = scheme.credentials()
    needed = {*scheme.proof_headers(), *_header_names(parts)}
    return Credentials(_lowered(headers), _lowered(query), _lowered(needed))


def _header_names(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        match part:
            case Header(name, instead):
                yield from (name, instead)
            case First(inner):
                yield from _header_names(inner)
            case _:
                pass


def _lowered(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in names if name)

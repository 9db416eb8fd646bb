"""What a source is, as stored.

Promises: a definition never holds a secret that was written out, not even when it is encoded, compared or
shown; it survives JSON both ways.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from ingest.identity import Locator
from ingest.providers import PRESETS
from ingest.providers.base import Response
from ingest.verify.schemes import Description, Scheme


class _Secret(msgspec.Struct, frozen=True, kw_only=True):
    """What all secrets may say beside where they are."""

    until: float | None = None
    """Unix seconds after which it matches no more; None: no end. For replacing one without a gap."""
    handshake: bool = False
    """It is not for signatures, but for the provider's handshake (Meta's verify token, for example)."""


class FromEnv(_Secret, frozen=True, tag_field="from", tag="env"):
    """The secret is the value of an environment variable of whoever applies the definition."""

    name: str


class FromFile(_Secret, frozen=True, tag_field="from", tag="file"):
    """The secret is the text of a file, without white space at its ends."""

    path: str


class Written(_Secret, frozen=True, tag_field="from", tag="value", dict=True):
    """The secret was written out in the definition. The text is not a field, so it is neither encoded nor
    shown; what is decoded again does not have it.
    """

    @classmethod
    def of(cls, text: str, *, until: float | None = None, handshake: bool = False) -> Written:
        """A reference that holds `text` until the process ends."""
        written = cls(until=until, handshake=handshake)
        written.__dict__["_secret"] = text
        return written

    def text(self) -> str | None:
        """The secret; None if this one was decoded from a stored definition."""
        text: str | None = self.__dict__.get("_secret")
        return text


SecretRef = FromEnv | FromFile | Written


class Rate(msgspec.Struct, frozen=True):
    """At most `limit` deliveries per `per` seconds in one ingest process, `burst` at once. None: as `limit`."""

    limit: float
    per: float = 1.0
    burst: float | None = None


class SourceDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """Where webhooks come from. Encode it with `msgspec.json`; the secrets themselves are stored apart."""

    source: str
    """The slug in the URL: 1 to 63 of a-z, 0-9 and `-`."""
    preset: str
    secrets: tuple[SecretRef, ...] = ()
    """Any of them passes, so that one can be replaced by another without a gap."""
    verify: Scheme | None = None
    """None: the preset's."""
    id: Locator | None = None
    """None: the preset's. Empty: the body is hashed."""
    type: Locator | None = None
    """None: the preset's."""
    url: str = ""
    """The public URL of this source as the sender knows it, without a query; for senders that sign it. Empty: it is
    `public_url` and `/in/SOURCE`.
    """
    options: dict[str, str] = {}
    """What the preset asks for beside secrets: see `Preset.options`."""
    addresses: tuple[str, ...] = ()
    """Networks (CIDR) that may send; nobody else passes, whatever is signed. Empty: everybody."""
    methods: tuple[str, ...] = ()
    """The methods that deliver. Empty: the preset's."""
    split: str | None = None
    """JSON Pointer to the array of a batch's events ("" is the whole body). None: as the preset splits."""
    response: Response | None = None
    """What an accepted delivery is answered. None: the preset's."""
    rate: Rate | None = None
    """None: as many as come."""


def label_of(reference: SecretRef, index: int) -> str:
    """What a secret is called where it must not be shown: by where it came from."""
    match reference:
        case FromEnv(name=name):
            return name
        case FromFile(path=path):
            return path.rpartition("/")[2]
        case Written():
            return f"secrets[{index}]"
        case _:
            assert_never(reference)


def scheme_of(definition: SourceDefinition) -> Description | None:
    """How a source verifies; None if its preset is unknown here."""
    if definition.verify is not None:
        return definition.verify
    preset = PRESETS.get(definition.preset)
    return preset.scheme if preset is not None else None

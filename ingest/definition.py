"""What a source is, as stored.

Promises: a definition never holds a secret that was written out, not even when it is encoded, compared or
shown; it survives JSON both ways.
"""

from __future__ import annotations

import msgspec

from ingest.identity import Locator
from ingest.providers import PRESETS
from ingest.verify.schemes import Description, Scheme


class FromEnv(msgspec.Struct, frozen=True, tag_field="from", tag="env"):
    """The secret is the value of an environment variable of whoever applies the definition."""

    name: str


class FromFile(msgspec.Struct, frozen=True, tag_field="from", tag="file"):
    """The secret is the text of a file, without white space at its ends."""

    path: str


class Written(msgspec.Struct, frozen=True, tag_field="from", tag="value", dict=True):
    """The secret was written out in the definition. The text is not a field, so it is neither encoded nor
    shown; what is decoded again does not have it.
    """

    @classmethod
    def of(cls, text: str) -> Written:
        """A reference that holds `text` until the process ends."""
        written = cls()
        written.__dict__["_secret"] = text
        return written

    def text(self) -> str | None:
        """The secret; None if this one was decoded from a stored definition."""
        text: str | None = self.__dict__.get("_secret")
        return text


SecretRef = FromEnv | FromFile | Written


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
    """The public URL of this source as the sender knows it, without a query; for senders that sign it."""


def scheme_of(definition: SourceDefinition) -> Description | None:
    """How a source verifies; None if its preset is unknown here."""
    if definition.verify is not None:
        return definition.verify
    preset = PRESETS.get(definition.preset)
    return preset.scheme if preset is not None else None

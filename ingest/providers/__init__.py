"""Providers by name: how each signs, names and types what it sends, what it asks first and wants to be answered.

Promises: a preset is data, under thirty lines, in one shape (`ingest.providers.base.Preset`); everything in it can be
overridden or is fixed by the provider's own documentation. To add one: an entry in the family that it belongs to.
"""

from __future__ import annotations

from ingest.providers.base import Option, Preset, Response
from ingest.providers.business import BUSINESS
from ingest.providers.code import CODE
from ingest.providers.messages import MESSAGES
from ingest.providers.open import OPEN
from ingest.providers.payments import PAYMENTS

__all__ = ["PRESETS", "Option", "Preset", "Response"]

PRESETS: dict[str, Preset] = {**CODE, **PAYMENTS, **MESSAGES, **BUSINESS, **OPEN}
"""By name, in the order in which they are listed."""

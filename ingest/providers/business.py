"""Presets of those that keep customers, contracts and incidents: each names the document that its facts are from."""

from __future__ import annotations

from ingest.providers.base import Preset

BUSINESS: dict[str, Preset] = {}

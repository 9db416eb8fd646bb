"""Presets of those that carry messages between people: each names the document that its facts are from."""

from __future__ import annotations

from ingest.providers.base import Preset

MESSAGES: dict[str, Preset] = {}

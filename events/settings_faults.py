"""What is wrong with settings whose values have the right type: all at once, each as "name: expected …, got …".

What concerns one process alone is looked at here too: all processes are mostly given one environment, and whoever
starts the first learns everything. Only what a value must be opened for (`secret_key`) is left to its user.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from events.redaction import masked

if TYPE_CHECKING:
    from events.settings import Settings

_PUBLIC_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_POSITIVE = (
    "body_limit",
    "body_memory",
    "body_timeout",
    "header_limit",
    "header_timeout",
    "connections",
    "spool_limit",
    "rejected_retention",
    "append_queue",
    "lease",
    "concurrency",
    "concurrency_min",
    "api_rate",
    "api_workspace_rate",
    "max_recoveries",
    "relay_poll",
    "node_processes",
    "partition_weeks",
)
_CHOICES = {"log_format": ("auto", "json", "console"), "log_level": ("debug", "info", "warning", "error")}


def faults_of(settings: Settings) -> list[str]:
    """Every fault; none where all is well."""
    return [*_numbers(settings), *_choices(settings), *_addresses(settings)]


def _numbers(settings: Settings) -> Iterator[str]:
    for name in _POSITIVE:
        if getattr(settings, name) <= 0:
            yield f"{name}: expected more than 0, got {getattr(settings, name)}"
    if settings.body_limit > settings.body_memory // 2 > 0:
        expected = f"expected at least twice body_limit ({2 * settings.body_limit} bytes)"
        yield f"body_memory: {expected}, got {settings.body_memory}; raise it, or lower body_limit"


def _choices(settings: Settings) -> Iterator[str]:
    for name, choices in _CHOICES.items():
        if getattr(settings, name) not in choices:
            yield f"{name}: expected one of {', '.join(choices)}, got {getattr(settings, name)!r}"


def _addresses(settings: Settings) -> Iterator[str]:
    if settings.database_url and not settings.database_url.startswith(("postgresql://", "postgres://")):
        yield "database_url: expected postgresql://user:password@host:port/database, got another scheme"
    if settings.public_url and not _PUBLIC_URL.fullmatch(settings.public_url):
        yield f"public_url: expected https://hooks.example.com or the like, got {masked(settings.public_url)!r}"
    for text in settings.trusted_proxies:
        try:
            ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            yield f"trusted_proxies: expected a network such as 10.0.0.0/8, got {text!r}"
    for text in settings.egress_allow:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            yield f"egress_allow: expected a network such as 10.1.0.0/16, got {text!r}: {error}"

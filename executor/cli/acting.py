"""Who acts, for the history, and the doorbell that follows an act."""

from __future__ import annotations

import contextlib
import getpass
import socket

import redis
import rich_click as click

from events.doorbell import broker_for, ring_now


def actor() -> str:
    """Who asks: the login and the machine."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user without a name, as containers have
        return f"uid@{socket.gethostname()}"


def ring(redis_url: str, queue: str) -> None:
    """Rings for new work in a queue; a dead Redis costs a note on stderr and some time."""
    try:
        with contextlib.closing(broker_for(redis_url, [])) as broker:
            ring_now(broker, queue)
    except (redis.RedisError, OSError) as error:
        click.echo(f"headrace: no doorbell ({error}); the relay rings when Redis is back", err=True)

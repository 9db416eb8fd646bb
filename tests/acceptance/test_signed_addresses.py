"""A sender that signs its path and query is believed by the bytes it sent, through the real server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.test_rejected import Headrace, apply, headrace  # noqa: F401  (a fixture)
from tests.system import System

pytestmark = pytest.mark.anyio

SECRET = "the right secret"
SHOP = """
{source: shop, preset: generic, secrets: [{value: 'the right secret'}], id: hash,
 verify: {scheme: hmac, header: X-S, encoding: hex, signed: "{path}?{query} {body}"}}
"""


async def status(url: str, target: bytes, signed: bytes, body: bytes) -> int:
    """The status of a POST whose request line has exactly these bytes."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    signature = hmac.new(SECRET.encode(), signed + b" " + body, hashlib.sha256).hexdigest()
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nX-S: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    writer.write(head % (target, signature.encode(), len(body)) + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "target",
    [
        b"/in/shop?",
        b"/in/shop?a=b%2Fc%20d&e=%c3%bc+%C3%BC",
        b"/in/%73hop?x=1",
        b"/%69n/shop?x=1",
    ],
    ids=["plain", "query", "slug", "mount"],
)
async def test_what_was_sent_is_what_is_verified(
    target: bytes,
    system: System,
    headrace: Headrace,  # noqa: F811
    tmp_path: Path,
) -> None:
    await apply(headrace, tmp_path, SHOP)
    await system.ingest()
    assert await status(system.url, target, target, b"{}") == 202
    assert await status(system.url, target, target + b"&", b'{"n": 1}') == 401
    decoded = target.replace(b"%2F", b"/").replace(b"%73", b"s").replace(b"%69", b"i")
    if decoded != target:
        assert await status(system.url, target, decoded, b'{"n": 2}') == 401


async def test_an_address_that_is_not_ascii_is_no_http(system: System) -> None:
    await system.ingest()
    assert await status(system.url, b"/in/shop?name=\xc3\xbc", b"", b"{}") == 400

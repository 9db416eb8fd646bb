"""The certificates that senders name, fetched over HTTPS and kept; and the address that confirms an SNS subscription.

Promises: nothing is fetched but an address that one of the patterns matches as a whole; never over plain http, never
along a redirect or through a proxy of the environment; within a time and a size. What strangers can make us fetch is
bounded for each sender, which is a pattern: eight at once, and not a new address more once sixty-four have failed
within the last half minute. So one sender's strangers cannot keep another's certificates away, nor push them out of
those that are kept. Addresses that have been good before are always tried.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import httpx2
import msgspec
import structlog
from cryptography.x509 import BasicConstraints, Certificate, ExtensionNotFound, load_pem_x509_certificates

from events.errors import Overloaded, Unavailable
from ingest.verify import paypal, sns

SECONDS = 3.0
"""For one certificate, in all."""
CONFIRM_SECONDS = 5.0
"""For one confirmation, in all."""
MOST_BYTES = 64 << 10
"""Of an answer; a longer one is none."""
KEPT = 86400.0
"""Seconds that a certificate is used without being fetched again. Whether it is valid is asked at each use."""
MOST_KEPT = 64
"""Certificates of one sender; the one that was fetched first makes room."""
FAILED = 30.0
"""Seconds after a failure in which an address is not tried again."""
MOST_FAILED = 64
"""Failures at one sender within that time, after which no new address of it is tried."""
MOST_AT_ONCE = 8
"""Fetches under way at one sender, after which no new address of it is tried."""

_log = structlog.get_logger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    certificate: Certificate
    since: float


class Certificates(Mapping[str, Certificate]):
    """By address, the certificates that were fetched within the last day. Use it within one event loop.

    Args:
        certificates: patterns of the addresses that may be fetched, one for each sender.
        confirmations: patterns of those that may be called to confirm.
        transport: how HTTP is spoken; None: directly, trusting the authorities that httpx2 trusts.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        certificates: Sequence[re.Pattern[str]] = (paypal.CERTIFICATE_URL, sns.CERTIFICATE_URL),
        confirmations: Sequence[re.Pattern[str]] = (sns.SUBSCRIBE_URL,),
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._confirmations = tuple(certificates), tuple(confirmations)
        self._transport = transport
        self._clock = clock
        self._client: httpx2.AsyncClient | None = None
        self._kept: dict[str, _Kept] = {}
        self._failed: dict[str, float] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}

    def __getitem__(self, url: str) -> Certificate:
        kept = self._kept[url]
        if self._clock() - kept.since > KEPT:
            raise KeyError(url)
        return kept.certificate

    def __iter__(self) -> Iterator[str]:
        return iter([url for url, kept in self._kept.items() if self._clock() - kept.since <= KEPT])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    async def fetch(self, url: str) -> None:
        """Fetches a certificate, which is here afterwards. Those who ask for the same one at once share the answer.

        Raises:
            Unavailable: it cannot be had now, or is none that may be had.
        """
        task = self._fetching.get(url)
        if task is None:
            self._check(url)
            task = asyncio.create_task(self._fetch(url))
            task.add_done_callback(_consume)
            self._fetching[url] = task
        await asyncio.shield(task)

    async def confirm(self, url: str) -> None:
        """Calls an address that confirms a subscription; done when it was answered 2xx.

        Raises:
            Unavailable: it was not, or is none that may be called.
        """
        if not _matches(self._confirmations, url):
            raise Unavailable("expected an address that confirms a subscription, got another one")
        await self._get(url, CONFIRM_SECONDS)

    async def close(self) -> None:
        """Stops what is under way."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _check(self, url: str) -> None:
        """Whether an address may be tried now.

        Raises:
            Unavailable: it may not.
        """
        if not _matches(self._allowed, url):
            raise Unavailable("expected the address of a sender's certificate, got another one")
        now = self._clock()
        self._failed = {failed: since for failed, since in self._failed.items() if now - since < FAILED}
        if url in self._failed:
            raise Unavailable(f"the certificate at {url} could not be fetched a moment ago")
        if url in self._kept:  # and too old: strangers cannot add to these, so they are few
            return
        if len(self._alike(url, self._fetching)) >= MOST_AT_ONCE or len(self._alike(url, self._failed)) >= MOST_FAILED:
            raise Overloaded("too many certificates that cannot be had are asked for; try again in half a minute")

    def _alike(self, url: str, urls: Iterable[str]) -> list[str]:
        """Those of the same sender, in their order."""
        sender = next(pattern for pattern in self._allowed if pattern.fullmatch(url))
        return [one for one in urls if sender.fullmatch(one)]

    async def _fetch(self, url: str) -> None:
        try:
            certificate = _leaf(await self._get(url, SECONDS))
        except Unavailable as error:
            self._failed[url] = self._clock()
            _log.warning("certificate.not_fetched", url=url, error=str(error))
            raise
        else:
            self._kept.pop(url, None)
            self._kept[url] = _Kept(certificate, self._clock())
            if len(alike := self._alike(url, self._kept)) > MOST_KEPT:
                del self._kept[alike[0]]
            _log.info("certificate.fetched", url=url)
        finally:
            del self._fetching[url]

    async def _get(self, url: str, seconds: float) -> bytes:
        """The body of a 2xx answer.

        Raises:
            Unavailable: there is none in time. The message does not hold the address, which may hold a token.
        """
        if self._client is None:
            self._client = httpx2.AsyncClient(
                transport=self._transport or httpx2.AsyncHTTPTransport(trust_env=False),
                follow_redirects=False,
                trust_env=False,
                timeout=max(SECONDS, CONFIRM_SECONDS),
            )
        pieces: list[bytes] = []
        left = MOST_BYTES
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream("GET", url, headers={"accept-encoding": "identity"}) as response,
            ):
                if not response.is_success:
                    raise Unavailable(f"expected status 2xx from {response.url.host}, got {response.status_code}")
                async for piece in response.aiter_raw():
                    left -= len(piece)
                    if left < 0:
                        raise Unavailable(f"expected at most {MOST_BYTES} bytes from {response.url.host}, got more")
                    pieces.append(piece)
        except TimeoutError:
            raise Unavailable(f"expected an answer within {seconds:g} s, got none") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Unavailable(f"expected an answer over HTTPS, got {type(error).__name__}") from None
        return b"".join(pieces)


def _matches(patterns: Sequence[re.Pattern[str]], url: str) -> bool:
    return url.startswith("https://") and any(pattern.fullmatch(url) for pattern in patterns)


def _leaf(pem: bytes) -> Certificate:
    """The sender's own certificate out of a file that may hold its chain too.

    Raises:
        Unavailable: there is none.
    """
    try:
        certificates = load_pem_x509_certificates(pem)
        return next(certificate for certificate in certificates if not _is_authority(certificate))
    except (ValueError, StopIteration):
        raise Unavailable("expected a certificate in PEM, got something else") from None


def _is_authority(certificate: Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except ExtensionNotFound:
        return False


def _consume(task: asyncio.Task[None]) -> None:
    """Takes note of the outcome, also where whoever asked has gone away."""
    if not task.cancelled():
        task.exception()

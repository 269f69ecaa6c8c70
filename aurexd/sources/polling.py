"""What providers that we poll share: the cadence, the HTTP client, and its failures in words.

Polls go one at a time at a fixed cadence, never faster than the provider allows. An answer with the source
time and price of the one before is no new observation: it proves the line, not the price, so a market that
stands still goes stale by itself.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import ClassVar, Generic, NamedTuple, TypeVar
from urllib.parse import quote as percent_encoded

import httpx
import msgspec
import pydantic
import trio

import aurexd
from aurexd.clock import Clock
from aurexd.errors import FeedError
from aurexd.market import EpochUs
from aurexd.sources.base import Feed, Provider, SourceSettings, client_tls
from aurexd.sources.plausible import MAX_RETRY_AFTER_S, excerpt, retry_after_s

CONNECT_TIMEOUT_S = 5.0  # TCP, TLS and the proxy between: two SYN retransmissions (1 s, 3 s) and some
ANSWER_TIMEOUT_S = 10.0  # the whole request, so that a server which sends byte by byte cannot hold us
MAX_ANSWER_BYTES = 65_536  # answers are about 1 KB
REFUSED_RETRY_S = 900.0  # after a 4xx: asking again soon makes a block worse, and it may yet be lifted
RATE_LIMITED_RETRY_S = 60.0  # after a 429 that names no time


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer says of one code."""

    source_time: EpochUs | None
    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None


class Answer(NamedTuple):
    """One poll's result."""

    quote: Quote
    fresh_for_s: float = 0.0
    """Asking again sooner would give the same answer, says the provider."""


Asking = Callable[[str], Awaitable[Answer]]
"""Ask the provider for one of its codes; raises FeedError."""


class PollingSettings(SourceSettings):
    """What every source that polls over HTTP has."""

    proxy: str | None = pydantic.Field(
        default=None,
        pattern=r"^https?://",
        description="An HTTP proxy, as http://host:port. Default: none; the environment is not read.",
    )


class HttpPollingSettings(PollingSettings):
    """The same, with an address that a stand-in can take."""

    url: str = pydantic.Field(pattern=r"^https?://", description="Where to ask; the code follows it.")


P = TypeVar("P", bound=PollingSettings)
H = TypeVar("H", bound=HttpPollingSettings)


class Polling(Provider[P], Generic[P]):
    """A provider that is asked again and again."""

    title: ClassVar[str]
    """The provider's own name, for messages to people."""
    min_interval_s: ClassVar[float]
    """Never ask for the same code more often than this."""

    def __init__(self, settings: P, *, update_interval_s: float) -> None:
        self._interval_changed = trio.Event()
        super().__init__(settings, update_interval_s=update_interval_s)
        # These outlive a `run`: no retry or resume may ask too soon, or present an old answer as news.
        self._asked_at = -math.inf
        self._fresh_for_s = 0.0
        self._seen: dict[str, Quote] = {}

    def change_update_interval(self, update_interval_s: float) -> None:
        """Holds for the poll that is waited for, too."""
        super().change_update_interval(update_interval_s)
        self.interval_s = max(update_interval_s, self.min_interval_s)
        # Asked rarely, a price lasts longer: until three polls have brought nothing.
        usual = type(self).traits
        stale_after_s = max(usual.stale_after_s, 3 * self.interval_s)
        self.traits = msgspec.structs.replace(usual, stale_after_s=stale_after_s)
        self._interval_changed.set()

    @abc.abstractmethod
    def asking(self, feed: Feed) -> AbstractAsyncContextManager[Asking]:
        """Open what is needed to ask; closed when the connection ends."""

    async def run(self, feed: Feed) -> None:
        """Ask for each subscription in turn, for ever; one poll that fails ends it."""
        async with self.asking(feed) as ask:
            for subscription in itertools.cycle(feed.subscriptions):
                await self._wait_until_due(len(feed.subscriptions))
                self._asked_at = trio.current_time()
                self._fresh_for_s = 0.0
                quote, self._fresh_for_s = await ask(subscription.code)
                feed.connected()
                if quote == self._seen.get(subscription.code):
                    feed.heard()
                    continue
                self._seen[subscription.code] = quote
                await feed.tick(
                    subscription.code,
                    source_time=quote.source_time,
                    bid=quote.bid,
                    ask=quote.ask,
                    last=quote.last,
                )

    async def _wait_until_due(self, codes: int) -> None:
        due = False
        while not due:
            self._interval_changed = trio.Event()
            with trio.move_on_at(self._asked_at + max(self.interval_s, self._fresh_for_s) / codes) as waited:
                await self._interval_changed.wait()
            due = waited.cancelled_caught


class HttpPolling(Polling[H], Generic[H]):
    """A provider that answers a GET of `url` + code with one JSON document."""

    @staticmethod
    @abc.abstractmethod
    def read(body: bytes, code: str) -> Quote | None:
        """The quote in an answer; None when it is well-formed and has none.

        Raises:
            ValueError: the answer is not what the provider sends; says why.

        """

    @contextlib.asynccontextmanager
    async def asking(self, feed: Feed) -> AsyncIterator[Asking]:
        """One kept-alive connection."""
        async with http_client(self.title, self.settings.proxy) as client:

            async def ask(code: str) -> Answer:
                url = self.settings.url.rstrip("/") + "/" + percent_encoded(code)
                headers, body = await fetch(client, url, title=self.title, code=code, clock=feed.clock)
                try:
                    quote = self.read(body, code)
                except ValueError as error:
                    feed.rejected("garbage", f"{error}: {excerpt(body)}")
                    raise FeedError(
                        f"{self.title} answered for {code!r} what is not a quote ({error}): {excerpt(body)}"
                    ) from error
                if quote is None:
                    feed.rejected("no_quote", excerpt(body))
                    raise FeedError(f"{self.title} answered without a quote for {code!r}: {excerpt(body)}")
                return Answer(quote, max_age_s(headers.get("Cache-Control", "")))

            yield ask


def http_client(title: str, proxy: str | None) -> httpx.AsyncClient:
    """One kept-alive connection; the environment's proxies and .netrc are not read.

    Raises:
        FeedError: the proxy cannot be used.

    """
    try:
        return httpx.AsyncClient(
            verify=client_tls(),
            trust_env=False,
            proxy=proxy,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=1, keepalive_expiry=None),
            # Answers are small, and what is not compressed cannot grow when unpacked.
            headers={
                "User-Agent": f"aurexd/{aurexd.__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
        )
    except httpx.InvalidURL:  # it may hold a password, so it is not quoted
        raise FeedError(
            f"{title}: this source's `proxy` cannot be used: write it as http://host:port",
            fatal=True,
        ) from None


async def fetch(
    client: httpx.AsyncClient,
    url: str,
    *,
    title: str,
    code: str,
    clock: Clock,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> tuple[httpx.Headers, bytes]:
    """GET `url`, which is about the provider's `code`: the answer's headers and its body.

    Raises:
        FeedError: it is not to be had; says why, and when to ask again.

    """
    try:
        with trio.fail_after(ANSWER_TIMEOUT_S):
            async with client.stream("GET", url) as response:
                _check_status(response, title, code, clock)
                return response.headers, await _read_bounded(response, title, max_bytes)
    except (trio.TooSlowError, httpx.ReadTimeout):
        raise FeedError(
            f"{title} did not answer completely within {ANSWER_TIMEOUT_S:g} s; we ask again"
        ) from None
    except httpx.ConnectTimeout:
        raise FeedError(
            f"{title} could not be reached within {CONNECT_TIMEOUT_S:g} s: "
            "check the network and this source's `url`"
        ) from None
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise FeedError(
            f"{title} cannot be reached ({cause(error)}): check the network and this source's `url`"
        ) from error
    except httpx.RequestError as error:
        raise FeedError(f"{title}: the connection broke ({cause(error)}); we ask again") from error
    except httpx.InvalidURL as error:
        raise FeedError(
            f"{title}: this source's `url` cannot be used ({error}): correct it", fatal=True
        ) from error


async def _read_bounded(response: httpx.Response, title: str, max_bytes: int) -> bytes:
    body = bytearray()
    # Leaving httpx's generators by an exception of ours would leave them open; a cancellation ends them.
    with trio.CancelScope() as reading:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > max_bytes:
                reading.cancel()
    if len(body) > max_bytes:
        raise FeedError(
            f"{title} sends more than {max_bytes} bytes, which is no quote: check this source's `url`"
        )
    return bytes(body)


def _check_status(response: httpx.Response, title: str, code: str, clock: Clock) -> None:
    # None of these is fatal: a block is lifted, a 404 can be a passing fault of what stands in front.
    # Where only a person can help, we ask again rarely and say so.
    wait_s = REFUSED_RETRY_S
    match response.status_code:
        case 200:
            return
        case 401 | 403:
            advice = "it refuses us: see its terms, and whether this machine's address is blocked"
        case 404:
            advice = "it does not know that: check this source's `symbols` and `url`"
        case 429:
            advice = "we ask too often for it: if that persists, raise update_interval_s"
            wait_s = RATE_LIMITED_RETRY_S
        case status if status >= 500 or status == 408:
            advice = "it is in trouble; we ask again"
            wait_s = 0.0
        case _:
            advice = "that is no answer we know: check this source's `symbols` and `url`"
    raise FeedError(
        f"{title} answered HTTP {response.status_code} for {code!r}: {advice}",
        retry_after_s=retry_after_s(response.headers.get("Retry-After", ""), clock.now()) or wait_s,
    )


def max_age_s(cache_control: str) -> float:
    """Seconds from an HTTP `Cache-Control: max-age=…`; 0 where there is none."""
    for directive in cache_control.split(","):
        name, _, value = directive.strip().partition("=")
        value = value.strip('"')
        if name.lower() == "max-age" and value.isascii() and value.isdigit():
            return min(float(value), MAX_RETRY_AFTER_S)
    return 0.0


def cause(error: BaseException) -> str:
    """The innermost text of an error: libraries wrap the one that tells something in ones that do not."""
    text = str(error)
    inner = error.__cause__ or error.__context__
    while inner is not None:
        text = str(inner) or text
        inner = inner.__cause__ or inner.__context__
    return text or type(error).__name__

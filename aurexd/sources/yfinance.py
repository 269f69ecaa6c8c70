"""Yahoo Finance by polling through the yfinance library, which blocks: it runs in a thread of its own.

Yahoo's gold is the COMEX future `GC=F`, about ten minutes late; it has no spot gold. The library keeps one
HTTP session, cookie and crumb for the whole process, so all sources of this type share one way out.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import math
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import msgspec
import pydantic
import pykka
import trio

from aurexd.backoff import Backoff
from aurexd.clock import Clock
from aurexd.errors import FeedError
from aurexd.market import SECOND_US, EpochUs, Instrument
from aurexd.sources.base import Bar, Feed, HistoryProvider, Traits
from aurexd.sources.plausible import usable
from aurexd.sources.polling import Answer, Asking, Polling, PollingSettings, Quote

CHART_TIMEOUT_S = 10.0  # the library's own default for the one request of a poll
CALL_TIMEOUT_S = 90.0
"""A call may take this long. Cold, the library waits for cookie and crumb (30 s each), then for the time zone
and the chart (10 s each)."""
RATE_LIMITED_RETRY_S = 60.0  # doubles with each refusal in a row: the library asks three times per refusal
RATE_LIMITED_RETRY_CAP_S = 900.0
MAX_STUCK_THREADS = 3  # abandoned in calls that never returned; more would only pile up
HISTORY_HOURS = 168.0  # Yahoo gives minutes of a week at a time
DEFAULT_DECIMALS = 2  # where Yahoo gives no priceHint


class YFinanceSettings(PollingSettings):
    """One `[[sources]]` table of type yfinance."""

    ca_file: Path | None = pydantic.Field(
        default=None,
        description="PEM file of authorities to trust, for a proxy that opens TLS. Default: the public ones.",
    )
    cache_dir: Path | None = pydantic.Field(
        default=None,
        description="The library keeps its cookie in yfinance/ in here. Default: $CACHE_DIRECTORY (systemd), "
        "else aurexd/ in the user's cache.",
    )


class YFinance(Polling[YFinanceSettings], HistoryProvider[YFinanceSettings]):
    """Polls Yahoo through yfinance. Codes are Yahoo's: `GC=F`."""

    title = "Yahoo (yfinance)"
    # Yahoo states no limit, and bans who asks too often; its price is minutes old anyway.
    min_interval_s = 5.0
    traits = Traits(
        # Its time moves with each trade, and in a thin hour minutes pass between two.
        stale_after_s=300.0,
        known_delay_s=600.0,
        # Each call has its own deadline, and polls may be far apart.
        silence_s=math.inf,
        # An error costs Yahoo three requests, so the first one already waits.
        reconnect=Backoff(floor_s=10.0, base_s=10.0, cap_s=900.0),
    )
    Settings = YFinanceSettings

    def __init__(self, settings: YFinanceSettings, *, update_interval_s: float) -> None:
        super().__init__(settings, update_interval_s=update_interval_s)
        self._rate_limits_in_a_row = 0
        self._threads: list[pykka.ActorRef[YahooThread]] = []

    @staticmethod
    def instrument_of(code: str) -> Instrument | None:
        """`…=F` is a future; of the others Yahoo has all kinds."""
        return Instrument.FUTURE if code.endswith("=F") else None

    @contextlib.asynccontextmanager
    async def asking(self, feed: Feed) -> AsyncIterator[Asking]:
        """One thread while the polls succeed; the next connection gets a fresh one with fresh Tickers."""
        thread = self._start_thread()

        async def ask(code: str) -> Answer:
            try:
                quote = await _call(thread, functools.partial(Poll, code), code)
            except RateLimitedError as error:
                wait_s = RATE_LIMITED_RETRY_S * 2.0 ** min(self._rate_limits_in_a_row, 10)
                error.retry_after_s = min(wait_s, RATE_LIMITED_RETRY_CAP_S)
                self._rate_limits_in_a_row += 1
                raise
            except GarbageError as error:
                feed.rejected("garbage", str(error))
                raise
            self._rate_limits_in_a_row = 0
            return Answer(quote)

        try:
            yield ask
        finally:
            # It ends when its call returns. Stuck in one, it is left behind: nothing can end a thread.
            thread.stop(block=False)

    @property
    def history_hours(self) -> float:
        """See `HistoryProvider.history_hours`."""
        return HISTORY_HOURS

    async def history(self, code: str, start: EpochUs, end: EpochUs, clock: Clock) -> list[Bar]:
        """See `HistoryProvider.history`."""
        del clock
        thread = self._start_thread()
        try:
            return await _call(thread, functools.partial(Minutes, code, start, end), code)
        finally:
            thread.stop(block=False)

    def _start_thread(self) -> pykka.ActorRef[YahooThread]:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= MAX_STUCK_THREADS:
            raise FeedError(
                f"{self.title}: {len(self._threads)} calls have not returned; we make no more until one does",
                retry_after_s=RATE_LIMITED_RETRY_S,
            )
        thread = YahooThread.start(self.settings)
        self._threads.append(thread)
        return thread


class RateLimitedError(FeedError):
    """Yahoo said 429."""


class GarbageError(FeedError):
    """Yahoo's answer is not what the library, or we, can use."""


class Poll(msgspec.Struct, frozen=True):
    """Ask Yahoo for `code`; `reply` is called in the thread, once."""

    code: str
    reply: Callable[[Quote | FeedError], None]


class Minutes(msgspec.Struct, frozen=True):
    """Ask Yahoo for the minutes of `code` from `start` to `end`; `reply` as in `Poll`."""

    code: str
    start: EpochUs
    end: EpochUs
    reply: Callable[[list[Bar] | FeedError], None]


R = TypeVar("R")


async def _call(
    thread: pykka.ActorRef[YahooThread], ask: Callable[[Callable[[R | FeedError], None]], Any], code: str
) -> R:
    """The thread's answer, awaited on the loop; `ask` makes the message from where the reply is to go."""
    answered = trio.Event()
    answers: list[R | FeedError] = []
    token = trio.lowlevel.current_trio_token()

    def deliver(answer: R | FeedError) -> None:
        answers.append(answer)
        answered.set()

    def reply(answer: R | FeedError) -> None:
        with contextlib.suppress(
            trio.RunFinishedError
        ):  # an abandoned call may return after the daemon's end
            token.run_sync_soon(deliver, answer)

    thread.tell(ask(reply))
    with trio.move_on_after(CALL_TIMEOUT_S):
        await answered.wait()
    if not answers:
        raise FeedError(
            f"Yahoo (yfinance): no answer for {code!r} within {CALL_TIMEOUT_S:g} s; the call is abandoned"
        )
    answer = answers[0]
    if isinstance(answer, FeedError):
        raise answer
    return answer


class YahooThread(pykka.ThreadingActor):
    """The one thread that touches its Tickers: the library's objects are not for two.

    trio's worker threads would not do: they change from call to call, and with them the library's connection.
    """

    use_daemon_thread = True  # stuck in a call, it must not hold up the daemon's end

    def __init__(self, settings: YFinanceSettings) -> None:
        super().__init__()
        self._settings = settings
        self._tickers: dict[str, Any] = {}

    def on_receive(self, message: Poll | Minutes) -> None:
        """Answer with what was asked for or a FeedError, whatever the library raises."""
        answer: Any
        try:
            if isinstance(message, Poll):
                answer = self._ask(message.code, _poll)
            else:
                answer = self._ask(
                    message.code, functools.partial(_minutes, start=message.start, end=message.end)
                )
        except FeedError as error:
            answer = error
        except ImportError as error:
            answer = FeedError(
                f"yfinance cannot be loaded ({error}): install aurexd with all it needs", fatal=True
            )
        except json.JSONDecodeError:  # curl_cffi's is an OSError too
            answer = GarbageError(f"Yahoo (yfinance) answered for {message.code!r} what is not JSON")
        except OSError as error:
            answer = _unreachable(message.code, error)
        except Exception as error:
            # The library works on Yahoo's JSON unchecked: KeyError, TypeError, anything.
            answer = GarbageError(
                f"Yahoo (yfinance) answered for {message.code!r} what the library cannot read: {error!r}"
            )
        message.reply(answer)

    def _ask(self, code: str, question: Callable[[Any, str], R]) -> R:
        library = _library(self._settings)
        try:
            ticker = self._tickers.get(code)
            if ticker is None:
                # The look-up of its time zone is kept for ever, even when the answer was an error page.
                library.data.YfData.cache_get.cache_clear()
                session = _session(self._settings.ca_file) if self._settings.ca_file else None
                ticker = self._tickers[code] = library.Ticker(code, session=session)
            return question(ticker, code)
        except library.exceptions.YFRateLimitError as error:
            raise RateLimitedError(
                "Yahoo (yfinance) says we ask too often: if that persists, raise update_interval_s"
            ) from error
        except library.exceptions.YFTickerMissingError as error:
            raise FeedError(
                f"Yahoo (yfinance) has no price for {code!r} ({error}): check this source's `symbols`",
                retry_after_s=RATE_LIMITED_RETRY_S,  # it cost three requests
            ) from error
        except library.exceptions.YFDataException as error:
            raise FeedError(f"Yahoo (yfinance) is down: {error}") from error


def _poll(ticker: Any, code: str) -> Quote:
    # One request; the price comes with it. Reading `tradingPeriods` of the metadata, or all of it, would make
    # another.
    ticker.history(period="1d", interval="1d", timeout=CHART_TIMEOUT_S)
    metadata = ticker.history_metadata
    return _quote(
        code,
        metadata.get("regularMarketPrice"),
        metadata.get("regularMarketTime"),
        metadata.get("priceHint"),
    )


def _minutes(ticker: Any, code: str, *, start: EpochUs, end: EpochUs) -> list[Bar]:
    # With prepost the library leaves the rows as they are; without, it wants `tradingPeriods`.
    frame = ticker.history(
        start=start // SECOND_US,
        end=-(-end // SECOND_US),
        interval="1m",
        prepost=True,
        actions=False,
        auto_adjust=False,
        timeout=CHART_TIMEOUT_S,
    )
    step = _step(ticker.history_metadata.get("priceHint"))
    bars = []
    for time, *prices in frame[["Open", "High", "Low", "Close"]].itertuples():
        if any(math.isnan(price) for price in prices):
            continue  # nobody traded
        found = [usable(Decimal(str(price))) for price in prices]
        if None in found:
            raise GarbageError(f"Yahoo (yfinance) answered for {code!r} a minute of {prices!r}")
        open_, high, low, close = (price.quantize(step) for price in found if price is not None)
        bars.append(
            Bar(
                start=EpochUs(round(time.timestamp()) * SECOND_US),
                open=open_,
                high=high,
                low=low,
                close=close,
            )
        )
    return bars


def _step(price_hint: Any) -> Decimal:
    """Yahoo's own precision: its floats carry the noise of a float32 (4448.39990234375)."""
    decimals = price_hint if isinstance(price_hint, int) and 0 <= price_hint <= 8 else DEFAULT_DECIMALS
    return Decimal(1).scaleb(-decimals)


def _unreachable(code: str, error: OSError) -> FeedError:
    """What an error of curl_cffi's amounts to; all of them are OSErrors."""
    status: int = getattr(getattr(error, "response", None), "status_code", 0)
    if status >= 400:
        return FeedError(
            f"Yahoo (yfinance) answered HTTP {status} for {code!r}: check this source's `symbols`",
            retry_after_s=RATE_LIMITED_RETRY_S,
        )
    text = str(error).partition(" See https://curl.se")[0]
    return FeedError(
        f"Yahoo (yfinance) cannot be reached ({text}): check the network and this source's `proxy`"
    )


def _quote(code: str, price: Any, time: Any, price_hint: Any) -> Quote:
    """The quote from the library's values: a float, a pandas Timestamp, and Yahoo's number of decimals."""
    if price is None or time is None:
        raise GarbageError(f"Yahoo (yfinance) answered without a price for {code!r}")
    last = Decimal(str(price))
    if usable(last) is None:
        raise GarbageError(f"Yahoo (yfinance) answered for {code!r} a price of {price!r}")
    return Quote(
        source_time=EpochUs(round(time.timestamp() * SECOND_US)),
        last=last.quantize(_step(price_hint)),
    )


_library_lock = threading.Lock()
_libraries_set_up: list[ModuleType] = []


def _library(settings: YFinanceSettings) -> Any:
    """Import yfinance and set it up for a daemon.

    Its settings are the process's: of several sources' the last hold, for the cache the first.
    """
    with _library_lock:
        import yfinance  # brings pandas and takes a second: only where such a source is configured

        if yfinance not in _libraries_set_up:
            # The library trips pandas' deprecations on each call; its own import switches such warnings on.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="yfinance")
            # Only before its first use: later the old files would stay in use.
            yfinance.set_tz_cache_location(str(_private_directory(settings.cache_dir)))
            _libraries_set_up.append(yfinance)
        yfinance.config.debug.hide_exceptions = False  # else a failure is an empty table
        yfinance.config.network.proxy = settings.proxy
        return yfinance


@functools.cache
def _session(ca_file: Path) -> Any:
    """A session that trusts `ca_file`: one for the process, as it holds the cookie that the crumb needs."""
    from curl_cffi import requests

    return requests.Session(impersonate="chrome", verify=str(ca_file))


def _private_directory(parent: Path | None) -> Path:
    """A directory that only we can write, as the library's cookie is a pickle; a passing one if need be."""
    try:
        if parent is None and (by_systemd := os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]):
            parent = Path(by_systemd)
        elif parent is None:
            parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aurexd"
        directory = parent / "yfinance"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        # Without a place for its cookie the library would fetch one before every request.
        directory = Path(tempfile.mkdtemp(prefix="aurexd-yfinance-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory

"""What the port answers over HTTP: the routes of `/api/v1`, health, and the dashboard. It decides nothing."""

from __future__ import annotations

import functools
import importlib.resources
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import msgspec
import pykka
import structlog
import trio
from msgspec import UNSET
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from aurexd import __version__
from aurexd.actors.messages import (
    Ask,
    GetCandles,
    GetHistory,
    GetStats,
    GetStatuses,
    GetStore,
    GetSymbol,
    GetSymbols,
    GetWhy,
    SourceStatus,
    SymbolState,
)
from aurexd.actors.trio_actor import ask_when_room
from aurexd.clock import Clock
from aurexd.errors import StoreError
from aurexd.foreign import without_directories
from aurexd.identity import Identity
from aurexd.market import EpochUs
from aurexd.protocol.schema import asyncapi_document
from aurexd.server import request as head
from aurexd.server.alerts import AlertRoutes
from aurexd.server.credentials import FOR_OPERATORS, Credentials, Unauthorized, needs_token, scope_of
from aurexd.server.dashboard import Dashboard
from aurexd.server.history import TICK, Answer, Asked, candle_answer, read_asked, tick_answer
from aurexd.server.interface import (
    Error,
    Health,
    LatestPrice,
    Phase,
    QueryError,
    Readiness,
    Source,
    SourceHistory,
    SourceHistoryQuery,
    Sources,
    Stats,
    Symbol,
    SymbolQuery,
    WhyPrice,
    quoted,
    read_query,
)
from aurexd.server.metrics import Metrics
from aurexd.server.openapi import openapi_document

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

ASK_S = 2.0
"""An actor that does not answer within this is in trouble, and the client is told so."""

HISTORY_S = 10.0
"""The same for history, which reads from the disk."""

LONG_ANSWER_ROWS = 1000
"""What is written within some 5 ms."""

HEALTH = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is answered to the last."""

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Lifecycle(Protocol):
    """What the daemon knows of itself."""

    @property
    def phase(self) -> Phase:
        """Of its life."""

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""

    @property
    def retry_after_s(self) -> int:
        """While it drains: seconds until it is worth while to come again."""


class Api:
    """The HTTP application; `app` is ASGI."""

    def __init__(
        self,
        *,
        aggregator: pykka.ActorRef[Any],
        hub: pykka.ActorRef[Any],
        alerts: pykka.ActorRef[Any],
        persister: pykka.ActorRef[Any],
        sources: Callable[[], Awaitable[list[SourceStatus]]],
        lifecycle: Lifecycle,
        credentials: Credentials,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        """Requests that reached the routes, by route and status."""
        self._aggregator = aggregator
        self._hub = hub
        self._persister = persister
        self._sources = sources
        self._lifecycle = lifecycle
        self._credentials = credentials
        self._clock = clock
        self._metrics = metrics
        dashboard = Dashboard(importlib.resources.files("aurexd") / "dashboard")
        self.routes = Starlette(
            routes=[
                Route("/", dashboard.index),
                Route("/page/{name}", dashboard.file),
                Route("/healthz", self.healthz),
                Route("/readyz", self.readyz),
                Route("/metrics", self.metrics),
                Route("/api/v1/prices/latest", self.latest),
                Route("/api/v1/prices/history", self.history),
                Route("/api/v1/prices/why", self.why),
                Route("/api/v1/sources", self.sources),
                Route("/api/v1/sources/history", self.source_history),
                *AlertRoutes(
                    alerts=alerts, persister=persister, owner=_identity, ask=_ask, answer=_json
                ).routes,
                Route("/api/v1/ws/stats", self.stats),
                Route("/api/v1/ws/stream", self.stream),
                Route("/api/v1/openapi.json", self.openapi),
                Route("/api/v1/asyncapi.json", self.asyncapi),
            ],
            exception_handlers={
                HTTPException: _error,
                QueryError: _bad_query,
                trio.TooSlowError: _busy,
                pykka.ActorDeadError: _busy,
                Exception: _failure,
            },
        )
        self.routes.router.redirect_slashes = False

    async def app(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """The routes; while the daemon drains, only those that say how it is, and to who may not read, only what is
        public."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.routes)(scope, receive, self._counting(scope, send))

    def _counting(self, scope: AsgiScope, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answered[self._route(scope), message["status"]] += 1
            await send(message)

        return counted

    def _route(self, scope: AsgiScope) -> str:
        """The path as the route has it, `{name}` and all: what clients make up must not become many of them."""
        routes = (route for route in self.routes.routes if isinstance(route, Route))
        return next((r.path for r in routes if r.matches(scope)[0] is not Match.NONE), "other")

    def _refusal(self, scope: AsgiScope) -> Response | None:
        """In front of all routes, so that it holds for a new one, too."""
        if self._lifecycle.phase == "draining" and scope["path"] not in HEALTH:
            headers = {"Retry-After": str(self._lifecycle.retry_after_s)}
            return _problem(503, "the daemon stops: come again when it is back", headers)
        answer: Identity | Unauthorized | None = None
        if scope["path"] in FOR_OPERATORS:
            answer = self._credentials.authorize_operator(_head(scope))
        elif needs_token(scope["path"]):
            answer = self._credentials.authorize(_head(scope), scope_of(scope["path"]))
        if isinstance(answer, Unauthorized):
            return _problem(answer.status, answer.message, {"WWW-Authenticate": answer.challenge})
        scope["state"]["identity"] = answer
        return None

    # --- prices ---

    async def latest(self, request: Request) -> Response:
        """The newest price of one symbol, with the quality it has now."""
        state = await self._symbol(read_query(SymbolQuery, request.query_params))
        if state.price is None:
            raise HTTPException(503, f"{state.symbol} has no price yet: {state.status_reason}")
        return _json(LatestPrice.of(state.price, self._clock.now()))

    async def why(self, request: Request) -> Response:
        """From which ticks and by which rules the price of one symbol comes."""
        state = await self._symbol(read_query(SymbolQuery, request.query_params))
        why = await _ask(self._aggregator, GetWhy(symbol=state.symbol))
        assert why is not None
        return _json(WhyPrice.of(why, self._clock.now()))

    async def history(self, request: Request) -> Response:
        """The stored prices of one symbol, one by one or as candles, oldest first."""
        now = self._clock.now()
        asked = read_asked(request.query_params, request.headers.get("accept", ""), now)
        state = await self._symbol(read_query(SymbolQuery, request.query_params))
        try:
            answer = await self._history(asked, state, now)
        except StoreError as error:
            raise _no_history(error) from error
        etag = answer.headers["ETag"]
        known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in known or etag.removeprefix("W/") in known or "*" in known:
            headers = {name: value for name, value in answer.headers.items() if name != "Content-Type"}
            return Response(status_code=304, headers=headers)
        return Response(answer.body, headers=answer.headers)

    async def _history(self, asked: Asked, state: SymbolState, now: EpochUs) -> Answer:
        symbol, start = state.symbol, EpochUs(0) if asked.start is None else asked.start
        if asked.interval == TICK:
            question = GetHistory(symbol=symbol, start=start, end=asked.end, limit=asked.limit)
            rows = await _ask(self._persister, question, HISTORY_S)
            return await _off_the_loop(len(rows), tick_answer, asked, symbol, rows)
        page = await _ask(
            self._persister,
            GetCandles(
                symbol=symbol,
                interval=asked.interval,
                start=start,
                end=asked.end,
                limit=asked.limit,
                now=now,
            ),
            HISTORY_S,
        )
        return await _off_the_loop(
            len(page.candles), candle_answer, asked, symbol, state.instrument, state.decimals, page
        )

    async def _symbol(self, query: SymbolQuery) -> SymbolState:
        """The symbol that was asked for, or the first default one."""
        if query.symbol is UNSET:
            states = await _ask(self._aggregator, GetSymbols())
            return next((state for state in states if state.default), states[0])
        state = await _ask(self._aggregator, GetSymbol(symbol=query.symbol))
        if state is None:
            states = await _ask(self._aggregator, GetSymbols())
            raise HTTPException(
                404, f"no symbol {quoted(query.symbol)}; there are {', '.join(s.symbol for s in states)}"
            )
        return state

    # --- the daemon ---

    async def sources(self, _request: Request) -> Response:
        """Every source: its state, why it failed, when it tries again; and each symbol's carrier."""
        states = await _ask(self._aggregator, GetSymbols())
        return _json(
            Sources(
                sources=[Source.of(status) for status in await self._sources()],
                symbols=[Symbol.of(state) for state in states],
            )
        )

    async def source_history(self, request: Request) -> Response:
        """When which symbol had another source or quality, and why."""
        asked = read_query(SourceHistoryQuery, request.query_params)
        if asked.symbol:
            await self._symbol(SymbolQuery(symbol=asked.symbol))
        question = GetStatuses(
            symbol=asked.symbol or None,
            before=None if asked.before is UNSET else asked.before,
            limit=asked.limit,
        )
        try:
            page = await _ask(self._persister, question, HISTORY_S)
        except StoreError as error:
            raise _no_history(error) from error
        return _json(SourceHistory.of(page, asked))

    async def stats(self, _request: Request) -> Response:
        """How many clients, how many messages, how fast."""
        stats = await _ask(self._hub, GetStats())
        return _json(Stats.of(stats, self._clock.now(), self._lifecycle.uptime_s))

    async def healthz(self, _request: Request) -> Response:
        """200 while the core actors answer."""
        await _ask(self._hub, GetStats())
        await _ask(self._aggregator, GetSymbols())
        return _json(Health(status="ok", version=__version__, uptime_s=round(self._lifecycle.uptime_s, 1)))

    async def readyz(self, _request: Request) -> Response:
        """200 while clients can be served; how fresh the prices are, and if stored, stands in the body."""
        states = await _ask(self._aggregator, GetSymbols())
        store = await _ask(self._persister, GetStore())
        readiness = Readiness.of(self._lifecycle.phase, states, store)
        return _json(readiness, 200 if readiness.ready else 503)

    async def metrics(self, request: Request) -> Response:
        """What Prometheus scrapes."""
        text, kind = await self._metrics.scrape(request.headers.get("accept", ""), self.answered)
        return Response(text, headers={"Content-Type": kind, "Cache-Control": "no-store"})

    # --- documents ---

    async def stream(self, _request: Request) -> Response:
        """Not a WebSocket request, or not a good one."""
        raise HTTPException(
            426,
            "this is a WebSocket: connect to it as ws:// or wss://",
            headers={"Upgrade": "websocket", "Connection": "Upgrade"},
        )

    async def openapi(self, _request: Request) -> Response:
        """This interface, described."""
        return _json(openapi_document())

    async def asyncapi(self, _request: Request) -> Response:
        """The WebSocket's messages, described."""
        return _json(asyncapi_document())


def _no_history(error: StoreError) -> HTTPException:
    return HTTPException(503, f"history is not available: {without_directories(str(error))}")


def _head(scope: AsgiScope) -> head.Request:
    """The request, as the port reads it."""
    authorization = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    return head.Request(
        address=scope["client"][0],
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        host="",
        authorization=",".join(authorization) or None,
        relayed=scope["state"]["relayed"],
    )


def _identity(request: Request) -> Identity:
    """Who asks, as it was found in front of all routes."""
    identity: Identity = request.state.identity
    return identity


def _ask(ref: pykka.ActorRef[Any], question: Ask[R], timeout_s: float = ASK_S) -> Awaitable[R]:
    return ask_when_room(ref, question, timeout_s=timeout_s)


async def _off_the_loop(rows: int, write: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Write a short answer at once, and a long one in a thread: nobody else is to wait for it."""
    if rows <= LONG_ANSWER_ROWS:
        return write(*args, **kwargs)
    return await trio.to_thread.run_sync(functools.partial(write, *args, **kwargs))


def _json(body: Any, status: int = 200) -> Response:
    return Response(
        _encode(body), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        _encode(Error.of(status, message)),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


async def _error(_request: Request, error: Exception) -> Response:
    known = cast("HTTPException", error)
    return _problem(known.status_code, known.detail, known.headers)


async def _bad_query(_request: Request, error: Exception) -> Response:
    return _problem(400, str(error))


async def _busy(_request: Request, error: Exception) -> Response:
    log.warning("request_unanswered", reason=str(error))
    return _problem(503, "the daemon did not answer in time; its log says why")


async def _failure(request: Request, error: Exception) -> Response:
    log.error("request_failed", path=request.url.path, exc_info=error)
    return _problem(500, "the daemon failed to answer this; its log says why")

"""Alert rules and alerts over HTTP: the same as the WebSocket's messages, for who has none, and what fired before.

Whoever asks must have the scope `alerts`, and sees what is theirs. A change is answered when it is durable. Its body
must be called JSON: a page of another origin may not send that without asking first (`cors.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import pykka
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aurexd.actors.messages import (
    AlertAnswer,
    AlertRequest,
    Ask,
    AskAlerts,
    GetAlerts,
    GetAlertWhy,
)
from aurexd.errors import AlertError, StoreError
from aurexd.foreign import clean, without_directories
from aurexd.identity import Identity
from aurexd.protocol.alerts import (
    AlertAckData,
    AlertCreateData,
    AlertDeleteData,
    AlertListData,
    AlertUpdateData,
)
from aurexd.protocol.codes import ErrorCode
from aurexd.server.interface import AlertHistory, AlertHistoryQuery, AlertWhy, RuleQuery, read_query

R = TypeVar("R")

BODY_BYTES = 16_384
"""As much as a message of the WebSocket, unless configured otherwise; a rule has some 300."""

ASK_S = 10.0
"""It waits for the disk."""

STATUS: dict[str, int] = {
    ErrorCode.INVALID_MESSAGE: 400,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.TOO_MANY_RULES: 409,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.NOT_AVAILABLE: 503,
}

Answered = Callable[[Any, int], Response]
"""Makes an answer of what is to be said and its status."""

Asked = Callable[[pykka.ActorRef[Any], Ask[Any], float], Awaitable[Any]]


class AlertRoutes:
    """The routes of `/api/v1/alerts`."""

    def __init__(
        self,
        *,
        alerts: pykka.ActorRef[Any],
        persister: pykka.ActorRef[Any],
        owner: Callable[[Request], Identity],
        ask: Asked,
        answer: Answered,
    ) -> None:
        """`owner` says who asks; `ask` and `answer` are those of all routes."""
        self._alerts = alerts
        self._persister = persister
        self._owner = owner
        self._ask = ask
        self._answer = answer
        self.routes = [
            Route("/api/v1/alerts", self.rules, methods=["GET"]),
            Route("/api/v1/alerts", self.create, methods=["POST"]),
            Route("/api/v1/alerts/history", self.history, methods=["GET"]),
            Route("/api/v1/alerts/ack", self.acknowledge, methods=["POST"]),
            Route("/api/v1/alerts/{rule_id}", self.change, methods=["PATCH"]),
            Route("/api/v1/alerts/{rule_id}", self.delete, methods=["DELETE"]),
            Route("/api/v1/alerts/{alert_id}/why", self.why, methods=["GET"]),
        ]

    async def rules(self, request: Request) -> Response:
        """The owner's rules."""
        symbol = read_query(RuleQuery, request.query_params).symbol
        return self._answer(await self._act(request, AlertListData(symbol=symbol or None)), 200)

    async def create(self, request: Request) -> Response:
        """A new rule."""
        return self._answer(await self._act(request, await _body(request, AlertCreateData)), 201)

    async def change(self, request: Request) -> Response:
        """A rule, changed; the path says which, and the body need not."""
        asked = await _body(request, AlertUpdateData, rule_id=request.path_params["rule_id"])
        return self._answer(await self._act(request, asked), 200)

    async def delete(self, request: Request) -> Response:
        """A rule, gone."""
        return self._answer(
            await self._act(request, AlertDeleteData(rule_id=request.path_params["rule_id"])), 200
        )

    async def acknowledge(self, request: Request) -> Response:
        """Alerts that have arrived."""
        return self._answer(await self._act(request, await _body(request, AlertAckData)), 200)

    async def history(self, request: Request) -> Response:
        """What has fired, newest first."""
        asked = read_query(AlertHistoryQuery, request.query_params)
        question = GetAlerts(
            owner=self._owner(request).user,
            before=None if asked.before is msgspec.UNSET else asked.before,
            limit=asked.limit,
        )
        return self._answer(AlertHistory.of(await self._read(question), asked.limit), 200)

    async def why(self, request: Request) -> Response:
        """Why one fired."""
        question = GetAlertWhy(owner=self._owner(request).user, alert_id=request.path_params["alert_id"])
        return self._answer(AlertWhy.of(await self._read(question)), 200)

    async def _act(self, request: Request, data: AlertRequest) -> AlertAnswer:
        question = AskAlerts(owner=self._owner(request).user, data=data)
        try:
            answer: AlertAnswer = await self._ask(self._alerts, question, ASK_S)
        except AlertError as error:
            raise _refused(error) from error
        return answer

    async def _read(self, question: Ask[R]) -> R:
        try:
            answer: R = await self._ask(self._persister, question, ASK_S)
        except AlertError as error:
            raise _refused(error) from error
        except StoreError as error:
            raise HTTPException(
                503, f"alerts are not available: {without_directories(str(error))}"
            ) from error
        return answer


def _refused(error: AlertError) -> HTTPException:
    headers = None
    if error.retry_after_ms is not None:
        headers = {"Retry-After": str(-(-error.retry_after_ms // 1000))}
    return HTTPException(STATUS.get(error.code, 400), error.message, headers)


S = TypeVar("S", bound=msgspec.Struct)


async def _body(request: Request, kind: type[S], **path: str) -> S:
    """What a request says, with what its path says.

    Raises:
        HTTPException: it is too large, not called JSON, or not what is wanted.

    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be JSON: send Content-Type: application/json")
    too_large = HTTPException(413, f"the body is larger than {BODY_BYTES} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_BYTES:
        raise too_large
    body = b""
    async with contextlib.aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > BODY_BYTES:
                raise too_large
    try:
        said = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        said |= {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in path.items()}
        return msgspec.json.decode(msgspec.json.encode(said), type=kind)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise HTTPException(400, clean(str(error), 300)) from error

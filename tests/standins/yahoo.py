"""A stand-in for Yahoo as yfinance uses it: its names over TLS, behind a CONNECT proxy that leads to it."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import trio
import trustme

from tests.standins.http import Answer, Fault, HttpStandIn, Request, serve_http

NAMES = (
    "fc.yahoo.com",
    "query1.finance.yahoo.com",
    "query2.finance.yahoo.com",
    "guce.yahoo.com",
    "consent.yahoo.com",
)
COOKIE = "d=AQABBA&S=AQAAAm"
CRUMB = "Ab.1cD2eF3g"

NOT_FOUND = Answer(
    b'{"chart":{"result":null,"error":{"code":"Not Found",'
    b'"description":"No data found, symbol may be delisted"}}}',
    404,
)
RATE_LIMITED = Answer(b"Too Many Requests\r\n", 429)
ERROR_PAGE = Answer(b"<html><body>Internal Server Error</body></html>", 500)
DOWN = Answer(b"<html><body>Will be right back...</body></html>")


def chart(code: str, price: float | None, time: int, *, price_hint: int | None = 2) -> Answer:
    """A chart of one daily bar, `time` in seconds; with no price the bar is empty and so is the metadata."""
    meta = {
        "currency": "USD",
        "symbol": code,
        "exchangeName": "CMX",
        "fullExchangeName": "COMEX",
        "instrumentType": "FUTURE",
        "firstTradeDate": 967608000,
        "regularMarketTime": time,
        "hasPrePostMarketData": False,
        "gmtoffset": -14400,
        "timezone": "EDT",
        "exchangeTimezoneName": "America/New_York",
        "regularMarketPrice": price,
        "regularMarketVolume": 56384,
        "chartPreviousClose": 4417.8,
        "priceHint": price_hint,
        "shortName": "Gold Dec 26",
        "currentTradingPeriod": {
            name: {"timezone": "EDT", "start": time - 50_000, "end": time + 30_000, "gmtoffset": -14400}
            for name in ("pre", "regular", "post")
        },
        "dataGranularity": "1d",
        "range": "1d",
        "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
    }
    quote = {"open": [4420.0], "high": [4455.0], "low": [4410.1], "close": [price], "volume": [56384]}
    indicators = {"quote": [quote], "adjclose": [{"adjclose": [price]}]}
    result = {
        "meta": {name: value for name, value in meta.items() if value is not None},
        "timestamp": [time],
        "indicators": indicators,
    }
    return Answer(
        json.dumps({"chart": {"result": [result], "error": None}}).encode(),
        headers={"Content-Type": "application/json"},
    )


def minutes(code: str, *rows: tuple[int, float | None, float | None, float | None, float | None]) -> Answer:
    """A chart of minutes: (seconds, open, high, low, close); None where nobody traded."""
    daily = json.loads(chart(code, 4448.4, rows[-1][0]).body)
    result = daily["chart"]["result"][0]
    names = ("open", "high", "low", "close")
    columns = {name: [row[number] for row in rows] for number, name in enumerate(names, 1)}
    result["meta"] |= {"dataGranularity": "1m", "range": ""}
    result["timestamp"] = [row[0] for row in rows]
    result["indicators"] = {"quote": [columns | {"volume": [1] * len(rows)}]}
    return Answer(json.dumps(daily).encode(), headers={"Content-Type": "application/json"})


class YahooStandIn:
    """What Yahoo's servers say, dispatched on the name asked; `chart` and `crumb` may be changed."""

    def __init__(self, ca: trustme.CA, directory: Path) -> None:
        self.chart: Callable[[Request], Answer | Fault] = lambda _: chart("GC=F", 4448.4, 1_787_059_182)
        self.crumb: Answer | Fault = Answer(CRUMB.encode(), headers={"Content-Type": "text/plain"})
        self.ca_file = directory / "yahoo-ca.pem"
        ca.cert_pem.write_to_path(str(self.ca_file))
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ca.issue_cert(*NAMES).configure_cert(self.tls)
        self.proxy = ""
        self.server: HttpStandIn
        self.tunnels: list[str] = []
        """Names asked of the proxy, in order."""

    @property
    def seen(self) -> list[str]:
        """Host and path of each request, in order."""
        return [request.host + request.path for request in self.server.requests]

    def respond(self, request: Request) -> Answer | Fault:
        """Cookie, crumb or chart; the consent pages have nothing to consent to."""
        match request.host, request.path:
            case "fc.yahoo.com", "/":
                expires = "Expires=Fri, 01 Jan 2100 00:00:00 GMT"
                cookie = f"A3={COOKIE}; {expires}; Domain=.yahoo.com; Path=/; Secure; HttpOnly"
                return Answer(b"", 404, {"Set-Cookie": cookie})
            case _, "/v1/test/getcrumb":
                return self.crumb
            case "query2.finance.yahoo.com", path if path.startswith("/v8/finance/chart/"):
                return self.chart(request)
        return Answer(b"<html></html>", 404)

    async def tunnel(self, client: trio.SocketStream) -> None:
        """The CONNECT proxy: every name leads to the stand-in."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with client:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await client.receive_some()
                self.tunnels.append(head.split()[1].decode())
                async with await trio.open_tcp_stream("127.0.0.1", self.server.port) as server:
                    await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_copy, client, server)
                        await _copy(server, client)
                        nursery.cancel_scope.cancel()


async def _copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await target.send_all(data)
        await target.send_eof()


@contextlib.asynccontextmanager
async def serve_yahoo(directory: Path) -> AsyncIterator[YahooStandIn]:
    """Run server and proxy on loopback; `directory` takes the authority that the client is to trust."""
    yahoo = YahooStandIn(trustme.CA(), directory)
    async with serve_http(yahoo.respond, tls=yahoo.tls) as yahoo.server, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        yahoo.proxy = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.start_soon(partial(trio.serve_listeners, yahoo.tunnel, listeners))
        yield yahoo
        nursery.cancel_scope.cancel()

"""The event stream: the same messages as over the WebSocket, read by something that knows nothing but HTTP."""

from __future__ import annotations

import socket
from typing import Any

import h11
import msgspec
import pytest
import trio
import trio.testing

from aurexd.actors.messages import AlertFired
from aurexd.actors.trio_actor import tell_when_room
from aurexd.config.model import Heartbeat, Limits
from aurexd.server.streaming import RETRY_SPREAD_MS
from tests.server.conftest import TlsPair
from tests.server.loopback import PATH, Served, decided, serving, status_of
from tests.updates import alert

EVENTS = "/api/v1/stream"
PRICE = "price:XAUUSD"
STATUS = "status:XAUUSD"


class EventSource:
    """A reader of events as HTML defines it: it knows the last id and when to come back."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.status = 0
        self.headers: dict[str, str] = {}
        self.last_event_id: str | None = None
        self.retry_ms = 0
        self._parser = h11.Connection(h11.CLIENT)
        self._text = ""

    async def open(self, target: str, headers: dict[str, str]) -> None:
        request = h11.Request(method="GET", target=target, headers=list(headers.items()))
        sent = self._parser.send(request)
        assert sent is not None
        await self.stream.send_all(sent)
        self._parser.send(h11.EndOfMessage())
        response = await self._event()
        assert isinstance(response, h11.Response)
        self.status = response.status_code
        self.headers = {name.decode(): value.decode() for name, value in response.headers}

    async def message(self) -> dict[str, Any]:
        """The next message; `{}` at the end."""
        while True:
            block, separator, rest = self._text.partition("\n\n")
            if separator:
                self._text = rest
                data = self._read(block)
                if data:
                    return data
                continue
            event = await self._event()
            if isinstance(event, h11.EndOfMessage):
                return {}
            assert isinstance(event, h11.Data)
            self._text += event.data.decode()

    async def messages(self, count: int) -> list[dict[str, Any]]:
        return [await self.message() for _ in range(count)]

    async def body(self) -> Any:
        """The body of an answer that is no event stream."""
        event = await self._event()
        assert isinstance(event, h11.Data)
        return msgspec.json.decode(bytes(event.data))

    def _read(self, block: str) -> dict[str, Any]:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        assert fields.keys() <= {"id", "data", "retry"}
        self.last_event_id = fields.get("id", self.last_event_id)
        self.retry_ms = int(fields.get("retry", self.retry_ms))
        message: dict[str, Any] = msgspec.json.decode(fields["data"]) if "data" in fields else {}
        return message

    async def _event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            self._parser.receive_data(bytes(await self.stream.receive_some(65536)))
        return event


async def open_events(
    served: Served,
    query: str = "",
    *,
    last_event_id: str | None = None,
    headers: dict[str, str] | None = None,
    rcvbuf: int | None = None,
) -> EventSource:
    stream, _ = await served.open_stream(rcvbuf=rcvbuf)
    source = EventSource(stream)
    head = {"Host": f"127.0.0.1:{served.port.port}", **(headers or {})}
    if last_event_id is not None:
        head["Last-Event-ID"] = last_event_id
    await source.open(EVENTS + query, head)
    return source


async def test_the_event_stream_carries_the_messages_of_the_websocket() -> None:
    async with serving() as served:
        await served.publish("1.00")
        source = await open_events(served)
        assert source.status == 200
        assert source.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert source.headers["cache-control"] == "no-store"
        client = await served.connect()
        kinds = ["welcome", "price_update", "status"]
        for messages in (await source.messages(3), await client.messages(3)):
            assert [message["type"] for message in messages] == kinds
        await served.publish("2.00")
        assert await source.message() == await client.message()
        assert 0 < source.retry_ms <= RETRY_SPREAD_MS


async def test_over_tls_too(tls_pair: TlsPair) -> None:
    async with serving(server_tls=tls_pair.server, client_tls=tls_pair.client) as served:
        source = await open_events(served)
        await source.messages(2)
        await served.publish("2.00")
        assert (await source.message())["data"]["close"] == 2


async def test_a_client_may_name_the_channels_it_wants() -> None:
    async with serving() as served:
        source = await open_events(served, f"?channels={PRICE}&channels=price:XAGUSD,")
        assert (await source.message())["type"] == "welcome"
        served.hub.tell(decided(status=status_of()))
        await served.publish("1.00", symbol="XAGUSD")
        assert (await source.message())["data"]["symbol"] == "XAGUSD"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?channels=price:NOPE", "XAUUSD"),
        ("?channels=news", "not available"),
        ("?channels=candle:XAUUSD:2m", "1m, 5m"),
        ("?channels=" + ",".join(f"price:S{n}" for n in range(300)), "at most 256"),
        ("?" + "&".join("x=1" for _ in range(30)), "cannot be read"),
        ("?epoch=e&resume=price:XAUUSD", "CHANNEL@COUNT"),
        ("?epoch=e&resume=price:XAUUSD@-1", "CHANNEL@COUNT"),
    ],
)
async def test_a_bad_query_is_answered_in_words(query: str, says: str) -> None:
    async with serving() as served:
        source = await open_events(served, query)
        assert source.status == 400
        error = (await source.body())["error"]
        assert error["status"] == 400
        assert says in error["message"]


async def test_only_get_reads_it() -> None:
    async with serving() as served:
        assert (await served.fetch(EVENTS, "POST")).status == 405


async def test_who_comes_back_is_sent_what_was_published_meanwhile() -> None:
    async with serving() as served:
        source = await open_events(served)
        await source.messages(2)
        await served.publish("1.00")
        await source.message()
        await source.stream.aclose()
        served.hub.tell(decided(status=status_of(reason="another")))
        await served.publish("2.00", "3.00")
        again = await open_events(served, last_event_id=source.last_event_id)
        welcome, *missed = await again.messages(4)
        assert welcome["type"] == "welcome"
        assert [(m["type"], m["update_count"]) for m in missed] == [
            ("status", 2),
            ("price_update", 2),
            ("price_update", 3),
        ]
        await served.publish("4.00")
        assert (await again.message())["update_count"] == 4


async def test_who_was_there_over_the_websocket_goes_on_where_it_was_and_back_again() -> None:
    async with serving() as served:
        client = await served.connect("aurex.v1.json")
        epoch = (await client.message())["data"]["epoch"]
        await client.send({"type": "subscribe", "data": {"channels": [PRICE]}})
        await client.message()
        await served.publish("1.00", "2.00")
        assert [m["update_count"] for m in await client.messages(2)] == [1, 2]
        await served.publish("3.00", "4.00")
        # Of the other channel it knows nothing.
        source = await open_events(served, f"?channels={PRICE},{STATUS}&epoch={epoch}&resume={PRICE}@2")
        _, *missed = await source.messages(4)
        assert [(m["type"], m["update_count"]) for m in missed] == [
            ("status", 1),
            ("price_update", 3),
            ("price_update", 4),
        ]
        await served.publish("5.00")
        back = await served.connect("aurex.v1.json")
        await back.message()
        resume = {PRICE: {"epoch": epoch, "count": 4}}
        await back.send({"type": "subscribe", "data": {"channels": [PRICE], "resume": resume}})
        assert (await back.message())["data"]["channels"][PRICE]["recovered"]
        assert (await back.message())["update_count"] == 5


async def test_what_an_event_stream_resumes_from_holds_in_its_epoch_alone_and_a_last_event_id_wins() -> None:
    async with serving() as served:
        source = await open_events(served)
        epoch = (await source.messages(2))[0]["data"]["epoch"]
        await served.publish("1.00", "2.00")
        await source.messages(2)
        other = await open_events(served, f"?channels={PRICE}&epoch=another&resume={PRICE}@1")
        assert [m.get("update_count") for m in await other.messages(2)] == [None, 2], "the snapshot"
        await served.publish("3.00")
        query = f"?channels={PRICE}&epoch={epoch}&resume={PRICE}@1"
        again = await open_events(served, query, last_event_id=source.last_event_id)
        assert [m.get("update_count") for m in await again.messages(2)] == [None, 3]


@pytest.mark.parametrize("position", ["nonsense", "e-99", ""])
async def test_who_cannot_resume_gets_the_snapshots(position: str) -> None:
    async with serving() as served:
        await served.publish("1.00", "2.00")
        source = await open_events(served, last_event_id=position)
        messages = await source.messages(3)
        assert [m.get("update_count") for m in messages] == [None, 2, 1]


async def test_alerts_come_and_do_not_say_where_a_client_stands() -> None:
    async with serving() as served:
        source = await open_events(served, f"?channels={PRICE},alert")
        await source.message()
        await served.publish("1.00")
        await source.message()
        before = source.last_event_id
        await tell_when_room(served.hub, AlertFired(owner="local", alert=alert(1).data))
        assert (await source.message())["data"]["alert_id"] == "a1"
        assert source.last_event_id == before


async def test_a_slow_reader_is_conflated_and_can_resume_without_a_hole(
    loopback_clock: trio.testing.MockClock,
) -> None:
    async with serving() as served:
        source = await open_events(served, rcvbuf=4096)
        await source.messages(2)
        for number in range(4000):
            await served.publish(f"{number}.00")
        seen, conflated = 0, 0
        while seen < 4000:
            message = await source.message()
            if message["type"] == "price_update":
                seen += message.get("conflated", 1)
                conflated += message.get("conflated", 1) > 1
                assert message["update_count"] == seen
        assert conflated
        await source.stream.aclose()
        await served.publish("1.00")
        again = await open_events(served, last_event_id=source.last_event_id)
        missed = [m["update_count"] for m in await again.messages(2) if m["type"] == "price_update"]
        assert missed == [4001]


async def test_silence_is_broken_by_a_heartbeat(loopback_clock: trio.testing.MockClock) -> None:
    async with serving(heartbeat=Heartbeat(silence_s=2, ping_interval_s=1, pong_timeout_s=1)) as served:
        source = await open_events(served)
        await source.messages(2)
        assert [m["type"] for m in await source.messages(5)] == ["heartbeat"] * 5, "and there are no pings"


async def test_a_line_that_acknowledges_nothing_is_ended_by_the_kernel() -> None:
    async with serving(heartbeat=Heartbeat(ping_interval_s=20, pong_timeout_s=10)) as served:
        await (await open_events(served)).message()
        [session] = served.sessions()
        sock: socket.socket = session._line.socket  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


async def test_event_streams_count_as_sessions_and_one_too_many_is_told_when_to_come_back() -> None:
    async with serving(limits=Limits(max_connections_per_ip=2)) as served:
        source = await open_events(served)
        await source.message()
        await (await served.connect()).message()
        third = await open_events(served)
        assert third.status == 200, "a browser would not come back after anything else"
        error = await third.message()
        assert (error["type"], error["data"]["code"]) == ("error", "too_many_connections")
        assert third.retry_ms > 0
        assert await third.message() == {}
        await source.stream.aclose()
        with trio.fail_after(5):
            while len(served.sessions()) > 1:
                await trio.sleep(0.01)
        fourth = await open_events(served)
        assert (await fourth.message())["type"] == "welcome"


async def test_a_page_of_another_site_needs_leave() -> None:
    async with serving(limits=Limits(allowed_origins=("https://friend.example",))) as served:
        stranger = await open_events(served, headers={"Origin": "https://evil.example"})
        assert stranger.status == 403
        friend = await open_events(served, headers={"Origin": "https://friend.example"})
        assert friend.status == 200
        assert friend.headers["access-control-allow-origin"] == "https://friend.example"


async def test_a_stopping_daemon_says_good_bye_and_when_to_come_back() -> None:
    async with serving() as served:
        source = await open_events(served)
        await source.messages(2)
        await served.hub.stop(block=False)
        message = await source.message()
        assert (message["type"], message["data"]["retry_after_ms"]) == ("going_away", source.retry_ms)
        assert await source.message() == {}


async def test_the_websockets_path_is_not_an_event_stream() -> None:
    async with serving() as served:
        assert (await served.fetch(PATH, headers={"Accept": "text/event-stream"})).status == 426

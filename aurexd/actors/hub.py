"""Who is subscribed to what, and the fan-out: each update is framed once and offered to every session.

The hub owns the channels (their counts and newest messages) and the audiences. It never waits for a client: a
session takes what fits into its socket and keeps the rest in an outbox of its own (`aurexd/outbox.py`). It
handles one message at a time, so a session that joins between two updates sees neither a hole nor a repeat.
"""

from __future__ import annotations

import secrets

import msgspec
import structlog
import trio

from aurexd.actors.messages import (
    Beat,
    GetStats,
    HubStats,
    PriceChanged,
    SendSnapshot,
    SessionClosed,
    SessionOpened,
    StatusChanged,
    Subscribe,
    Unsubscribe,
)
from aurexd.actors.session import Audience, Session
from aurexd.actors.trio_actor import TrioActor, tell_when_room
from aurexd.clock import Clock
from aurexd.config.model import Heartbeat
from aurexd.market import Price, Quality
from aurexd.outbox import Batch, Update
from aurexd.protocol import compose
from aurexd.protocol.codes import CloseCode
from aurexd.protocol.messages import PriceUpdate, Status

log = structlog.get_logger(__name__)

SLICE = 500
"""Sessions served between two checkpoints: about 4 ms, so that a large fan-out delays nobody's handshake."""

BEAT_S = 1.0
"""How often silent lines and dead clients are looked for; more often where a line may be silent for less."""


PATROL_BEATS = 5
"""Each session's life is looked at once in so many beats, or more often where the heartbeat's times ask for it: what
is touched of ten thousand sessions does not fit into a processor's cache."""


class Hub(TrioActor):
    """The fan-out actor."""

    inbox_capacity = 4096

    def __init__(self, *, heartbeat: Heartbeat, clock: Clock) -> None:
        super().__init__()
        self.epoch = secrets.token_hex(8)
        """Names this run of the counts: a client that sees another one starts over."""
        self._heartbeat = heartbeat
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._prices: dict[str, Price] = {}
        self._statuses: dict[str, StatusChanged] = {}
        self._due: list[Update] = []
        self._audiences: dict[tuple[str, frozenset[str]], Audience] = {}
        self._connections = 0
        self._messages_sent = 0
        self._beats = 0
        quickest_s = min(heartbeat.ping_interval_s, heartbeat.pong_timeout_s)
        self._patrol_beats = max(1, min(PATROL_BEATS, int(quickest_s / (2 * BEAT_S))))

    async def on_start(self) -> None:
        """Start the beat."""
        self.nursery.start_soon(self._beat)

    async def on_receive(self, message: object) -> object:
        """Publish, or see to a session."""
        match message:
            case PriceChanged(price=price):
                self._publish_price(price)
            case StatusChanged():
                self._publish_status(message)
            case GetStats():
                return self._stats()
            case _:
                # A session sees all that was published before it came as its snapshot, not as an update.
                await self._fan_out()
                await self._serve(message)
        return None

    async def on_batch(self) -> None:
        """Send what is due: everything published in one run of messages leaves in one write."""
        await self._fan_out()

    async def on_stop(self) -> None:
        """Send what is due and say good-bye to every client."""
        await self._fan_out()
        self._close_all()

    async def on_failure(self, *_error: object) -> None:
        """The counts are lost, so every client has to start over with the next hub's."""
        self._close_all()

    def _close_all(self) -> None:
        for session in self._sessions():
            session.close(CloseCode.GOING_AWAY)

    # --- publishing ---

    def _publish_price(self, price: Price) -> None:
        channel = f"price:{price.symbol}"
        self._prices[price.symbol] = price
        message = compose.price_update(price, self._clock.now(), self._next_count(channel))
        self._due.append(Update(channel, message))

    def _publish_status(self, status: StatusChanged) -> None:
        channel = f"status:{status.symbol}"
        self._statuses[status.symbol] = status
        self._due.append(Update(channel, self._status_message(status, self._next_count(channel))))

    def _status_message(self, status: StatusChanged, count: int) -> Status:
        return compose.status(
            status.symbol,
            status.quality,
            status.source,
            status.instrument,
            status.reason,
            since=status.time,
            now=self._clock.now(),
            update_count=count,
        )

    def _next_count(self, channel: str) -> int:
        count = self._counts[channel] = self._counts.get(channel, 0) + 1
        return count

    async def _fan_out(self) -> None:
        if not self._due:
            return
        due, self._due = self._due, []
        touched = {update.channel for update in due}
        for audience in list(self._audiences.values()):
            if touched.isdisjoint(audience.channels):
                continue
            batch = Batch([u for u in due if u.channel in audience.channels], audience.encoding)
            self._messages_sent += len(batch.updates) * len(audience.sessions)
            audience.last_sent = trio.current_time()
            data, size = batch.data, len(batch.data)
            for start in range(0, len(audience.writes), SLICE):
                for number, write in enumerate(audience.writes[start : start + SLICE], start):
                    try:
                        written = write(data)
                    except OSError:  # full, or broken: the session's own writer finds out
                        written = 0
                    if written != size:
                        audience.sessions[number].keep(batch, written)
                await trio.lowlevel.checkpoint()

    # --- sessions ---

    async def _serve(self, message: object) -> None:
        match message:
            case SessionOpened(session=session, channels=channels):
                self._connections += 1
                self._seat(session, channels)
                session.greet(self.epoch)
                self._send_snapshots(session, sorted(channels))
            case SessionClosed(session=session):
                self._unseat(session)
            case Subscribe(session=session, channels=channels, request_id=request_id):
                if session.seat is not None:
                    self._seat(session, session.seat[0].channels.union(channels))
                    counts = {channel: self._counts.get(channel, 0) for channel in channels}
                    session.send(compose.subscribed(request_id, self.epoch, counts, self._clock.now()))
                    self._send_snapshots(session, channels)
            case Unsubscribe(session=session, channels=channels, request_id=request_id):
                if session.seat is not None:
                    self._seat(session, session.seat[0].channels.difference(channels))
                    for channel in channels:
                        session.drop_channel(channel)
                    session.send(compose.unsubscribed(request_id, channels, self._clock.now()))
            case SendSnapshot(session=session, channels=channels, request_id=request_id):
                counts = {channel: self._counts.get(channel, 0) for channel in channels}
                session.send(compose.snapshot_sent(request_id, self.epoch, counts, self._clock.now()))
                self._send_snapshots(session, channels)
            case Beat():
                await self._see_to_sessions()

    def _seat(self, session: Session, channels: frozenset[str]) -> None:
        self._unseat(session)
        key = (session.encoding.name, channels)
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(session.encoding, channels)
        audience.seat(session)

    def _unseat(self, session: Session) -> None:
        if session.seat is not None:
            audience, _ = session.seat
            audience.unseat(session)
            if not audience.sessions:
                del self._audiences[audience.encoding.name, audience.channels]

    def _send_snapshots(self, session: Session, channels: tuple[str, ...] | list[str]) -> None:
        """The current state of each channel that has one: its newest message, with the count it has now."""
        now = self._clock.now()
        for channel in channels:
            kind, _, symbol = channel.partition(":")
            count = self._counts.get(channel, 0)
            message: PriceUpdate | Status
            if kind == "price" and symbol in self._prices:
                message = compose.price_update(self._price_now(symbol), now, count)
            elif kind == "status" and symbol in self._statuses:
                message = self._status_message(self._statuses[symbol], count)
            else:
                continue
            conflated = session.drop_channel(channel)  # it stands for what waited, too
            if conflated > 1:
                message = msgspec.structs.replace(message, conflated=conflated)
            session.send(message)

    def _price_now(self, symbol: str) -> Price:
        """The newest price, with the quality that it has now."""
        quality = self._statuses[symbol].quality if symbol in self._statuses else Quality.STALE
        return msgspec.structs.replace(self._prices[symbol], quality=quality)

    def _sessions(self) -> list[Session]:
        return [session for audience in self._audiences.values() for session in audience.sessions]

    # --- the beat ---

    async def _beat(self) -> None:
        while True:
            await trio.sleep(min(BEAT_S, self._heartbeat.silence_s))
            await tell_when_room(self.actor_ref, Beat())

    async def _see_to_sessions(self) -> None:
        """Tell silent lines that they are alive, ping quiet clients, and end those that do not answer."""
        now = trio.current_time()
        turn, turns = self._beats % self._patrol_beats, self._patrol_beats
        self._beats += 1
        for audience in list(self._audiences.values()):
            if now - audience.last_sent >= self._heartbeat.silence_s:
                await self._break_silence(audience, now)
            patrol = audience.sessions[turn::turns]
            for start in range(0, len(patrol), SLICE):
                for session in patrol[start : start + SLICE]:
                    session.check_alive(now)
                await trio.lowlevel.checkpoint()

    async def _break_silence(self, audience: Audience, now: float) -> None:
        frame = audience.encoding.frame(compose.heartbeat(self._clock.now()))
        for start in range(0, len(audience.sessions), SLICE):
            for session in audience.sessions[start : start + SLICE]:
                if not session.backlogged and now - session.last_sent >= self._heartbeat.silence_s:
                    session.send_frame(frame)
            await trio.lowlevel.checkpoint()

    def _stats(self) -> HubStats:
        return HubStats(
            epoch=self.epoch,
            active_connections=sum(len(audience.sessions) for audience in self._audiences.values()),
            connections=self._connections,
            messages_sent=self._messages_sent,
            update_count=sum(self._counts.values()),
            channels=dict(self._counts),
            last_price={symbol: self._price_now(symbol) for symbol in self._prices},
        )

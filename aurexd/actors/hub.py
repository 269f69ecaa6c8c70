"""Who is subscribed to what, and the fan-out: each update is framed once and offered to every session.

The hub owns the channels (`aurexd/rings.py`), the owners' alerts (`aurexd/mailbox.py`) and the audiences. It never
waits for a client: a session takes what fits into its socket and keeps the rest in an outbox of its own
(`aurexd/outbox.py`). It handles one message at a time, so a session that joins between two updates sees neither a
hole nor a repeat. What it knows when it stops in order it leaves to the hub of the next start.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
import pykka
import structlog
import trio

from aurexd.actors.audience import SLICE, SLICE_S, Audience
from aurexd.actors.messages import (
    AlertFired,
    AlertsAcknowledged,
    Beat,
    CandlesChanged,
    Decided,
    DrainSessions,
    GetSessions,
    GetStats,
    HubStats,
    KeepHandover,
    KickSession,
    PriceRestored,
    Recently,
    SendSnapshot,
    SessionClosed,
    SessionOpened,
    StatusChanged,
    Subscribe,
    SymbolsRemoved,
    TakeHandover,
    Unsubscribe,
)
from aurexd.actors.session import Session
from aurexd.actors.trio_actor import TrioActor, ask, tell_when_room
from aurexd.beat import next_beat
from aurexd.candles import PublishedCandle
from aurexd.clock import Clock
from aurexd.delays import Delays
from aurexd.drain import Drain
from aurexd.errors import StoreError
from aurexd.histogram import Histogram, Recent
from aurexd.io_uring import SendRing
from aurexd.mailbox import Mailbox
from aurexd.market import SECOND_US, EpochUs, Price, Quality, format_time
from aurexd.protocol import compose
from aurexd.protocol.channels import owned, symbol_of
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.messages import Alert, ChannelMessage, PriceUpdate, Status
from aurexd.rings import KeptRings, Rings
from aurexd.settings import Settings
from aurexd.update import Batch, Update

log = structlog.get_logger(__name__)

BEAT_S = 1.0
"""How often silent lines and dead clients are looked for; more often where a line may be silent for less."""


PATROL_BEATS = 5
"""Each session's life is looked at once in so many beats, or more often where the heartbeat's times ask for it: what
is touched of ten thousand sessions does not fit into a processor's cache."""


COUNT_WITHIN_S = 0.01
"""What is written within this is counted together, evenly spread over it."""

HANDOVER_S = 5.0
"""How long the store may take to give what the last hub left; without it there is a new epoch."""


class _Handover(msgspec.Struct, gc=False):
    """What one hub leaves to the next."""

    rings: KeptRings
    mail: dict[str, list[Alert]]


# Prices as text: MessagePack has no decimals, and what is read back must be what was written.
_pack = msgspec.msgpack.Encoder(decimal_format="string").encode
_unpack = msgspec.msgpack.Decoder(_Handover).decode


class Hub(TrioActor):
    """The fan-out actor."""

    inbox_capacity = 4096

    def __init__(
        self,
        *,
        persister: pykka.ActorRef[Any],
        settings: Settings,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._persister = persister
        self._settings = settings
        self._clock = clock
        self._rings = Rings(secrets.token_hex(8), settings.realtime.resume_messages)
        self._mail: defaultdict[str, Mailbox] = defaultdict(Mailbox)
        self._prices: dict[str, Price] = {}
        self._restored: dict[str, Price] = {}
        """Channel → its price from before the start, of a session that has ended; until there is another."""
        self._candles: dict[str, PublishedCandle] = {}
        """The newest candle of each channel that nobody has asked for yet: it has no messages, and costs nothing."""
        self._due: list[Update] = []
        self._asked: list[object] = []
        """What sessions ask: it is done when all is sent that was published."""
        self._ring: SendRing | None = None
        self._audiences: dict[tuple[str, bool, frozenset[str]], Audience] = {}
        self._connections = 0
        self._sent: Counter[str] = Counter()
        self._bytes_sent = self._deferred = self._conflated = 0
        self._resumes = {True: 0, False: 0}
        self._alerts_fired = self._alerts_late = self._alerts_paused = self._alerts_acknowledged = 0
        self._alert_delay = Histogram()
        self._delays = Delays()
        self._recent: Recent[Recently]
        self._beats = 0
        self._drain: Drain | None = None
        self._silence_s = math.inf
        """The shortest silence that any session here was promised."""
        self._patrol_beats = PATROL_BEATS
        self._keep_pace()

    @property
    def epoch(self) -> str:
        """Names this run of the counts: a client that sees another one starts over."""
        return self._rings.epoch

    async def on_start(self) -> None:
        """Take over from the last hub, if it stopped in order, and start the beat."""
        try:
            left = await ask(self._persister, TakeHandover(), timeout_s=HANDOVER_S)
        except (trio.TooSlowError, pykka.ActorDeadError, StoreError) as error:
            log.warning("handover_lost", reason=str(error), consequence="clients that come back start over")
        else:
            self._take_over(left)
        now = trio.current_time()
        self._recent = Recent(now, self._so_far(now))
        if self._settings.realtime.io_uring:
            self._ring = SendRing.open()
        log.info("fan_out_ready", by="io_uring" if self._ring is not None else "send")
        self.nursery.start_soon(self._beat)

    async def on_receive(self, message: object) -> object:
        """Publish, or see to a session."""
        match message:
            case Decided(decisions=decisions):
                for decision in decisions:
                    if decision.status is not None:
                        self._publish_status(decision.status)
                    if decision.price is not None:
                        self._publish_price(decision.price)
                        if decision.decided is not None:
                            self._delays.published(decision.price, decision.decided)
            case PriceRestored(price=price):
                self._restored[f"price:{price.symbol}"] = price
            case CandlesChanged(candles=candles):
                for candle in candles:
                    self._publish_candle(candle)
            case AlertFired():
                self._publish_alert(message)
            case AlertsAcknowledged(owner=owner, alert_ids=alert_ids):
                self._alerts_acknowledged += self._mail[owner].acknowledge(alert_ids)
            case GetStats():
                return self._stats()
            case GetSessions():
                return tuple(self._sessions())
            case KickSession(session_id=session_id):
                return self._kick(session_id)
            case SessionOpened() | SessionClosed() | Subscribe() | Unsubscribe() | SendSnapshot():
                self._asked.append(message)
            case _:
                await self.on_batch()
                await self._serve(message)
        return None

    async def on_batch(self) -> None:
        """Send what is due: everything published in one run of messages leaves in one write. Then do what sessions ask.

        A session sees all that was published before it came as its snapshot, not as an update. Were it let in between
        two prices, each would need a pass of its own over all the others: in a storm there are hundreds a second.
        """
        await self._fan_out()
        asked, self._asked = self._asked, []
        for message in asked:
            await self._serve(message)

    async def on_stop(self) -> None:
        """Send what is due, leave what is known to the next hub, and say good-bye to every client."""
        await self._fan_out()
        mail = {owner: mailbox.waiting() for owner, mailbox in self._mail.items() if mailbox}
        handover = _pack(_Handover(self._rings.keep(), mail))
        await tell_when_room(self._persister, KeepHandover(handover=handover))
        self._close_all()

    async def on_failure(self, *_error: object) -> None:
        """The counts are lost, so every client has to start over with the next hub's."""
        self._close_all()

    def _close_all(self) -> None:
        """At once, but so that they do not come back at once."""
        now, sessions = trio.current_time(), self._sessions()
        plan = self._drain or Drain.plan(len(sessions), 0.0, now)
        for number, session in enumerate(sessions):
            session.close(CloseCode.GOING_AWAY, plan.retry_after_ms(number, now))

    # --- publishing ---

    def _publish_price(self, price: Price) -> None:
        self._prices[price.symbol] = price
        now = self._clock.now()
        channel = f"price:{price.symbol}"
        self._restored.pop(channel, None)
        self._due.append(self._rings.publish(channel, lambda count: compose.price_update(price, now, count)))

    def _publish_status(self, status: StatusChanged) -> None:
        now = self._clock.now()
        channel = f"status:{status.symbol}"
        self._due.append(
            self._rings.publish(
                channel,
                lambda count: compose.status(
                    status.symbol,
                    status.quality,
                    status.source,
                    status.instrument,
                    status.market,
                    status.reason,
                    since=status.time,
                    now=now,
                    update_count=count,
                ),
            )
        )

    def _publish_candle(self, candle: PublishedCandle) -> None:
        channel = f"candle:{candle.symbol}:{candle.interval}"
        if self._rings.is_open(channel):
            now = self._clock.now()
            self._due.append(self._rings.publish(channel, lambda count: compose.candle(candle, now, count)))
        else:
            self._candles[channel] = candle

    async def _open_candles(self, channels: Iterable[str]) -> None:
        """Somebody asks for these channels: from now on those of candles among them have messages."""
        for channel in channels:
            if channel.startswith("candle:") and not self._rings.is_open(channel):
                self._rings.open(channel)
                newest = self._candles.pop(channel, None)
                if newest is not None:
                    self._publish_candle(newest)
        await self._fan_out()  # to nobody: who asks gets it as the snapshot

    def _publish_alert(self, fired: AlertFired) -> None:
        if fired.alert.alert_id in self._mail[fired.owner]:
            return  # it came over the restart: it is told of again because nobody has acknowledged it
        now = self._clock.now()
        update = self._rings.publish(
            owned("alert", fired.owner), lambda count: compose.alert(fired.alert, now, count)
        )
        self._due.append(update)
        self._count_alert(fired, now)
        assert isinstance(update.message, Alert)
        oldest = self._mail[fired.owner].put(update.message)
        if oldest is not None:
            log.warning("alert_unacknowledged", alert=oldest.data.alert_id, owner=fired.owner)

    def _count_alert(self, fired: AlertFired, now: EpochUs) -> None:
        alert = fired.alert
        if alert.redelivered:
            return
        self._alerts_fired += 1
        self._alerts_late += alert.late
        self._alerts_paused += alert.paused_until is not None
        if fired.arrived is not None and not alert.late:
            self._alert_delay.observe((now - fired.arrived) / SECOND_US)

    async def _fan_out(self) -> None:
        if not self._due:
            return
        due, self._due = self._due, []
        self._delays.begin(self._clock.now())
        started = since = ended = resumed = trio.current_time()
        written_to = in_a_row = 0
        touched = {update.channel for update in due}
        for audience in list(self._audiences.values()):
            if touched.isdisjoint(audience.channels):
                continue
            batch = Batch([u for u in due if u.channel in audience.channels], audience.encoding)
            clients = len(audience.sessions)
            for update in batch.updates:
                self._sent[update.kind] += clients
            audience.last_sent = trio.current_time()
            start = 0
            while start < len(audience.sessions):
                if in_a_row >= audience.slice or ended - resumed >= SLICE_S / 2:
                    await trio.lowlevel.checkpoint()
                    in_a_row, resumed = 0, trio.current_time()
                    continue  # some may have left meanwhile
                stop, began = min(start + audience.slice, len(audience.sessions)), trio.current_time()
                # Many small audiences are counted together: what is done for each of them is done for each client.
                if written_to and began - since >= COUNT_WITHIN_S:
                    self._delays.written(since - started, ended - started, written_to)
                    written_to = 0
                if not written_to:
                    since = began
                if audience.is_behind:  # nobody takes anything now, so nothing need be framed
                    short = [(seat, 0) for seat in range(start, stop)]
                else:
                    short = audience.write(batch.data, start, stop)
                for seat, written in short:
                    self._conflated += audience.sessions[seat].keep(batch, written)
                    self._bytes_sent += written
                self._deferred += len(short)
                ended = trio.current_time()
                audience.pace(ended - began)
                if whole := stop - start - len(short):
                    self._bytes_sent += len(batch.data) * whole
                    written_to += whole
                in_a_row += stop - start
                start = stop
        if written_to:
            self._delays.written(since - started, ended - started, written_to)

    # --- sessions ---

    async def _serve(self, message: object) -> None:
        match message:
            case SessionOpened(session=session, channels=channels):
                self._connections += 1
                await self._open_candles(channels)
                self._seat(session, channels)
                session.greet(self.epoch)
                self._resume(message)
                if self._drain is not None:  # it was on its way in when the drain began
                    now = trio.current_time()
                    session.close(CloseCode.GOING_AWAY, self._drain.retry_after_ms(self._drain.clients, now))
            case SessionClosed(session=session):
                self._unseat(session)
            case Subscribe():
                await self._open_candles(message.channels)
                self._subscribe(message)
            case Unsubscribe(session=session, channels=channels, request_id=request_id):
                if session.seat is not None:
                    keys = [owned(channel, session.owner) for channel in channels]
                    self._seat(session, session.seat[0].channels.difference(keys))
                    for key in keys:
                        session.drop_channel(key)
                    session.send(compose.unsubscribed(request_id, channels, self._clock.now()))
            case SendSnapshot(session=session, channels=channels, request_id=request_id):
                await self._open_candles(channels)
                counts = {c: self._rings.count(owned(c, session.owner)) for c in channels}
                session.send(compose.snapshot_sent(request_id, self.epoch, counts, self._clock.now()))
                for channel in channels:
                    self._send_snapshot(session, owned(channel, session.owner))
            case SymbolsRemoved(symbols=symbols):
                await self._end_channels(symbols)
            case DrainSessions(plan=plan):
                self._drain = plan
                self.nursery.start_soon(self._say_goodbye, plan)
            case Beat():
                await self._see_to_sessions()

    def _seat(self, session: Session, channels: frozenset[str]) -> None:
        self._unseat(session)
        key = (session.encoding.name, session.is_tls, channels)
        audience = self._audiences.get(key)
        if audience is None:
            audience = Audience(session.encoding, channels, self._ring, tls=session.is_tls)
            self._audiences[key] = audience
        audience.seat(session)
        session.share(audience.channels)

    def _unseat(self, session: Session) -> None:
        if session.seat is not None:
            audience, _ = session.seat
            audience.unseat(session)
            if not audience.sessions:
                del self._audiences[audience.encoding.name, session.is_tls, audience.channels]

    async def _end_channels(self, symbols: frozenset[str]) -> None:
        """Nothing more comes of these symbols: forget them, and tell everybody who is subscribed."""
        for channel in self._rings.counts():
            if symbol_of(channel) in symbols:
                self._rings.forget(channel)
        for channel in [channel for channel in self._candles if symbol_of(channel) in symbols]:
            del self._candles[channel]
        for symbol in symbols:
            self._prices.pop(symbol, None)
            self._restored.pop(f"price:{symbol}", None)
        told, sessions = 0, self._sessions()
        for start in range(0, len(sessions), SLICE):
            for session in sessions[start : start + SLICE]:
                session.withdraw(symbols)
                told += self._end_for(session, symbols)
            await trio.lowlevel.checkpoint()
        log.info("channels_ended", symbols=sorted(symbols), sessions=told)

    def _end_for(self, session: Session, symbols: frozenset[str]) -> bool:
        """Take these symbols' channels from a session, and say so; False: it has none of them."""
        if session.seat is None:
            return False
        held = session.seat[0].channels
        ended = sorted(channel for channel in held if symbol_of(channel) in symbols)
        if ended:
            self._seat(session, held.difference(ended))
            for channel in ended:
                session.drop_channel(channel)
            now, names = self._clock.now(), ", ".join(sorted({str(symbol_of(channel)) for channel in ended}))
            gone = f"{names}: this server has it no more"
            session.send(compose.error(ErrorCode.UNKNOWN_CHANNEL, gone, now))
            session.send(compose.unsubscribed(None, ended, now))
        return bool(ended)

    def _subscribe(self, message: Subscribe) -> None:
        session = message.session
        if session.seat is None:
            return
        held = session.seat[0].channels
        missed: dict[str, list[Update] | None] = {}
        for channel in message.channels:
            key, position = owned(channel, session.owner), message.resume.get(channel)
            # What the session has already it has not missed.
            resumed = position is not None and key not in held
            missed[channel] = self._rings.since(key, position) if resumed and position else None
        known = [missed[channel] is not None for channel in message.resume if channel in missed]
        if known:
            self._resumes[all(known)] += 1
        self._seat(session, held.union(owned(channel, session.owner) for channel in message.channels))
        positions = {
            channel: (self._rings.count(owned(channel, session.owner)), updates is not None)
            for channel, updates in missed.items()
        }
        session.send(compose.subscribed(message.request_id, self.epoch, positions, self._clock.now()))
        for channel, updates in missed.items():
            key = owned(channel, session.owner)
            if updates is None:
                self._send_snapshot(session, key)
            else:
                self._redeliver(session, key, updates)
                session.replay(updates)

    def _resume(self, opened: SessionOpened) -> None:
        """What was published after what the client got last, in order; snapshots where that is not known."""
        session, replay = opened.session, list[Update]()
        recovered = True
        for channel in sorted(opened.channels):
            missed = None
            if opened.resume_after is not None:
                missed = self._rings.after(channel, *opened.resume_after)
            elif (position := opened.resume.get(channel)) is not None:
                missed = self._rings.since(channel, position)
            if missed is None:
                recovered = False
                self._send_snapshot(session, channel)
            else:
                self._redeliver(session, channel, missed)
                replay += missed
        if opened.resume_after is not None or opened.resume:
            self._resumes[recovered] += 1
        session.replay(sorted(replay, key=lambda update: update.seq))

    def _send_snapshot(self, session: Session, channel: str) -> None:
        """A channel's current state: its newest message, with the count that it has now; or the owner's mail."""
        kind, _, rest = channel.partition(":")
        if kind == "alert":
            session.drop_channel(channel)
            self._redeliver(session, channel, [])
            return
        newest = self._newest(channel)
        if newest is None:
            return
        message = self._as_of_now(newest, rest)
        conflated = session.drop_channel(channel)  # it stands for what waited, too
        if conflated > 1:
            message = msgspec.structs.replace(message, conflated=conflated)
        session.send(message)

    def _newest(self, channel: str) -> ChannelMessage | None:
        latest, restored = self._rings.latest(channel), self._restored.get(channel)
        if latest is None and restored is not None:
            return compose.price_update(restored, self._clock.now(), self._rings.count(channel))
        return None if latest is None else latest.message

    def _as_of_now(self, message: ChannelMessage, symbol: str) -> ChannelMessage:
        """A channel's newest message, as it would be published now."""
        now = format_time(self._clock.now())
        if isinstance(message, PriceUpdate):
            data = msgspec.structs.replace(message.data, quality=self._quality(symbol))
            return msgspec.structs.replace(message, data=data, timestamp=now)
        return msgspec.structs.replace(message, timestamp=now)

    def _redeliver(self, session: Session, channel: str, missed: list[Update]) -> None:
        """An owner's alerts that nobody acknowledged, in order, but for those in `missed`, which follow."""
        kind, _, owner = channel.partition(":")
        if kind != "alert":
            return
        first = missed[0].count if missed else math.inf
        for message in self._mail[owner].waiting():
            if message.update_count < first:
                data = msgspec.structs.replace(message.data, redelivered=True)
                session.send(msgspec.structs.replace(message, data=data))

    def _quality(self, symbol: str) -> Quality:
        status = self._rings.latest(f"status:{symbol}")
        return status.message.data.quality if status and isinstance(status.message, Status) else Quality.STALE

    def _price_now(self, symbol: str) -> Price:
        """The newest price, with the quality that it has now."""
        return msgspec.structs.replace(self._prices[symbol], quality=self._quality(symbol))

    def _take_over(self, left: bytes | None) -> None:
        if left is None:
            return
        try:
            handover = _unpack(left)
        except msgspec.MsgspecError:  # by another version of aurexd
            log.warning("handover_unreadable", consequence="clients that come back start over")
            return
        self._rings = Rings.restore(handover.rings, self._settings.realtime.resume_messages, self._is_served)
        for owner, messages in handover.mail.items():
            for message in messages:
                self._mail[owner].put(message)

    def _is_served(self, channel: str) -> bool:
        symbol = symbol_of(channel)
        return symbol is None or symbol in self._settings.symbols

    def _sessions(self) -> list[Session]:
        return [session for audience in self._audiences.values() for session in audience.sessions]

    def _kick(self, session_id: str) -> bool:
        session = next((session for session in self._sessions() if session.id == session_id), None)
        if session is None:
            return False
        session.close(CloseCode.KICKED)
        return True

    async def _say_goodbye(self, plan: Drain) -> None:
        """Each client in its turn; who has something to take yet comes last."""
        for number, session in enumerate(sorted(self._sessions(), key=lambda session: session.backlogged)):
            await trio.sleep_until(plan.close_at(number))
            session.close(CloseCode.GOING_AWAY, plan.retry_after_ms(number, trio.current_time()))

    # --- the beat ---

    async def _beat(self) -> None:
        while True:
            await trio.sleep_until(next_beat(min(BEAT_S, self._silence_s)))
            await tell_when_room(self.actor_ref, Beat())

    async def _see_to_sessions(self) -> None:
        """Tell silent lines that they are alive, ping quiet clients, and end those that do not answer."""
        self._keep_pace()
        now = trio.current_time()
        turn, turns = self._beats % self._patrol_beats, self._patrol_beats
        self._beats += 1
        if self._recent.is_due(now):
            self._recent.note(now, self._so_far(now))
        self._bound_memory()
        for audience in list(self._audiences.values()):
            if now - audience.last_sent >= self._silence_s:
                await self._break_silence(audience, now)
            patrol = audience.sessions[turn::turns]
            for start in range(0, len(patrol), SLICE):
                for session in patrol[start : start + SLICE]:
                    session.check_alive(now)
                    if not audience.channels:
                        session.check_idle(now)
                await trio.lowlevel.checkpoint()

    def _bound_memory(self) -> None:
        """What waits for all clients together has a limit, too: over it, those go for whom most waits."""
        limit = self._settings.limits.send_queue_total_bytes
        behind = [s for audience in self._audiences.values() for s in audience.behind if s.closing is None]
        held = sum(session.held_bytes for session in behind)
        if held <= limit:
            return
        log.warning("send_queues_full", held_bytes=held, sessions=len(behind))
        for session in sorted(behind, key=lambda session: session.held_bytes, reverse=True):
            held -= session.held_bytes
            session.close(CloseCode.SLOW_CONSUMER)
            if held <= limit:
                return

    def _keep_pace(self) -> None:
        """Look as often as the shortest times ask for that ever held here: sessions keep what they were promised."""
        heartbeat = self._settings.heartbeat
        self._silence_s = min(self._silence_s, heartbeat.silence_s)
        quickest_s = min(heartbeat.ping_interval_s, heartbeat.pong_timeout_s)
        self._patrol_beats = max(1, min(self._patrol_beats, int(quickest_s / (2 * BEAT_S))))

    async def _break_silence(self, audience: Audience, now: float) -> None:
        frame = audience.encoding.frame(compose.heartbeat(self._clock.now()))
        for start in range(0, len(audience.sessions), SLICE):
            for session in audience.sessions[start : start + SLICE]:
                last_sent = max(audience.last_sent, session.last_sent)
                if not session.backlogged and now - last_sent >= session.silence_s:
                    session.send_frame(frame)
            await trio.lowlevel.checkpoint()

    def _so_far(self, now: float) -> Recently:
        return Recently(
            seconds=now,
            messages_sent=self._sent.total(),
            bytes_sent=self._bytes_sent,
            updates=self._rings.seq,
            hops=self._delays.taken(),
        )

    def _stats(self) -> HubStats:
        so_far, before = self._so_far(trio.current_time()), self._recent.oldest
        behind = [session for audience in self._audiences.values() for session in audience.behind]
        return HubStats(
            epoch=self.epoch,
            active_connections=sum(len(audience.sessions) for audience in self._audiences.values()),
            connections=self._connections,
            messages_sent=so_far.messages_sent,
            sent=dict(self._sent),
            bytes_sent=self._bytes_sent,
            deferred=self._deferred,
            conflated=self._conflated,
            behind=len(behind),
            held_bytes=sum(session.held_bytes for session in behind),
            resumes=dict(self._resumes),
            alerts_fired=self._alerts_fired,
            alerts_late=self._alerts_late,
            alerts_paused=self._alerts_paused,
            alert_delay=self._alert_delay.taken(),
            alerts_acknowledged=self._alerts_acknowledged,
            alerts_waiting=sum(map(len, self._mail.values())),
            hops=so_far.hops,
            recent=Recently(
                seconds=so_far.seconds - before.seconds,
                messages_sent=so_far.messages_sent - before.messages_sent,
                bytes_sent=so_far.bytes_sent - before.bytes_sent,
                updates=so_far.updates - before.updates,
                hops=so_far.hops.since(before.hops),
            ),
            update_count=self._rings.seq,
            channels={name: count for name, count in self._rings.counts().items() if self._is_served(name)},
            last_price={symbol: self._price_now(symbol) for symbol in self._prices},
        )

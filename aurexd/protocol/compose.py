"""Makes the server's messages from what the daemon knows: prices, counts and times in, messages out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import UNSET, UnsetType

from aurexd.candles import PublishedCandle
from aurexd.identity import Identity, Scope
from aurexd.market import EpochUs, Instrument, Price, Quality, format_time
from aurexd.protocol import alerts, data
from aurexd.protocol.messages import (
    Alert,
    AlertAck,
    AlertAcked,
    AlertCreate,
    AlertCreated,
    AlertDelete,
    AlertDeleted,
    AlertList,
    AlertListed,
    AlertUpdate,
    AlertUpdated,
    Authenticated,
    Candle,
    Error,
    GoingAway,
    Heartbeat,
    Pong,
    PriceUpdate,
    RequestId,
    SnapshotSent,
    Status,
    Subscribed,
    TokenExpiring,
    Unsubscribed,
    Welcome,
)


def price_data(price: Price) -> data.PriceData:
    """A price as clients see it."""
    return data.PriceData(
        symbol=price.symbol,
        close=price.close,
        change=price.change,
        change_pct=price.change_pct,
        timestamp=format_time(price.source_time),
        bid=price.bid,
        ask=price.ask,
        source=price.source,
        instrument=price.instrument,
        quality=price.quality,
        confidence=UNSET if price.confidence is None else price.confidence,
        votes=list(price.votes) if price.votes else UNSET,
        rebased=price.rebased or UNSET,
    )


def price_update(price: Price, now: EpochUs, update_count: int) -> PriceUpdate:
    """`price_update`: a new price or, with the count that its channel has already, the snapshot."""
    return PriceUpdate(data=price_data(price), timestamp=format_time(now), update_count=update_count)


def status(
    symbol: str,
    quality: Quality,
    source: str | None,
    instrument: Instrument,
    market: data.MarketState,
    reason: str,
    since: EpochUs,
    now: EpochUs,
    update_count: int,
) -> Status:
    """`status`: a change or, with the count that its channel has already, the snapshot."""
    return Status(
        data=data.StatusData(
            symbol=symbol,
            quality=quality,
            source=source,
            instrument=instrument,
            market=market,
            reason=reason,
            since=format_time(since),
        ),
        timestamp=format_time(now),
        update_count=update_count,
    )


def candle(changed: PublishedCandle, now: EpochUs, update_count: int) -> Candle:
    """`candle`: a change or, with the count that its channel has already, the snapshot."""
    return Candle(
        data=data.CandleData(
            symbol=changed.symbol,
            interval=changed.interval,
            start=format_time(changed.start),
            end=format_time(changed.end),
            open=changed.open,
            high=changed.high,
            low=changed.low,
            close=changed.close,
            ticks=changed.ticks,
            instrument=changed.instrument,
            final=changed.final,
            revision=changed.revision,
            filled=False,  # what is filled is only in the history
        ),
        timestamp=format_time(now),
        update_count=update_count,
    )


def welcome(
    session: str,
    version: str,
    epoch: str,
    limits: data.LimitsData,
    heartbeat: data.HeartbeatData,
    now: EpochUs,
    *,
    asks_for_token: bool = False,
) -> Welcome:
    """`welcome`."""
    time = format_time(now)
    return Welcome(
        data=data.WelcomeData(
            session=session,
            version=version,
            epoch=epoch,
            server_time=time,
            auth=data.AuthMode.TOKEN if asks_for_token else data.AuthMode.OPEN,
            heartbeat=heartbeat,
            limits=limits,
        ),
        timestamp=time,
    )


def authenticated(request_id: RequestId | None, identity: Identity, now: EpochUs) -> Authenticated:
    """`authenticated`, for somebody with a token."""
    assert identity.expires is not None
    return Authenticated(
        id=_echo(request_id),
        data=data.AuthenticatedData(
            user=identity.user,
            scopes=[scope for scope in Scope if scope in identity.scopes],
            expires=format_time(identity.expires),
        ),
        timestamp=format_time(now),
    )


def token_expiring(expires: EpochUs, now: EpochUs) -> TokenExpiring:
    """`token_expiring`."""
    return TokenExpiring(
        data=data.TokenExpiringData(expires=format_time(expires)), timestamp=format_time(now)
    )


def heartbeat(now: EpochUs) -> Heartbeat:
    """`heartbeat`."""
    return Heartbeat(data=data.NothingSaid(), timestamp=format_time(now))


def going_away(reason: str, retry_after_ms: int, now: EpochUs) -> GoingAway:
    """`going_away`; `retry_after_ms` should differ from client to client."""
    return GoingAway(
        data=data.GoingAwayData(reason=reason, retry_after_ms=retry_after_ms), timestamp=format_time(now)
    )


def subscribed(
    request_id: RequestId | None, epoch: str, channels: Mapping[str, tuple[int, bool]], now: EpochUs
) -> Subscribed:
    """`subscribed`; `channels` is channel → its `update_count` now, and whether what was missed follows."""
    positions = {
        channel: data.SubscribedPosition(epoch=epoch, count=count, recovered=recovered)
        for channel, (count, recovered) in channels.items()
    }
    return Subscribed(
        id=_echo(request_id), data=data.SubscribedData(channels=positions), timestamp=format_time(now)
    )


def unsubscribed(request_id: RequestId | None, channels: Iterable[str], now: EpochUs) -> Unsubscribed:
    """`unsubscribed`."""
    return Unsubscribed(
        id=_echo(request_id),
        data=data.UnsubscribedData(channels=list(channels)),
        timestamp=format_time(now),
    )


def snapshot_sent(
    request_id: RequestId | None, epoch: str, counts: Mapping[str, int], now: EpochUs
) -> SnapshotSent:
    """`snapshot_sent`; `counts` is channel → its `update_count` now."""
    positions = {channel: data.CurrentPosition(epoch=epoch, count=count) for channel, count in counts.items()}
    return SnapshotSent(
        id=_echo(request_id), data=data.SnapshotSentData(channels=positions), timestamp=format_time(now)
    )


def alert(fired: alerts.AlertData, now: EpochUs, update_count: int) -> Alert:
    """`alert`."""
    return Alert(data=fired, timestamp=format_time(now), update_count=update_count)


def alert_answer(
    request: AlertCreate | AlertList | AlertUpdate | AlertDelete | AlertAck,
    answer: alerts.AlertRuleData | alerts.AlertListedData | alerts.AlertDeletedData | alerts.AlertAckedData,
    now: EpochUs,
) -> AlertCreated | AlertListed | AlertUpdated | AlertDeleted | AlertAcked:
    """The answer to a request about alerts: its type in the past."""
    request_id, time = _echo(request.id), format_time(now)
    match answer:
        case alerts.AlertRuleData():
            kind = AlertCreated if isinstance(request, AlertCreate) else AlertUpdated
            return kind(id=request_id, data=answer, timestamp=time)
        case alerts.AlertListedData():
            return AlertListed(id=request_id, data=answer, timestamp=time)
        case alerts.AlertDeletedData():
            return AlertDeleted(id=request_id, data=answer, timestamp=time)
        case alerts.AlertAckedData():
            return AlertAcked(id=request_id, data=answer, timestamp=time)


def pong(request_id: RequestId | None, now: EpochUs) -> Pong:
    """`pong`."""
    return Pong(id=_echo(request_id), data=data.NothingSaid(), timestamp=format_time(now))


def error(
    code: str,
    message: str,
    now: EpochUs,
    *,
    request_id: RequestId | None = None,
    retry_after_ms: int | None = None,
) -> Error:
    """`error`; `code` is one of `codes.ErrorCode`."""
    wait = UNSET if retry_after_ms is None else retry_after_ms
    return Error(
        id=_echo(request_id),
        data=data.ErrorData(code=code, message=message, retry_after_ms=wait),
        timestamp=format_time(now),
    )


def _echo(request_id: RequestId | None) -> RequestId | UnsetType:
    return UNSET if request_id is None else request_id

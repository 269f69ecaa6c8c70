"""What `aurexctl` shows to people: the daemon's replies as tables and lines. It asks nobody, and decides nothing."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Reply = Mapping[str, Any]

STYLES = {
    **dict.fromkeys(("live", "connected", "running", "ok", "serving"), "green"),
    **dict.fromkeys(("delayed", "simulated", "paused", "closed", "finished", "off", "draining"), "yellow"),
    **dict.fromkeys(("stale", "waiting", "failed", "parked", "degraded", "restarting", "stopped"), "red"),
}
"""How words are coloured that say how something is."""


def status(reply: Reply) -> RenderableType:
    """The daemon as a whole."""
    head = Text.assemble(
        f"aurexd {reply['version']} ",
        _word(reply["phase"]),
        f" for {duration(reply['uptime_s'])}, process {reply['pid']}, logs {reply['log_level']}\n",
        f"configuration {reply['config_file'] or 'of no file'}\n",
        f"{reply['clients']} clients ({reply['connections']} ever), {reply['messages_sent']} messages sent",
    )
    store = reply["store"]
    counts = f"  {store['stored']} ticks stored, {store['waiting']} waiting, {store['dropped']} dropped"
    stored = Text.assemble("store ", _word(store["state"]), counts)
    if store["reason"]:
        stored.append(f"\n  {store['reason']}")
    sources = _table("SOURCE", "STATE", "LAST ERROR")
    for source in reply["sources"]:
        sources.add_row(source["name"], _word(source["state"]), source["last_error"] or "")
    return Group(head, stored, Text(), prices(reply["symbols"]), Text(), sources)


def prices(symbols: Iterable[Reply]) -> RenderableType:
    """What symbols cost, and how far that can be trusted."""
    table = _table("SYMBOL", ">PRICE", ">CHANGE", "QUALITY", "SOURCE", ">AGE", "WHY")
    for symbol in symbols:
        table.add_row(
            symbol["symbol"],
            number(symbol["close"], symbol["decimals"]),
            number(symbol["change"], symbol["decimals"], sign=True),
            _word(symbol["quality"]),
            symbol["source"] or "",
            "" if symbol["age_ms"] is None else duration(symbol["age_ms"] / 1000),
            symbol["reason"],
        )
    return table


def price_line(symbol: Reply) -> str:
    """The same of one symbol, where there is no terminal."""
    time, close = symbol["source_time"] or symbol["since"], number(symbol["close"], symbol["decimals"])
    return f"{time} {symbol['symbol']} {close or '-'} {symbol['quality']} {symbol['source'] or '-'}"


def sources(reply: Reply) -> RenderableType:
    """Every source, and under each that failed, why."""
    table = _table(
        "SOURCE", "TYPE", ">PRIO", "STATE", "SINCE", ">TICKS", ">LAG", ">FAILED", "REJECTED", "SYMBOLS"
    )
    errors = []
    for source in reply["sources"]:
        table.add_row(
            source["name"],
            source["type"],
            str(source["priority"]),
            _word(source["state"]),
            clock_time(source["since"]),
            str(source["ticks"]),
            "" if source["lag_ms"] is None else f"{source['lag_ms']} ms",
            str(source["failures"]),
            ", ".join(f"{reason} {count}" for reason, count in source["rejected"].items()),
            ", ".join(f"{ours}={theirs}" for ours, theirs in source["symbols"].items()),
        )
        if source["last_error"]:
            again = f"; tries again at {clock_time(source['next_attempt'])}" if source["next_attempt"] else ""
            errors.append(Text(f"{source['name']}: {source['last_error']}{again}"))
    return Group(table, *([Text(), *errors] if errors else []))


def why_price(reply: Reply) -> RenderableType:
    """From which ticks and by which rules a price comes."""
    price = reply["price"]
    head = Text.assemble(
        f"{reply['symbol']} {price['close'] if price else 'has no price'} ",
        _word(reply["quality"]),
        f" since {clock_time(reply['since'])}: {reply['reason']}\n",
        f"policy {reply['policy']}, market {reply['market']} until {clock_time(reply['next_change'])}, ",
        f"close before {reply['previous_close'] or 'unknown'}, ",
        f"jumps over {reply['max_jump_pct']:g} % a second are checked",
    )
    parts = _table(
        "SOURCE", ">PRIO", "STANDING", "QUALITY", ">BID", ">ASK", ">LAST", ">AGE", ">STALE IN", "REFUSED"
    )
    for part in reply["sources"]:
        tick = part["tick"] or {}
        parts.add_row(
            part["source"],
            str(part["priority"]),
            part["standing"],
            _word(part["quality"] or ""),
            *("" if tick.get(key) is None else str(tick[key]) for key in ("bid", "ask", "last")),
            "" if part["age_ms"] is None else duration(part["age_ms"] / 1000),
            "" if part["stale_in_ms"] is None else duration(part["stale_in_ms"] / 1000),
            ", ".join(f"{reason} {count}" for reason, count in part["refused"].items()),
        )
    refused = _table("REFUSED", "WHY", ">BID", ">ASK", ">LAST", "AT")
    for each in reply["refused"]:
        tick = each["tick"]
        numbers = ("" if tick[key] is None else str(tick[key]) for key in ("bid", "ask", "last"))
        refused.add_row(each["source"], each["reason"], *numbers, clock_time(tick["received"]))
    return Group(head, Text(), parts, Text(), refused) if reply["refused"] else Group(head, Text(), parts)


def alerts(reply: Reply) -> RenderableType:
    """What there is of alerts, and which wait for their owners."""
    rules = ", ".join(f"{count} {state}" for state, count in reply["rules"].items() if count) or "none"
    counts = f"{reply['alerts']} alerts, {reply['unacknowledged']} not acknowledged"
    head = Text(f"rules of {reply['owners']} owners: {rules}\n{counts}")
    table = _table("ALERT", "OWNER", "SYMBOL", "RULE", ">PRICE", "FIRED", "NOTE")
    for waiting in reply["waiting"]:
        alert = waiting["alert"]
        table.add_row(
            alert["alert_id"],
            waiting["owner"],
            alert["symbol"],
            alert["condition"],
            "" if alert["close"] is None else str(alert["close"]),
            clock_time(alert["fired"]) + (" late" if alert["late"] else ""),
            alert["note"],
        )
    return Group(head, Text(), table) if reply["waiting"] else head


def why_alert(reply: Reply) -> RenderableType:
    """From which prices and by which rule an alert fired."""
    alert = reply["alert"]
    lines = [
        f"alert {alert['alert_id']}, {alert['symbol']}, fired at {clock_time(alert['fired'])}",
        f"rule {alert['rule_id']}: {reply['fires_when']}",
        reply["reason"],
    ]
    for what, key in (("price", "price"), ("price before", "previous")):
        price = reply[key]
        if price is not None:
            lines.append(f"{what}: {price['close']} of {price['source']}")
    acknowledged = reply["acknowledged"]
    lines.append(f"acknowledged at {clock_time(acknowledged)}" if acknowledged else "not acknowledged yet")
    return Text("\n".join(lines))


def actors(reply: Reply) -> RenderableType:
    """The tree of supervision."""
    table = _table("ACTOR", "STATE", ">FOR", ">RESTARTS", ">INBOX", ">PEAK", ">OF", "LAST ERROR")
    for actor in reply["actors"]:
        table.add_row(
            "  " * actor["depth"] + actor["name"],
            _word(actor["state"]),
            duration(actor["since_s"]),
            str(actor["restarts"]),
            *("" if actor[key] is None else str(actor[key]) for key in ("waiting", "peak", "capacity")),
            actor["last_error"] or "",
        )
    return table


def sessions(reply: Reply) -> RenderableType:
    """Who streams."""
    table = _table("SESSION", "ADDRESS", "USER", ">AGE", ">SILENT", ">WAITING", "ENCODING", "CHANNELS")
    for session in reply["sessions"]:
        closing = f"closing: {session['closing']}; " if session["closing"] else ""
        table.add_row(
            session["id"],
            session["address"],
            session["user"] or "",
            duration(session["age_s"]),
            duration(session["silent_s"]),
            f"{session['waiting_bytes']} B" if session["waiting_bytes"] else "",
            session["encoding"],
            closing + ", ".join(session["channels"]),
        )
    shown = len(reply["sessions"])
    return Group(table, Text(f"{shown} of {reply['total']} sessions"))


def reloaded(reply: Reply) -> RenderableType:
    """What a reload did."""
    lines = [f"changed: {', '.join(reply['changed']) or 'nothing'}"]
    lines += [f"needs a restart: {setting}: {reason}" for setting, reason in reply["waiting"].items()]
    for note in reply["notes"]:
        hint = f" — {note['suggestion']}" if note["suggestion"] else ""
        lines.append(f"note: {note['path']}: {note['message']}{hint}")
    return Text("\n".join(lines))


def _table(*heads: str) -> Table:
    """A table without lines, to be read and to be cut; `>` in front of a head: numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        justify: Any = "right" if head.startswith(">") else "left"
        table.add_column(head.removeprefix(">"), justify=justify, overflow="fold")
    return table


def _word(word: str) -> Text:
    return Text(word, style=STYLES.get(word, ""))


def number(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """A price, with all its decimals; nothing where there is none."""
    return "" if value is None else f"{value:{'+' if sign else ''}.{decimals}f}"


def duration(seconds: float) -> str:
    """Two units at most: `0.3 s`, `42 s`, `3 min 10 s`, `2 d 5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, size, smaller, smaller_size in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def clock_time(time: str) -> str:
    """A time here, to the second; with its day where that is another."""
    local = datetime.datetime.fromisoformat(time).astimezone()
    today = datetime.datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M:%S}"

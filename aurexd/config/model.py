"""What can be configured: every table and key with its type, range, default and meaning. Reads nothing.

The descriptions are the manual: `manual.py` prints them as `conf/aurexd.toml`. Rules between keys are
`check.py`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, SerializeAsAny

from aurexd.candles import INTERVALS
from aurexd.forwarded import HeaderName
from aurexd.market import Instrument
from aurexd.protocol.data import MAX_CHANNELS
from aurexd.redaction import is_secret_name
from aurexd.sources.base import SourceSettings

SQLITE_PREFIX = "sqlite:///"


class ReadOnce:
    """Marks a key that is read at the start only, in a table whose other keys a reload replaces."""


class Section(BaseModel):
    """Base of all tables: frozen, and nothing unknown gets in."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Realtime(Section):
    """The live stream as a whole."""

    enabled: bool = Field(
        default=True,
        description="Whether clients may have a WebSocket. false: they are told to use the event stream or polling, "
        "which go on, and closed with 4505. REALTIME_ENABLED in the environment sets it too.",
    )
    rollout_percent: int = Field(
        default=100,
        ge=0,
        le=100,
        description="Percent of the clients that may have a WebSocket: always the same ones, by user where one is "
        "known, else by address (for IPv6: by /64). A higher number only adds some.",
    )
    update_interval_s: float = Field(
        default=5,
        ge=0.1,
        le=3600,
        description="Seconds between two questions to a source that has to be asked (polling); a provider's "
        "own minimum wins. Sources that push are not affected. WS_UPDATE_INTERVAL in the environment sets "
        "it too.",
    )
    compression: bool = Field(
        default=True,
        description="Whether messages of 512 bytes and more are compressed for clients that offer it "
        "(permessage-deflate). Prices are smaller, and are not. false saves 0.2 ms of CPU for a message of 25 KB.",
    )

    io_uring: Annotated[bool, ReadOnce()] = Field(
        default=True,
        description="Whether one system call may write an update to many clients, where the kernel lets us (Linux 6.0 "
        "and newer; containers often do not): a fifth less work. false: a call for each client.",
    )
    drain_s: float = Field(
        default=20,
        ge=0,
        le=600,
        description="Seconds that the clients' good-byes may be spread over when the daemon stops; with few "
        "clients it is far less. 0: all at once.",
    )
    resume_messages: Annotated[int, ReadOnce()] = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Messages kept of each channel (about 1 KB each) for clients that come back: whoever missed "
        "more gets the newest only. Kept over an orderly restart, too. 1 switches catching up off.",
    )


class Listen(Section):
    """Where clients connect: WebSocket and HTTP on one port."""

    address: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="An IP address of this machine, or localhost; 0.0.0.0 is every IPv4 address, :: every "
        "IPv6 address. Anything but a loopback address needs [tls].",
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="TCP port. 0 lets the system choose a free one, for tests."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description='Names by which clients may call this server, as "gold.example.org" or "*.example.org", '
        "without a port: a request for another name is refused, because a page of another site may have its "
        "own name point here (DNS rebinding). IP addresses and localhost are always good. Empty: the names "
        'in the certificate and in allowed_origins, and whatever a trusted proxy passes on. ["*"] switches '
        "the check off.",
    )
    proxy_protocol: bool = Field(
        default=False,
        description="Whether connections from limits.trusted_proxies begin with a PROXY protocol header "
        "(version 1 or 2), before TLS. They must then; those of others must not. false switches it off.",
    )


class Tls(Section):
    """Encryption (TLS 1.2 and newer). Both keys, or none for plain ws:// on loopback addresses only.

    A relative path starts in $CREDENTIALS_DIRECTORY where systemd sets it, else in the working directory.
    """

    certificate: str = Field(
        default="",
        description="Path of the certificate with its chain, PEM. Empty switches TLS off.",
    )
    private_key: str = Field(
        default="",
        description="Path of the certificate's private key, PEM, without a passphrase. Empty switches TLS "
        "off.",
    )


class Limits(Section):
    """How much one client, one address and all clients together may ask of the daemon."""

    max_connections_per_ip: int = Field(
        default=5,
        ge=0,
        le=1_000_000,
        description="Streaming sessions from one address (for IPv6: one /64) at a time. 0 switches the "
        "limit off.",
    )
    max_connections_per_user: int = Field(
        default=20,
        ge=0,
        le=1_000_000,
        description="Streaming sessions of one authenticated user at a time, from whatever addresses: they "
        "do not count against these. 0 switches the limit off.",
    )
    max_connections: int = Field(
        default=20_000,
        ge=0,
        le=1_000_000,
        description="Streaming sessions in all. 0 switches the limit off. Each needs a file descriptor.",
    )
    max_attempts_per_second: float = Field(
        default=20,
        ge=0,
        le=1_000_000,
        description="Connections that one address may open in a second, whatever becomes of them; ten "
        "seconds' worth at once. Beyond that it is told to wait, and hung up on while it does not. 0 "
        "switches the limit off.",
    )
    max_handshakes_per_ip: int = Field(
        default=64,
        ge=0,
        le=1_000_000,
        description="Connections of one address that have not yet sent a whole request, at a time. Beyond "
        "that it is hung up on. 0 switches the limit off.",
    )
    max_handshakes: int = Field(
        default=4096,
        ge=0,
        le=1_000_000,
        description="The same of all addresses together. Beyond that the oldest, if it had two seconds "
        "for its request, makes room for the newest. 0 switches the limit off.",
    )
    max_requests_per_second: float = Field(
        default=10,
        ge=0,
        le=1_000_000,
        description="HTTP requests of one address in a second, the page's included; ten seconds' worth at "
        "once. Beyond that the answer is 429. 0 switches the limit off.",
    )
    max_messages_per_second: float = Field(
        default=10,
        gt=0,
        le=100_000,
        description="Messages a second that one client may send. Cannot be switched off; set it high "
        "instead.",
    )
    max_control_frames_per_second: float = Field(
        default=10,
        gt=0,
        le=100_000,
        description="WebSocket pings and pongs a second that one client may send; two seconds' worth at "
        "once. Beyond that it is closed with 4003. Cannot be switched off; set it high instead.",
    )
    max_message_bytes: int = Field(
        default=16_384,
        ge=256,
        le=16_777_216,
        description="Bytes of the largest message a client may send; of a compressed one, what it inflates to. "
        "Cannot be switched off.",
    )
    max_channels: int = Field(
        default=MAX_CHANNELS,
        ge=1,
        le=MAX_CHANNELS,
        description="Channels that one session may be subscribed to. Cannot be switched off.",
    )
    handshake_timeout_s: float = Field(
        default=10,
        gt=0,
        le=300,
        description="Seconds from a connection's acceptance, through a proxy's header and TLS, to the end of "
        "its request's head. Cannot be switched off.",
    )
    auth_timeout_s: float = Field(
        default=10,
        gt=0,
        le=300,
        description='Seconds until a client must have shown its token, where mode = "token" in [auth]; it is '
        "closed a few seconds later at most. Cannot be switched off.",
    )
    idle_timeout_s: float = Field(
        default=300,
        ge=0,
        le=86_400,
        description="Seconds after which a session is closed that is subscribed to nothing and says nothing. "
        "0 switches the limit off.",
    )
    http_idle_timeout_s: float = Field(
        default=15,
        gt=0,
        le=60,
        description="Seconds after which an HTTP client is cut off that takes nothing of an answer which "
        "waits for it; a minute is the most for the whole answer. Cannot be switched off.",
    )
    send_queue_bytes: int = Field(
        default=65_536,
        ge=1024,
        le=1_073_741_824,
        description="Bytes that may wait for a client that reads too slowly before its session is closed. "
        "Prices do not pile up: the newest replaces the one that waits. Cannot be switched off.",
    )
    send_queue_total_bytes: int = Field(
        default=268_435_456,
        ge=65_536,
        le=1_099_511_627_776,
        description="Bytes that may wait for all slow clients together; over that, those for whom most waits are "
        "closed. Looked at every second. Cannot be switched off.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description='Addresses and networks of reverse proxies, as "127.0.0.1" and "10.20.0.0/16", whose '
        "word on the client's address is believed. Name no network that clients are in: they could say that "
        "they are others. Empty: nobody is believed.",
    )
    proxy_header: HeaderName = Field(
        default="x-forwarded-for",
        description='The header in which trusted proxies pass the client\'s address on; "none": in no header '
        "(with proxy_protocol). Name the one that they write, because the other comes from the client as it "
        "is.",
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(),
        description='Origins of web pages that may connect, or read and ask over HTTP, as "https://example.org" or '
        '"http://localhost:3000". Empty: only pages that this daemon served, and programs that send no '
        "Origin.",
    )


class Heartbeat(Section):
    """How either end notices that the line is dead."""

    ping_interval_s: float = Field(
        default=20,
        gt=0,
        le=3600,
        description="Seconds between two WebSocket pings to a client. Cannot be switched off.",
    )
    pong_timeout_s: float = Field(
        default=10,
        gt=0,
        le=3600,
        description="Seconds a client has to answer a ping before its session is closed. Cannot be switched "
        "off.",
    )
    silence_s: float = Field(
        default=5,
        gt=0,
        le=3600,
        description="After so many seconds without a message the client is sent a `heartbeat`; it may hold "
        "the line for dead after three times that. Cannot be switched off.",
    )


class AuthKey(Section):
    """One [auth.keys.ID] table for each. ID is what tokens call it, their `kid`: 1 to 64 letters, digits, _ and -."""

    algorithm: Literal["EdDSA", "ES256", "HS256"] = Field(
        description='How it signs: "EdDSA" (Ed25519) and "ES256" with a private key, of which this daemon needs '
        'the public part only; "HS256" with a secret that this daemon and the issuer share.'
    )
    file: str = Field(
        min_length=1,
        description="Path of the key, PEM, public or private; for HS256 of the secret, 32 bytes or more, as "
        "one line of text or raw. A relative path starts in the working directory.",
    )


class Auth(Section):
    """Who may connect."""

    mode: Literal["open", "token"] = Field(
        default="open",
        description='"open": everyone who reaches the port. "token": only who shows a token that one of the '
        "keys has signed.",
    )
    audience: str = Field(
        default="aurexd",
        min_length=1,
        max_length=256,
        description="For whom a token must be made: its `aud`. Cannot be switched off.",
    )
    leeway_s: float = Field(
        default=30,
        ge=0,
        le=300,
        description="Seconds by which the issuer's clock may differ from ours. 0: not at all.",
    )
    expiry_warning_s: float = Field(
        default=60,
        ge=0,
        le=86_400,
        description="So many seconds before its token expires a client is told, so that it can send a new one; "
        "a few seconds later at most. 0: it is not told.",
    )
    keys: dict[str, AuthKey] = Field(
        default={},
        description="The keys by which tokens are judged, by id; there may be several, to rotate them.",
    )


class Storage(Section):
    """Where ticks and prices are kept."""

    url: str = Field(
        default="sqlite:////var/lib/aurexd/aurexd.db",
        description="sqlite:/// and the file's path, so an absolute one makes four slashes; a relative one "
        "starts at the working directory. Empty switches storing off: no history, the stream goes on.",
    )
    flush_interval_s: float = Field(
        default=0.5,
        gt=0,
        le=60,
        description="Seconds between two commits: what a power cut or kill -9 may cost at most.",
    )
    retention_days: float = Field(
        default=30,
        ge=0,
        le=36_500,
        description="Days that ticks and prices are kept, by the time they were received. 0 keeps them for "
        "ever.",
    )
    candle_days_1s: float = Field(
        default=7,
        ge=0,
        le=36_500,
        description="Days that candles of a second are kept (about 8 MB a day where a price comes every second), "
        "counted back from the symbol's newest price, as for the other intervals. 0 keeps them for ever.",
    )
    candle_days_1m: float = Field(
        default=366, ge=0, le=36_500, description="The same for candles of a minute. 0 keeps them for ever."
    )
    candle_days_5m: float = Field(
        default=1830, ge=0, le=36_500, description="The same for candles of 5 minutes. 0 keeps them for ever."
    )
    candle_days_15m: float = Field(
        default=1830,
        ge=0,
        le=36_500,
        description="The same for candles of 15 minutes. 0 keeps them for ever.",
    )
    candle_days_1h: float = Field(
        default=0, ge=0, le=36_500, description="The same for candles of an hour. 0 keeps them for ever."
    )
    candle_days_4h: float = Field(
        default=0, ge=0, le=36_500, description="The same for candles of 4 hours. 0 keeps them for ever."
    )
    candle_days_1d: float = Field(
        default=0, ge=0, le=36_500, description="The same for candles of a day. 0 keeps them for ever."
    )
    fill_gaps_hours: float = Field(
        default=12,
        ge=0,
        le=168,
        description="How far back candles that are missing, because the daemon was down or cut off, are taken from a "
        "source's own history of minutes; they are marked as filled. kraken has one of 12 hours, yfinance of a week. 0 "
        "switches it off.",
    )
    backlog_ticks: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Ticks that wait in memory (about 1 KB each) while the database cannot be written; "
        "beyond that the oldest are dropped, counted and reported.",
    )

    @property
    def candle_days(self) -> dict[str, float]:
        """Interval → days that its candles are kept; 0: for ever."""
        return {interval: getattr(self, f"candle_days_{interval}") for interval in INTERVALS}

    @property
    def path(self) -> Path | None:
        """The database's file; None when storing is switched off."""
        return Path(self.url.removeprefix(SQLITE_PREFIX)) if self.url else None


class Alerts(Section):
    """Alert rules and alerts. They are kept in the database: without [storage] there are none."""

    max_rules_per_owner: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="Alert rules of one owner. A new one takes the place of the oldest that has fired as often as it "
        "may, or has expired. 0: nobody can make one.",
    )
    max_rules: int = Field(
        default=100_000,
        ge=0,
        le=10_000_000,
        description="Alert rules of all owners together (about 2 KB of memory each). 0: nobody can make one.",
    )
    history_days: Annotated[float, ReadOnce()] = Field(
        default=90,
        ge=0,
        le=36_500,
        description="Days that alerts are kept after they fired, acknowledged or not. 0 keeps them for ever.",
    )


class Control(Section):
    """The socket through which the running daemon is looked at and steered."""

    socket: str = Field(
        default="/run/aurexd-control/io.aurex.Control",
        description="Path of the Unix socket, for root, the daemon's user and its group; empty switches it off. A "
        "socket from systemd wins. Its directory must be there; without it the daemon runs on and says so.",
    )


class Log(Section):
    """What the daemon tells about itself, without tokens and passwords."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description='The least severe that is written. "error": a person must look; "warning": the daemon '
        'coped; "info": a life began or ended; "debug": each message. Cannot be switched off.',
    )
    format: Literal["auto", "console", "json", "journal"] = Field(
        default="auto",
        description='"console": for people. "json": one JSON document a line. "journal": to systemd\'s journal, with '
        'a field for each key. "auto": console on a terminal, journal where systemd says that the journal listens, '
        "else json.",
    )


class Symbol(Section):
    """One [symbols.NAME] table. NAME is yours to choose: 2 to 16 capital letters and digits, as XAUUSD."""

    instrument: Instrument = Field(
        description="What is quoted: spot, future, token (a coin backed by gold), fix (a benchmark price) "
        "or test. A source that quotes something else is refused: their prices differ by far more than "
        "their spread."
    )
    decimals: int = Field(
        default=2, ge=0, le=8, description="Digits after the point that prices are rounded to."
    )
    calendar: Literal["metals", "always"] = Field(
        default="metals",
        description='When the market is open: "metals" (Sunday 18:00 to Friday 17:00 in New York, with a break '
        'at 17:00 each day, and COMEX\'s holidays) or "always". Outside, its price is "closed" and nothing moves it.',
    )
    policy: Literal["priority", "consensus"] = Field(
        default="priority",
        description='How one price is made of several sources: "priority": the best fresh one\'s; "consensus": the '
        "median of all fresh ones, which no single one can move far, with how near to each other they are.",
    )
    max_jump_pct: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Percent that its price may jump within a second (within four seconds twice that, and so on) "
        "before it must be confirmed by staying there for two seconds, or by another source. Default: by instrument, "
        "spot and future 0.1, token 0.3, fix 1, test 0. 0 believes every price.",
    )
    default: bool = Field(
        default=False,
        description="Whether a client that asks for nothing gets this symbol. When no symbol says true, all "
        "are sent.",
    )


class Config(Section):
    """The whole configuration. Made by `load.load`, which also judges it as a whole."""

    realtime: Realtime = Realtime()
    listen: Listen = Listen()
    tls: Tls = Tls()
    limits: Limits = Limits()
    heartbeat: Heartbeat = Heartbeat()
    auth: Auth = Auth()
    storage: Storage = Storage()
    alerts: Alerts = Alerts()
    control: Control = Control()
    log: Log = Log()
    symbols: dict[str, Symbol] = {}
    """By name, in the file's order."""
    sources: tuple[SerializeAsAny[SourceSettings], ...] = ()
    """Each of its provider's own `Settings`, in the file's order."""

    @property
    def default_symbols(self) -> tuple[str, ...]:
        """What a client that asks for nothing is sent: the symbols that say so, or else all."""
        marked = tuple(name for name, symbol in self.symbols.items() if symbol.default)
        return marked or tuple(self.symbols)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The tokens and passwords in it, which nobody must ever read."""
        values = [
            getattr(source, key)
            for source in self.sources
            for key in type(source).model_fields
            if is_secret_name(key)
        ]
        return tuple(str(v.get_secret_value() if isinstance(v, SecretStr) else v) for v in values if v)


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
"""The tables of fixed keys: all but symbols and sources."""

"""What providers that push over WebSocket share: one connection, its deadlines, and its failures in words.

It knows no provider's messages. TCP and TLS are opened here rather than by trio-websocket, which hides why
TLS failed, waits for ever for some peers to hang up, and writes the URL, token included, to its debug log.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
import pydantic
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

import aurexd
from aurexd.errors import FeedError
from aurexd.redaction import Redactor
from aurexd.sources.base import Feed, client_tls
from aurexd.sources.plausible import excerpt, retry_after_s

CONNECT_TIMEOUT_S = 10.0  # TCP, TLS and upgrade together; websockets: 10
SEND_TIMEOUT_S = 5.0  # requests are under 1 KB: a socket that takes none for so long leads nowhere
CLOSE_TIMEOUT_S = 2.0  # a close frame there and back; whoever takes longer is hung up on
ANSWER_TIMEOUT_S = 10.0  # from a subscription to its acknowledgement, which takes one round trip
MAX_MESSAGE_BYTES = 65_536  # providers' messages are well under 1 KB each
MAX_GARBAGE_IN_A_ROW = 20  # an odd message is skipped; so many mean that we misunderstand each other
RATE_LIMITED_RETRY_S = 60.0  # after an HTTP 429 that names no time

_ABNORMAL = 1006  # RFC 6455 7.1.5: the connection ended without a close frame
_MISDIRECTED = frozenset(
    {301, 302, 307, 308, 400, 404, 405, 426}
)  # HTTP statuses that mean: not here, not so
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([2345]\d\d)\b")

M = TypeVar("M")


def _usable_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise ValueError("not a WebSocket URL: write it as wss://host/path")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("only printable ASCII may stand in a URL: percent-encode the rest")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password may stand in the URL")
    if parts.port == 0:
        raise ValueError("port 0 cannot be connected to")
    return url


WebSocketUrl = Annotated[str, pydantic.AfterValidator(_usable_url)]
"""A settings field: ws:// or wss://, free of credentials."""


class UpgradeRefusedError(FeedError):
    """The provider answered the WebSocket upgrade with an HTTP status of its own."""

    def __init__(self, message: str, *, status: int, body: bytes, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.status = status
        self.body = body


class Connection:
    """An open WebSocket to a provider. Made by `open_connection`, which also closes it."""

    def __init__(
        self,
        websocket: WebSocketConnection,
        feed: Feed,
        nursery: trio.Nursery,
        title: str,
        redactor: Redactor,
    ) -> None:
        self.nursery = nursery
        """For what runs beside the reading (heartbeats); a FeedError in it ends the connection."""
        self._websocket = websocket
        self._feed = feed
        self._title = title
        self._redactor = redactor
        self._garbage_in_a_row = 0

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one JSON message as a text frame.

        On a closed connection this does nothing: `receive` tells why it closed, after what was said before.

        Raises:
            FeedError: the provider takes nothing; half a frame may be sent, so the connection must end.

        """
        text = msgspec.json.encode(message).decode()
        try:
            with trio.fail_after(SEND_TIMEOUT_S):
                await self._websocket.send_message(text)
        except trio.TooSlowError:
            raise FeedError(f"{self._title} took no data for {SEND_TIMEOUT_S:g} s; we reconnect") from None
        except (ConnectionClosed, LocalProtocolError):
            pass

    async def receive(self, parse: Callable[[str | bytes], M]) -> M:
        """The next message that `parse` can read; one that raises ValueError in it is counted and skipped.

        Raises:
            FeedError: the connection ended, or brings nothing but garbage.

        """
        while True:
            try:
                raw = await self._websocket.get_message()
            except ConnectionClosed:
                self._fail_closed()
            self._feed.heard()
            try:
                message = parse(raw)
            except (ValueError, RecursionError) as error:  # the latter: brackets nested without end
                detail = f"{self._redactor.text(str(error))[:200]}: {self._sample(raw)}"
                self._feed.rejected("garbage", detail)
                self._garbage_in_a_row += 1
                if self._garbage_in_a_row >= MAX_GARBAGE_IN_A_ROW:
                    raise FeedError(
                        f"{self._title} sent {MAX_GARBAGE_IN_A_ROW} unreadable messages in a row; {detail}"
                    ) from error
            else:
                self._garbage_in_a_row = 0
                return message

    async def wait_answered(self, answered: trio.Event, request: str) -> None:
        """Wait for the provider's answer to `request`; to be run in `nursery`.

        Raises:
            FeedError: it did not answer in time.

        """
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            await answered.wait()
            return
        raise FeedError(f"{self._title} did not answer {request} within {ANSWER_TIMEOUT_S:g} s; we reconnect")

    def _sample(self, raw: str | bytes) -> str:
        text = raw[:1000] if isinstance(raw, str) else raw[:1000].decode("utf-8", "replace")
        return excerpt(self._redactor.text(text).encode("utf-8", "replace"))

    def _fail_closed(self) -> NoReturn:
        reason = self._websocket.closed
        if reason is None or reason.code == _ABNORMAL:
            raise FeedError(f"{self._title}: the connection broke off; we reconnect") from None
        why = self._redactor.text(f" ({reason.reason})") if reason.reason else ""
        raise FeedError(f"{self._title}: the connection was closed with code {reason.code}{why}") from None


@contextlib.asynccontextmanager
async def open_connection(
    title: str, url: str, feed: Feed, redactor: Redactor | None = None
) -> AsyncGenerator[Connection, None]:
    """Connect to `url` and upgrade; on leaving, close within `CLOSE_TIMEOUT_S`, whatever the provider does.

    `title` is the provider's name in messages; what it sent goes through `redactor` before it is quoted.

    Raises:
        FeedError: it cannot be reached, refuses us (`UpgradeRefusedError`), or the connection failed inside.
            Whatever else is raised inside comes out in a group.

    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    deadline = trio.current_time() + CONNECT_TIMEOUT_S
    stream = await _connect(title, host, port, deadline)
    failure: BaseException | None = None
    try:
        wire = await _secure(title, stream, host, deadline) if parts.scheme == "wss" else stream
        async with trio.open_nursery() as reading:
            reader = trio.CancelScope()
            websocket = await reading.start(
                functools.partial(_read, title, wire, parts, feed, deadline, reader)
            )
            reader.shield = True  # or a cancellation would end it before it has heard the answer to our close
            try:
                async with trio.open_nursery() as nursery:
                    yield Connection(websocket, feed, nursery, title, redactor or Redactor())
                    nursery.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                inside = _the_one(group, FeedError)
                if not isinstance(inside, FeedError):
                    raise
                failure = inside  # the reader may fail yet, while we close, but that is not why it ended
            finally:
                # After a close that the provider began this returns at once, and the reader would wait on.
                with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                    await websocket.aclose()
                reader.cancel()
    except BaseExceptionGroup as group:
        failure = failure or _the_one(group, FeedError)
    finally:
        await trio.aclose_forcefully(stream)
    if failure is not None:  # not in the handler: there it would get the group, and so itself, as its context
        raise failure


def _the_one(group: BaseExceptionGroup[BaseException], expected: type[Exception]) -> BaseException:
    """What a nursery's exceptions amount to: bugs (the group), else a cancellation, else the gravest."""
    leaves = list(_leaves(group))
    if not all(isinstance(leaf, (expected, trio.Cancelled)) for leaf in leaves):
        return group
    return max(leaves, key=_gravity)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _gravity(error: BaseException) -> tuple[bool, bool, float]:
    if isinstance(error, FeedError):
        return False, error.fatal, error.retry_after_s
    return isinstance(error, trio.Cancelled), False, 0.0


async def _connect(title: str, host: str, port: int, deadline: float) -> trio.SocketStream:
    try:
        with trio.fail_at(deadline):
            return await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        why = f"no answer within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        why = _reason(error)
    raise FeedError(
        f"{title}: {host}:{port} cannot be reached ({why}): check the network and this source's `url`"
    )


async def _secure(
    title: str, stream: trio.SocketStream, host: str, deadline: float
) -> trio.SSLStream[trio.SocketStream]:
    tls = trio.SSLStream(stream, client_tls(), server_hostname=host, https_compatible=True)
    try:
        with trio.fail_at(deadline):
            await tls.do_handshake()
    except trio.TooSlowError:
        raise FeedError(f"{title}: no TLS with {host} within {CONNECT_TIMEOUT_S:g} s; we try again") from None
    except trio.BrokenResourceError as error:
        raise FeedError(
            f"{title}: no TLS with {host} ({_reason(error)}): check this source's `url` and this machine's "
            "certificate authorities"
        ) from error
    return tls


async def _read(
    title: str,
    stream: trio.abc.Stream,
    url: SplitResult,
    feed: Feed,
    deadline: float,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[WebSocketConnection],
) -> None:
    """Upgrade, then run trio-websocket's reader in `scope`.

    All that fails in here is the provider's or the library's doing: a frame that is none, or a pong due while
    we close, which wsproto refuses to send.

    Raises:
        FeedError: in place of every exception.

    """
    wire = _Wire(stream)
    failure: BaseException | None = None
    try:
        with scope:
            async with trio.open_nursery() as nursery:
                with trio.fail_at(deadline), wire.upgrade:
                    websocket = await wrap_client_stream(
                        nursery,
                        wire,  # type: ignore[arg-type]  # any stream will do; the annotation is narrower than the doc
                        url.netloc,
                        (url.path or "/") + (f"?{url.query}" if url.query else ""),
                        extra_headers=[(b"User-Agent", f"aurexd/{aurexd.__version__}".encode())],
                        max_message_size=MAX_MESSAGE_BYTES,
                    )
                if wire.upgrade.cancelled_caught:
                    raise _hung_up(title, wire.head)
                task_status.started(websocket)
    except BaseExceptionGroup as group:
        failure = _the_one(group, Exception)
    if isinstance(failure, Exception) and not isinstance(failure, FeedError):
        failure = _as_feed_error(title, failure, feed)
    if failure is not None:
        raise failure


class _Wire(trio.abc.Stream):
    """The stream under trio-websocket; ends the upgrade when the peer hangs up: the library waits on."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.upgrade = trio.CancelScope()
        self.head = b""
        """How the answer to the upgrade began."""
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self.upgrade.cancel()
            raise
        if not data:
            self.upgrade.cancel()
        self.head = self.head or bytes(data[:64])
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


def _hung_up(title: str, head: bytes) -> FeedError:
    status = _STATUS_LINE.match(head)
    if status is not None:  # a refusal whose body is as long as the connection: the library misses its end
        return _refused(title, int(status[1]), b"", 0.0)
    return FeedError(f"{title} hung up during the WebSocket upgrade; we try again")


def _as_feed_error(title: str, error: Exception, feed: Feed) -> FeedError:
    match error:
        case trio.TooSlowError():
            return FeedError(f"{title} did not finish the WebSocket upgrade within {CONNECT_TIMEOUT_S:g} s")
        case ConnectionRejected():
            wish = dict(error.headers).get(b"retry-after", b"").decode("ascii", "replace")
            wait_s = retry_after_s(wish, feed.clock.now())
            return _refused(title, error.status_code, bytes(error.body or b""), wait_s)
        case _:
            return FeedError(f"{title} does not speak WebSocket as it should ({error!r}); we reconnect")


def _refused(title: str, status: int, body: bytes, wait_s: float) -> UpgradeRefusedError:
    if status == 429 and not wait_s:
        wait_s = RATE_LIMITED_RETRY_S
    advice = "check this source's `url`" if status in _MISDIRECTED else "we try again"
    return UpgradeRefusedError(
        f"{title} refuses the WebSocket upgrade (HTTP {status}): {advice}",
        status=status,
        body=body,
        retry_after_s=wait_s,
    )


def _reason(error: BaseException) -> str:
    """The innermost text: trio wraps the error that tells something in ones that do not, or in a group."""
    while True:
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
        if inner is None:
            return str(error) or type(error).__name__
        error = inner

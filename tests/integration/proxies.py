"""nginx and HAProxy from the distribution, with the configurations that docs/operations.md shows, on free ports."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
import trustme
from trio_websocket import WebSocketConnection, wrap_client_stream

from tests.integration.process import START_S, STREAM

OPERATIONS_MD = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def block(kind: str, name: str) -> str:
    """A fenced block of the document, by the comment it begins with."""
    found = re.search(rf"^```{kind}\n# {name}\n(.*?)^```$", OPERATIONS_MD, re.MULTILINE | re.DOTALL)
    assert found, f"docs/operations.md has no {kind} block {name}"
    return found[1]


class Certificate:
    """One for gold.example.org, as files where the examples look for them, and a client that trusts it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("gold.example.org")
        issued.private_key_pem.write_to_path(str(folder / "privkey.pem"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "fullchain.pem"))
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "haproxy.pem"))
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@contextmanager
def nginx(folder: Path, name: str, port: int, upstream: int) -> Iterator[None]:
    """Run nginx with a block of the document; `port` stands for its 443, `upstream` for the daemon's."""
    text = _fitted(block("nginx", name), folder, port, upstream)
    file, module = folder / "nginx.conf", ""
    if name == "nginx-stream":
        module = f"load_module {STREAM_MODULE};\n"
    else:
        paths = "".join(
            f"{kind}_temp_path {folder};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = f"http {{\naccess_log off;\n{paths}{text}\n}}"
    file.write_text(
        f"{module}daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n"
        f"events {{}}\n{text}\n"
    )
    with _running([_command("nginx"), "-c", str(file), "-e", str(folder / "nginx.log")], folder, port):
        yield


@contextmanager
def haproxy(folder: Path, name: str, port: int, upstream: int) -> Iterator[None]:
    """The same with HAProxy."""
    file = folder / "haproxy.cfg"
    file.write_text(_fitted(block("haproxy", name), folder, port, upstream))
    with _running([_command("haproxy"), "-db", "-f", str(file)], folder, port):
        yield


def _fitted(text: str, folder: Path, port: int, upstream: int) -> str:
    fitted = re.sub(r"\b(listen |bind :)443\b", rf"\g<1>{port}", text)
    fitted = re.sub(r"127\.0\.0\.1:8\d{3}\b", f"127.0.0.1:{upstream}", fitted)
    return fitted.replace("/etc/aurexd/", f"{folder}/")


def _command(name: str) -> str:
    """Debian's path for servers is not everybody's."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed: as root, `make servers`"
    return found


@contextmanager
def _running(command: Sequence[str], folder: Path, port: int) -> Iterator[None]:
    log = folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_S
        while True:
            assert process.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@asynccontextmanager
async def connected(port: int, tls: ssl.SSLContext, address: str) -> AsyncIterator[trio.abc.Stream]:
    """A connection to the proxy from one of this machine's many loopback addresses."""
    sock = trio.socket.socket()
    try:
        await sock.bind((address, 0))
        await sock.connect(("127.0.0.1", port))
        yield trio.SSLStream(trio.SocketStream(sock), tls, server_hostname="gold.example.org")
    finally:
        sock.close()


async def open_session(
    nursery: trio.Nursery, port: int, tls: ssl.SSLContext, address: str, *headers: tuple[bytes, bytes]
) -> WebSocketConnection:
    """A client of the stream, from that address; with headers of its own. It lives as long as the nursery."""

    async def live(*, task_status: trio.TaskStatus[WebSocketConnection]) -> None:
        host = f"gold.example.org:{port}"
        origin = (b"Origin", f"https://{host}".encode())
        async with connected(port, tls, address) as stream, trio.open_nursery() as reading:
            session = await wrap_client_stream(
                reading,
                stream,  # type: ignore[arg-type]  # any stream will do; the annotation is narrower than the doc
                host,
                STREAM,
                extra_headers=[origin, *headers],
            )
            task_status.started(session)
            await trio.sleep_forever()

    with trio.fail_after(START_S):
        session: WebSocketConnection = await nursery.start(live)
    return session

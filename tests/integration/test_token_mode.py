"""A daemon that asks for tokens, as a process, with the keys and the tokens of its own command."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed

from aurexd.cli import main
from tests.integration.process import Running, open_stream
from tests.integration.test_daemon import TESTGOLD, read, read_on

pytestmark = pytest.mark.slow


def aurexd(*arguments: str) -> str:
    """What the command prints; that it is one is tests/test_cli_token.py's to say."""
    with redirect_stdout(StringIO()) as printed, pytest.raises(SystemExit) as ended:
        main(["token", *arguments])
    assert ended.value.code == 0
    return printed.getvalue()


@pytest.mark.parametrize("algorithm", ["EdDSA", "HS256"])
def test_a_daemon_asks_for_the_tokens_that_its_command_makes_and_writes_none_of_them_down(
    tmp_path: Path, algorithm: str
) -> None:
    key = aurexd("key", "--algorithm", algorithm, "--id", "k1", "--file", str(tmp_path / "k1.key"))
    with Running(tmp_path, f'{TESTGOLD}[auth]\nmode = "token"\n{key}[log]\nlevel = "debug"\n') as daemon:
        config = str(tmp_path / "aurexd.toml")
        token = aurexd("mint", "--config", config, "--user", "alice", "--for", "5m").strip()
        forged = token[:-20] + token[:20]
        url = f"http://127.0.0.1:{daemon.port}/api/v1/sources"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {forged}"}).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert daemon.get("/readyz")["ready"] is True

        async def converse(text: str) -> list[dict[str, Any]]:
            async with open_stream(daemon.port, subprotocol="aurex.v1.json", token=text) as stream:
                assert stream.subprotocol == "aurex.v1.json"
                first = json.loads(await stream.get_message())
                if first["type"] == "error":
                    return [first]
                (who,) = await read(stream, 1, kind="authenticated")
                await stream.send_message('{"type": "subscribe", "data": {"channels": ["price:TESTGOLD"]}}')
                return [who, *await read(stream, 3)]

        who, *prices = trio.run(converse, token)
        assert who["data"]["user"] == "alice"
        assert len(prices) == 3
        (error,) = trio.run(converse, forged)
        assert error["data"]["code"] == "bad_token"
        assert daemon.stop() == 0
    written = daemon.log_file.read_text()
    assert "session_refused" in written
    for secret in (token, forged, token.rpartition(".")[2], forged.rpartition(".")[2]):
        assert secret not in written


def test_keys_are_rotated_and_withdrawn_while_it_runs(tmp_path: Path) -> None:
    old, new = [
        aurexd("key", "--algorithm", "EdDSA", "--id", f"k{n}", "--file", f"{tmp_path}/k{n}") for n in (1, 2)
    ]
    asked = f'{TESTGOLD}[auth]\nmode = "token"\n'

    def mint(key_id: str) -> str:
        return aurexd(
            "mint", "--config", str(tmp_path / "aurexd.toml"), "--user", "alice", "--key", key_id
        ).strip()

    async def reload(text: str) -> None:
        await trio.to_thread.run_sync(daemon.reload, text)

    async def rotate() -> None:
        first = mint("k1")
        async with open_stream(daemon.port, token=first) as stream:
            await read(stream, 1)
            await reload(asked + old + new)
            second = mint("k2")
            async with open_stream(daemon.port, token=second) as fresh:
                await read(fresh, 1)
                await read(stream, 3)
                await reload(asked + new)
                with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
                    await read_on(stream, [])
                assert closed.value.reason is not None
                assert closed.value.reason.code == 4006
                await read(fresh, 3)
                # Whether tokens are asked for is no matter of a reload, and neither are its keys then.
                await reload(TESTGOLD)
                await read(fresh, 100)
        async with open_stream(daemon.port, token=second) as again:
            await read(again, 1)

    with Running(tmp_path, asked + old) as daemon:
        trio.run(rotate)
        assert [event["setting"] for event in daemon.events("restart_needed")] == ["auth.mode", "auth.keys"]
        daemon.reload(asked + new.replace(f"{tmp_path}/k2", f"{tmp_path}/nowhere"))
        (refused,) = daemon.events("config_refused")
        assert "auth.keys.k2.file" in refused["problem"]
        assert httpx.get(f"http://127.0.0.1:{daemon.port}/api/v1/sources").status_code == 401
        assert daemon.stop() == 0

"""`aurexd token`: keys and tokens that work, made by somebody at a terminal; and what is said where they do not."""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from aurexd import cli
from aurexd.cli_token import MAX_INPUT
from aurexd.clock import SystemClock
from aurexd.config import load
from aurexd.config.keys import keyring
from aurexd.identity import Scope
from aurexd.market import SECOND_US
from aurexd.tokens import Algorithm
from tests.logging_state import restored_logging

SYMBOLS = '[symbols.TESTGOLD]\ninstrument = "test"\n[auth]\nmode = "token"\n'


@pytest.fixture(autouse=True)
def _no_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith("AUREXD_"):
            monkeypatch.delenv(name)
    with restored_logging():
        yield


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["token", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


class Desk:
    """A directory with a configuration, and what the command says."""

    def __init__(
        self, directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.directory = directory
        self.config = directory / "aurexd.toml"
        self.config.write_text(SYMBOLS)
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.said = ""

    def token(self, *arguments: str, typed: str = "") -> tuple[int, str]:
        """The exit status, and standard output; standard error is in `said`."""
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        status = run(*arguments)
        output, self.said = self._capsys.readouterr()
        return status, output

    def mint(self, *arguments: str) -> str:
        status, output = self.token("mint", "--config", str(self.config), *arguments)
        assert (status, self.said) == (0, "")
        assert output.endswith("\n")
        return output.strip()

    def inspect(self, text: str, *arguments: str) -> tuple[int, dict[str, str]]:
        status, output = self.token("inspect", "--config", str(self.config), *arguments, typed=text)
        lines = [re.split(r" {2,}", line, maxsplit=1) for line in output.splitlines()]
        return status, dict(lines)

    def key(self, algorithm: str = "EdDSA", key_id: str = "k1") -> Path:
        """Make a key and write what is printed into the configuration."""
        file = self.directory / f"{key_id}.key"
        status, output = self.token("key", "--algorithm", algorithm, "--id", key_id, "--file", str(file))
        assert (status, self.said) == (0, "")
        with self.config.open("a") as opened:
            opened.write(output)
        return file


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, capsys, monkeypatch)


# --- keys ---


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_new_key_is_its_owners_alone_and_what_is_printed_configures_it(desk: Desk, algorithm: str) -> None:
    file = desk.key(algorithm)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    config = load(desk.config, {})
    assert config.auth.keys["k1"].algorithm == algorithm
    keyring(config)


def test_a_key_is_never_overwritten(desk: Desk) -> None:
    file = desk.key()
    before = file.read_bytes()
    assert desk.token("key", "--algorithm", "EdDSA", "--id", "k1", "--file", str(file)) == (64, "")
    assert "is there, and a key is never overwritten" in desk.said
    assert file.read_bytes() == before


def test_where_no_file_can_be_made_it_says_why(desk: Desk) -> None:
    assert desk.token("key", "--algorithm", "ES256", "--id", "k", "--file", f"{desk.directory}/no/k") == (
        64,
        "",
    )
    assert "No such file or directory" in desk.said


# --- tokens ---


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_token_is_printed_alone_and_valid_here(desk: Desk, algorithm: str) -> None:
    desk.key(algorithm)
    text = desk.mint("--user", "alice", "--scope", "read,alerts", "--for", "10m")
    now = SystemClock().now()
    identity = keyring(load(desk.config, {})).verify(text, now)
    assert (identity.user, set(identity.scopes)) == ("alice", {Scope.READ, Scope.ALERTS})
    assert identity.expires is not None
    assert abs(identity.expires - now - 600 * SECOND_US) <= 5 * SECOND_US


@pytest.mark.parametrize(
    ("given", "scopes"),
    [
        ((), "read"),
        (("--scope", "admin"), "admin"),
        (("--scope", "read alerts, admin,read"), "read alerts admin"),
    ],
)
def test_scopes_may_be_listed_either_way(desk: Desk, given: tuple[str, ...], scopes: str) -> None:
    desk.key()
    assert desk.inspect(desk.mint("--user", "a", *given))[1]["scopes"] == scopes


@pytest.mark.parametrize(("given", "shown"), [("90s", "8. s"), ("30m", "29 m"), ("3h", "2 h"), ("7d", "6 d")])
def test_how_long_it_holds_is_said_in_one_word(desk: Desk, given: str, shown: str) -> None:
    desk.key()
    expires = desk.inspect(desk.mint("--user", "a", "--for", given))[1]["expires"]
    assert re.fullmatch(rf".*Z \(in {shown}\)", expires)


def test_of_several_keys_one_is_named(desk: Desk) -> None:
    desk.key("EdDSA", "k1")
    desk.key("HS256", "k2")
    assert desk.inspect(desk.mint("--user", "a", "--key", "k2"))[1]["key"] == "k2"
    assert desk.token("mint", "--config", str(desk.config), "--user", "a") == (64, "")
    assert "--key: say which is to sign: k1, k2" in desk.said
    assert desk.token("mint", "--config", str(desk.config), "--user", "a", "--key", "k") == (64, "")
    assert "there is no key k" in desk.said


def test_without_a_key_that_can_sign_it_says_so(desk: Desk) -> None:
    desk.config.write_text(SYMBOLS.replace("token", "open"))
    assert desk.token("mint", "--config", str(desk.config), "--user", "a") == (78, "")
    assert "auth.keys: there is none — make one" in desk.said
    desk.config.write_text(SYMBOLS)
    private = desk.key()
    public = desk.directory / "public.pem"
    key = load_pem_private_key(private.read_bytes(), None).public_key()
    public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    desk.config.write_text(desk.config.read_text().replace(str(private), str(public)))
    assert desk.token("mint", "--config", str(desk.config), "--user", "a") == (78, "")
    assert "cannot sign" in desk.said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("mint",), "--user"),
        (("mint", "--user", ""), "characters that can be printed"),
        (("mint", "--user", "a\nb"), "characters that can be printed"),
        (("mint", "--user", "a", "--scope", "reed"), "there is no scope 'reed'; did you mean read?"),
        (("mint", "--user", "a", "--scope", ""), "there is no scope ''"),
        (("mint", "--user", "a", "--for", "1y"), "expected a time such as 30m, 1h or 7d"),
        (("mint", "--user", "a", "--for", "0s"), "expected a time"),
        (("mint", "--user", "a", "--for", "-1h"), "expected"),
        (("key", "--algorithm", "RS256", "--id", "k", "--file", "f"), "RS256"),
        (("key", "--algorithm", "EdDSA", "--id", "k 1", "--file", "f"), "letters, digits, _ and -"),
        (("inspect", "--config", "x", "/nonexistent/file"), ""),
    ],
)
def test_a_wrong_command_line_is_status_64(desk: Desk, arguments: tuple[str, ...], says: str) -> None:
    status, output = desk.token(*arguments)
    assert output == ""
    assert status == (64 if says else 78)
    assert says in desk.said


# --- inspecting ---


def test_a_token_is_told_who_it_is_what_it_may_do_until_when_and_that_it_is_valid(desk: Desk) -> None:
    desk.key()
    status, said = desk.inspect(desk.mint("--user", "alice", "--scope", "read,admin") + "\n")
    assert status == 0
    assert list(said) == ["user", "scopes", "audience", "key", "algorithm", "issued", "expires", "valid here"]
    assert (said["user"], said["scopes"], said["audience"]) == ("alice", "read admin", "aurexd")
    assert (said["key"], said["algorithm"], said["valid here"]) == ("k1", "EdDSA", "yes")


def test_a_token_may_be_in_a_file(desk: Desk) -> None:
    desk.key()
    (desk.directory / "token").write_text(desk.mint("--user", "alice"))
    assert desk.inspect("", str(desk.directory / "token"))[0] == 0
    status, _ = desk.token("inspect", "--config", str(desk.config), str(desk.directory / "nope"))
    assert status == 64
    assert "No such file or directory" in desk.said


def test_one_that_is_not_valid_is_told_all_the_same_and_why_it_is_not(desk: Desk) -> None:
    desk.key()
    text = desk.mint("--user", "alice")
    status, said = desk.inspect(text[:-1] + ("A" if text[-1] != "A" else "Q"))
    assert status == 65
    assert said["user"] == "alice"
    assert said["valid here"].startswith("no: ")
    desk.config.write_text(SYMBOLS)
    desk.key(key_id="k2")
    status, said = desk.inspect(text)
    assert (status, said["valid here"]) == (65, "no: it names a key that is not known here, k1")


@pytest.mark.parametrize("text", ["", "nonsense", "a.b.c", "\udcff\udcfe", "x" * 2 * MAX_INPUT])
def test_what_is_no_token_is_status_65(desk: Desk, text: str) -> None:
    desk.key()
    (desk.directory / "t").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert desk.token("inspect", "--config", str(desk.config), str(desk.directory / "t")) == (65, "")
    assert desk.said == "aurexd: it cannot be read as a signed token\n"


def test_a_token_cannot_steer_the_terminal(desk: Desk) -> None:
    desk.key("HS256")
    header = "eyJhbGciOiJIUzI1NiIsImtpZCI6Ilx1MDAxYlszMW0ifQ"  # kid: ESC [ 31 m
    claims = "eyJzdWIiOiJcdTAwMWJbMkpcbmEiLCJleHAiOjFlOTk5LCJpYXQiOnRydWUsIm5iZiI6Ing6eSJ9"  # sub: ESC [ 2 J
    status, output = desk.token("inspect", "--config", str(desk.config), typed=f"{header}.{claims}.AA")
    assert status == 65
    assert "\x1b" not in output + desk.said


def test_it_works_as_a_command_in_a_pipe(desk: Desk) -> None:
    desk.key()
    aurexd = [sys.executable, "-m", "aurexd", "token"]
    config = ["--config", str(desk.config)]
    minted = subprocess.run([*aurexd, "mint", *config, "--user", "a"], check=True, capture_output=True)
    inspected = subprocess.run(
        [*aurexd, "inspect", *config], input=minted.stdout, check=True, capture_output=True
    )
    assert b"valid here  yes" in inspected.stdout

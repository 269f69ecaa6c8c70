"""What the tables must know of each other and of the machine's files."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from aurexd.config import Config, load
from aurexd.config.check import is_loopback, notes
from aurexd.config.keys import authority_of, keyring, read_keys
from aurexd.errors import ConfigError, IdentityError
from aurexd.market import EpochUs
from aurexd.tokens import Algorithm, generate_key, mint

SYMBOLS = """
[symbols.XAUUSD]
instrument = "spot"
[symbols.GC]
instrument = "future"
[symbols.TESTGOLD]
instrument = "test"
"""


def read(tmp_path: Path, text: str, **environ: str) -> Config:
    file = tmp_path / "aurexd.toml"
    file.write_text(text)
    return load(file, environ)


def complaints(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, **environ)
    return [str(problem) for problem in caught.value.problems]


def source(name: str, kind: str, symbols: str, more: str = "") -> str:
    return f'[[sources]]\nname = "{name}"\ntype = "{kind}"\nsymbols = {{ {symbols} }}\n{more}\n'


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    made = trustme.CA().issue_cert("localhost")
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    made.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback_addresses_need_no_certificate(tmp_path: Path, address: str) -> None:
    assert is_loopback(address)
    assert read(tmp_path, f'{SYMBOLS}[listen]\naddress = "{address}"').listen.address == address


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_any_other_address_needs_a_certificate(
    tmp_path: Path, certificate: tuple[str, str], address: str
) -> None:
    listen = f'{SYMBOLS}[listen]\naddress = "{address}"\n'
    [complaint] = complaints(tmp_path, listen)
    assert complaint.startswith("listen.address:")
    assert "[tls]" in complaint
    read(tmp_path, f'{listen}[tls]\ncertificate = "{certificate[0]}"\nprivate_key = "{certificate[1]}"')


def test_a_host_name_is_no_address(tmp_path: Path) -> None:
    [complaint] = complaints(tmp_path, SYMBOLS + '[listen]\naddress = "example.org"')
    assert "expected an IP address or localhost" in complaint


@pytest.mark.parametrize(
    ("given", "missing"), [("certificate", "private_key"), ("private_key", "certificate")]
)
def test_a_certificate_needs_its_key_and_the_other_way_round(
    tmp_path: Path, certificate: tuple[str, str], given: str, missing: str
) -> None:
    [complaint] = complaints(tmp_path, f'{SYMBOLS}[tls]\n{given} = "{certificate[0]}"')
    assert complaint == f"tls.{missing}: is empty, while {given} is given — give both, or neither"


def test_each_unreadable_tls_file_is_named(tmp_path: Path) -> None:
    found = complaints(tmp_path, f'{SYMBOLS}[tls]\ncertificate = "{tmp_path}/no"\nprivate_key = "{tmp_path}"')
    assert "tls.certificate" in found[0]
    assert "No such file" in found[0]
    assert "tls.private_key" in found[1]


def test_a_key_that_is_not_the_certificate_s_is_found_early(
    tmp_path: Path, certificate: tuple[str, str]
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(other))
    [complaint] = complaints(
        tmp_path, f'{SYMBOLS}[tls]\ncertificate = "{certificate[0]}"\nprivate_key = "{other}"'
    )
    assert complaint.startswith("tls: certificate and private_key cannot be used together")


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_one(
    tmp_path: Path, certificate: tuple[str, str]
) -> None:
    key = load_pem_private_key(Path(certificate[1]).read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    text = f'{SYMBOLS}[tls]\ncertificate = "{certificate[0]}"\nprivate_key = "{locked}"'
    [complaint] = complaints(tmp_path, text)
    assert complaint.startswith("tls: certificate and private_key cannot be used together")


def test_under_systemd_a_relative_secret_is_a_credential(
    tmp_path: Path, certificate: tuple[str, str]
) -> None:
    (tmp_path / "alltick").write_text("token")
    text = SYMBOLS + source("alltick", "alltick", 'XAUUSD = "GOLD"', 'token_file = "alltick"')
    config = read(
        tmp_path,
        text + '[tls]\ncertificate = "cert.pem"\nprivate_key = "key.pem"',
        CREDENTIALS_DIRECTORY=str(tmp_path),
    )
    assert (config.tls.certificate, config.tls.private_key) == certificate
    assert config.sources[0].token_file == tmp_path / "alltick"  # type: ignore[attr-defined]


def test_a_secret_s_file_that_is_not_there_is_a_problem_and_the_only_one(tmp_path: Path) -> None:
    text = SYMBOLS + source("alltick", "alltick", 'XAUUSD = "GOLD"', f'token_file = "{tmp_path}/no"')
    assert complaints(tmp_path, text) == [
        f"sources.alltick.token_file: {tmp_path}/no: No such file or directory — write the token there, "
        "readable for the daemon's user"
    ]


def test_there_must_be_a_symbol(tmp_path: Path) -> None:
    assert complaints(tmp_path, "") == ["symbols: there is no symbol — write at least one [symbols.NAME]"]


@pytest.mark.parametrize("name", ["xauusd", "X", "XAU-USD", '"XAU/USD"', "A2345678901234567", "1X"])
def test_a_symbol_s_name_is_capitals_and_digits(tmp_path: Path, name: str) -> None:
    [complaint] = complaints(tmp_path, f'[symbols.{name}]\ninstrument = "spot"')
    assert "2 to 16 capital letters and digits" in complaint


def test_a_source_s_symbols_must_exist(tmp_path: Path) -> None:
    text = SYMBOLS + source("swissquote", "swissquote", 'XAUSD = "XAU/USD", SILVER = "XAG/USD"')
    assert complaints(tmp_path, text) == [
        "sources.swissquote.symbols.XAUSD: there is no symbol XAUSD — did you mean XAUUSD?",
        "sources.swissquote.symbols.SILVER: there is no symbol SILVER — there are XAUUSD, GC, TESTGOLD",
    ]


@pytest.mark.parametrize("kind", ["yfinance", "yahoo-stream"])
def test_a_future_never_stands_under_a_spot_symbol(tmp_path: Path, kind: str) -> None:
    text = SYMBOLS + source("yahoo", kind, 'XAUUSD = "GC=F"')
    assert complaints(tmp_path, text) == [
        "sources.yahoo.symbols.XAUUSD: GC=F is a future, XAUUSD is a spot price — put it under a symbol with "
        'instrument = "future"'
    ]
    read(tmp_path, SYMBOLS + source("yahoo", kind, 'GC = "GC=F"'))


def test_real_prices_never_stand_under_a_test_symbol(tmp_path: Path) -> None:
    [complaint] = complaints(tmp_path, SYMBOLS + source("sq", "swissquote", 'TESTGOLD = "XAU/USD"'))
    assert "XAU/USD is a spot price, TESTGOLD is a test price" in complaint


def test_simulated_data_may_stand_for_anything_but_is_noted(tmp_path: Path) -> None:
    text = SYMBOLS + source("sim", "simulated", 'XAUUSD = "x", TESTGOLD = "y"')
    found = {note.path: note.message for note in notes(read(tmp_path, text))}
    assert found == {
        "symbols.XAUUSD": "sim will carry its price with simulated data",
        "symbols.GC": "no source delivers it: it will never have a price",
    }
    mixed = text + source("sq", "swissquote", 'XAUUSD = "XAU/USD"')
    assert notes(read(tmp_path, mixed))[0].message.endswith("when the real sources fail")


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:password@h/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:////var/",
        "/var/x.db",
    ],
)
def test_a_storage_url_must_name_a_file(tmp_path: Path, url: str) -> None:
    [complaint] = complaints(tmp_path, f'{SYMBOLS}[storage]\nurl = "{url}"')
    assert complaint.startswith("storage.url: expected sqlite:/// and the path of a file")
    assert "password" not in complaint


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://localhost:3000", "http://[::1]:80", "http://10.0.0.1"]
)
def test_an_origin_is_written_as_browsers_send_it(tmp_path: Path, origin: str) -> None:
    text = f'{SYMBOLS}[limits]\nallowed_origins = ["{origin}"]'
    assert read(tmp_path, text).limits.allowed_origins == (origin,)


@pytest.mark.parametrize(
    ("origin", "hint"),
    [
        ("https://Example.org/", 'write "https://example.org"'),
        ("example.org", "write scheme and host"),
        ("https://example.org/app", "write scheme and host"),
        ("*", "write scheme and host"),
    ],
)
def test_what_no_browser_sends_is_no_origin(tmp_path: Path, origin: str, hint: str) -> None:
    [complaint] = complaints(tmp_path, f'{SYMBOLS}[limits]\nallowed_origins = ["http://a.org", "{origin}"]')
    assert complaint.startswith("limits.allowed_origins[1]:")
    assert hint in complaint


def test_proxies_are_addresses_and_networks(tmp_path: Path) -> None:
    text = f'{SYMBOLS}[limits]\ntrusted_proxies = ["127.0.0.1", "10.20.0.0/16", "fd00::/8"]'
    assert len(read(tmp_path, text).limits.trusted_proxies) == 3


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("10.20.1.0/16", 'has host bits set) — write "10.20.0.0/16"'),
        ("proxy.example", 'write an address as "127.0.0.1" or a network as "10.20.0.0/16"'),
        ("0.0.0.0/0", "is everybody: each client could say that it is another"),
        ("::/0", "is everybody: each client could say that it is another"),
        ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ("", "does not appear to be"),
    ],
)
def test_a_proxy_that_is_none_is_said_with_what_to_write(tmp_path: Path, entry: str, complaint: str) -> None:
    text = f'{SYMBOLS}[limits]\ntrusted_proxies = ["127.0.0.1", "{entry}"]'
    [said] = complaints(tmp_path, text)
    assert said.startswith("limits.trusted_proxies[1]: expected an address or a network (")
    assert complaint in said


def test_the_proxy_protocol_needs_somebody_who_may_speak_it(tmp_path: Path) -> None:
    text = f"{SYMBOLS}[listen]\nproxy_protocol = true\n"
    [said] = complaints(tmp_path, text)
    assert said.startswith("listen.proxy_protocol: nobody may send such a header")
    read(tmp_path, f'{text}[limits]\ntrusted_proxies = ["127.0.0.1"]')


def test_hosts_are_names_without_a_port(tmp_path: Path) -> None:
    text = f'{SYMBOLS}[listen]\nallowed_hosts = ["gold.example", "*.aurex.example", "*"]'
    assert len(read(tmp_path, text).listen.allowed_hosts) == 3


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Gold.Example.", 'write "gold.example"'),
        ("gold.example:8443", 'write "gold.example"'),
        ("https://gold.example/", 'write "gold.example"'),
        ("g\u00f6ld.example", 'write it as "gold.example.org"'),
        ("", 'write it as "gold.example.org"'),
    ],
)
def test_a_host_that_is_no_name_is_said_with_what_to_write(tmp_path: Path, name: str, hint: str) -> None:
    [said] = complaints(tmp_path, f'{SYMBOLS}[listen]\nallowed_hosts = ["{name}"]')
    assert said.startswith("listen.allowed_hosts[0]: expected a host's name, got ")
    assert hint in said


# --- tokens ---


def key_file(tmp_path: Path, algorithm: Algorithm, mode: int = 0o600) -> str:
    path = tmp_path / f"{algorithm}.key"
    path.write_bytes(generate_key(algorithm))
    path.chmod(mode)
    return str(path)


def auth(*keys: tuple[str, str, str], mode: str = "token") -> str:
    tables = [
        f'[auth.keys.{key_id}]\nalgorithm = "{algorithm}"\nfile = "{file}"'
        for key_id, algorithm, file in keys
    ]
    return "\n".join([SYMBOLS, f'[auth]\nmode = "{mode}"', *tables])


def test_keys_are_read_by_id(tmp_path: Path) -> None:
    files = {algorithm: key_file(tmp_path, algorithm) for algorithm in Algorithm}
    config = read(tmp_path, auth(*((f"k-{a}", a, file) for a, file in files.items())))
    assert {key_id: (key.algorithm, key.file) for key_id, key in config.auth.keys.items()} == {
        f"k-{algorithm}": (algorithm, file) for algorithm, file in files.items()
    }
    assert notes(config)[0].path.startswith("symbols.")
    keyring(config)


def test_a_key_may_be_added_and_replaced_in_conf_d(tmp_path: Path) -> None:
    old, new = key_file(tmp_path, Algorithm.EDDSA), key_file(tmp_path, Algorithm.ES256)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "new.toml").write_text(f'[auth.keys.new]\nalgorithm = "ES256"\nfile = "{new}"')
    assert list(read(tmp_path, auth(("old", "EdDSA", old))).auth.keys) == ["old", "new"]


def test_where_tokens_are_asked_for_there_must_be_a_key(tmp_path: Path) -> None:
    assert complaints(tmp_path, auth()) == [
        "auth.keys: there is no key, so no token could ever be valid — make one: aurexd token key --algorithm "
        "EdDSA --id ID --file FILE"
    ]
    read(tmp_path, auth(mode="open"))


def test_all_that_is_wrong_with_keys_is_told_at_once(tmp_path: Path) -> None:
    secret, private = key_file(tmp_path, Algorithm.HS256), key_file(tmp_path, Algorithm.EDDSA)
    (tmp_path / "short").write_text("short\n")
    text = auth(
        ("missing", "EdDSA", f"{tmp_path}/no"),
        ("confused", "HS256", private),
        ("other", "ES256", private),
        ("short", "HS256", f"{tmp_path}/short"),
        ("good", "HS256", secret),
        ("lower", "eddsa", private),
    )
    text += '\n[auth.keys."a b"]\n[auth.keys.bare]\n[auth.keys.more]\nalgorithm = "HS256"\nfle = 5'
    found = complaints(tmp_path, text)
    for place, words in [
        ("auth.keys.missing.file", "No such file or directory — it must be readable for the daemon's user"),
        ("auth.keys.confused.file", "is a key in PEM, and HS256 takes a secret"),
        ("auth.keys.other.file", "is no ES256 key in PEM"),
        ("auth.keys.short.file", "is a secret of 5 bytes, and HS256 takes 32 or more"),
        ("auth.keys.lower.algorithm", "did you mean EdDSA?"),
        ("auth.keys.a b", "a key's id is 1 to 64 letters, digits, _ and -"),
        ("auth.keys.bare.algorithm", 'is missing: one of "EdDSA", "ES256", "HS256"'),
        ("auth.keys.bare.file", "is missing: text that is not empty"),
        ("auth.keys.more.fle", "did you mean file?"),
        ("auth.keys.more.file", "is missing"),
    ]:
        (complaint,) = [complaint for complaint in found if complaint.startswith(f"{place}: ")]
        assert words in complaint
    assert len(found) == 10
    assert Path(secret).read_text().strip() not in "".join(found)


@pytest.mark.parametrize(("value", "got"), [("5", "got 5"), ('["k1"]', "got a list")])
def test_keys_are_tables(tmp_path: Path, value: str, got: str) -> None:
    found = complaints(tmp_path, f'{SYMBOLS}[auth]\nmode = "open"\nkeys = {value}')
    assert found == [f"auth.keys: expected a table, {got} — write [auth.keys.ID]"]
    (complaint,) = complaints(tmp_path, f"{SYMBOLS}[auth.keys]\nk1 = {value}")
    assert complaint.startswith("auth.keys.k1: expected a table")


def test_a_key_that_everybody_may_read_is_noted_where_it_can_sign(tmp_path: Path) -> None:
    open_file = key_file(tmp_path, Algorithm.HS256, 0o644)
    private = key_file(tmp_path, Algorithm.EDDSA, 0o640)
    public = tmp_path / "public.pem"
    public.write_bytes(
        load_pem_private_key(Path(private).read_bytes(), None)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    public.chmod(0o644)
    config = read(
        tmp_path, auth(("a", "HS256", open_file), ("b", "EdDSA", private), ("c", "EdDSA", str(public)))
    )
    found = [note for note in notes(config) if note.path.startswith("auth")]
    assert [(note.path, note.suggestion) for note in found] == [
        ("auth.keys.a.file", f"chmod o-r {open_file}")
    ]


def test_keys_that_nobody_is_asked_for_are_noted(tmp_path: Path) -> None:
    config = read(tmp_path, auth(("a", "HS256", key_file(tmp_path, Algorithm.HS256)), mode="open"))
    assert next(note.path for note in notes(config)) == "auth.mode"


def test_a_key_that_went_since_it_was_checked_is_told_as_a_problem_of_the_configuration(
    tmp_path: Path,
) -> None:
    file = key_file(tmp_path, Algorithm.HS256)
    config = read(tmp_path, auth(("a", "HS256", file)))
    Path(file).unlink()
    with pytest.raises(ConfigError, match="No such file"):
        authority_of(config)


def test_there_is_an_authority_only_where_tokens_are_asked_for(tmp_path: Path) -> None:
    key = ("a", "HS256", key_file(tmp_path, Algorithm.HS256))
    assert authority_of(read(tmp_path, auth(key))) is not None
    assert authority_of(read(tmp_path, auth(key, mode="open"))) is None


def test_what_is_read_again_has_what_the_files_have_now(tmp_path: Path) -> None:
    file = key_file(tmp_path, Algorithm.HS256)
    config = read(tmp_path, auth(("a", "HS256", file)))
    (key,), _ = read_keys(config.auth)
    old = mint(key, user="x", scopes=[], audience="aurexd", now=EpochUs(0), lifetime_s=9)
    identity = keyring(config).verify(old, EpochUs(0))
    assert keyring(config).vouches_for(identity)
    Path(file).write_bytes(generate_key(Algorithm.HS256))
    assert not keyring(config).vouches_for(identity)
    with pytest.raises(IdentityError):
        keyring(config).verify(old, EpochUs(0))


def test_a_file_that_does_not_end_is_no_key(tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, auth(("endless", "EdDSA", "/dev/zero")))
    assert "has more than 65536 bytes" in complaint


# --- one problem and the others ---


def test_one_wrong_key_does_not_hide_the_others_nor_invent_new_ones(tmp_path: Path) -> None:
    text = SYMBOLS + '[tls]\ncertificate = 5\nprivate_key = "x"\n[listen]\nport = "x"\naddress = "0.0.0.0"'
    found = complaints(tmp_path, text + "\n[auth]\nmode = 'token'\nuser = 'x'\n[auth.keys.k]\nfile = 'k'")
    assert [complaint.partition(":")[0] for complaint in found] == [
        "tls.certificate",
        "listen.port",
        "auth.user",
        "auth.keys.k.algorithm",
    ]


# --- policies ---


def test_no_source_may_be_called_as_a_consensus_is(tmp_path: Path) -> None:
    [complaint] = complaints(tmp_path, SYMBOLS + source("consensus", "swissquote", 'XAUUSD = "XAU/USD"'))
    assert complaint.startswith("sources.consensus.name: consensus is what a price is said to come from")


def test_a_consensus_of_one_is_pointed_out(tmp_path: Path) -> None:
    symbol = SYMBOLS.replace("[symbols.GC]", 'policy = "consensus"\n[symbols.GC]')
    one = symbol + source("swissquote", "swissquote", 'XAUUSD = "XAU/USD"')
    assert "symbols.XAUUSD.policy" in {note.path for note in notes(read(tmp_path, one))}
    two = one + source("gold-api", "gold-api", 'XAUUSD = "XAU"')
    assert "symbols.XAUUSD.policy" not in {note.path for note in notes(read(tmp_path, two))}

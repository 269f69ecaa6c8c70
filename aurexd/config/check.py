"""Judges the configuration as a whole: what one table must know of another, and of the files it names.

Problems refuse it. Notes let it pass: they are what an operator may have meant, and would want to be told.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from aurexd.config.keys import read_keys
from aurexd.config.model import SQLITE_PREFIX, Auth, Config, Limits, Listen, Storage, Tls
from aurexd.config.tree import Tree
from aurexd.config.validate import Valid
from aurexd.config.words import did_you_mean, toml
from aurexd.consensus import CONSENSUS
from aurexd.errors import Problem
from aurexd.forwarded import Proxies
from aurexd.hosts import ANY, is_name
from aurexd.market import Instrument
from aurexd.redaction import Redactor
from aurexd.sources import provider_class
from aurexd.sources.base import SourceSettings

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


def check(tree: Tree, valid: Valid) -> list[Problem]:
    """All that is wrong between tables. Tables that are wrong by themselves are left out."""
    problems: list[Problem] = []
    tls = valid.sections.get("tls")
    if isinstance(tls, Tls) and len(tls.model_fields_set) == len(tree.table.get("tls", {})):
        problems += _certificate(tree, tls)
        if isinstance(listen := valid.sections.get("listen"), Listen):
            problems += _listening(tree, listen, tls)
    if isinstance(storage := valid.sections.get("storage"), Storage):
        problems += _storing(tree, storage)
    if isinstance(limits := valid.sections.get("limits"), Limits):
        problems += _origins(tree, limits)
        problems += _proxies(tree, limits)
    if isinstance(listen := valid.sections.get("listen"), Listen):
        problems += _hosts(tree, listen)
        if isinstance(limits, Limits) and listen.proxy_protocol and not limits.trusted_proxies:
            problems.append(
                tree.problem(
                    "listen.proxy_protocol",
                    "nobody may send such a header, as long as limits.trusted_proxies is empty",
                    "name the proxies there, or write proxy_protocol = false",
                )
            )
    if isinstance(auth := valid.sections.get("auth"), Auth):
        problems += _keys(tree, auth)
    names = tree.table.get("symbols", {})
    if not names:
        problems.append(tree.problem("symbols", "there is no symbol", "write at least one [symbols.NAME]"))
    for path, source in valid.sources.items():
        if source.name == CONSENSUS:
            problems.append(
                tree.problem(
                    f"{path}.name",
                    f"{CONSENSUS} is what a price is said to come from that is made of several",
                    "choose another name",
                )
            )
        problems += _mapping(tree, valid, path, source, list(names))
    return problems


def notes(config: Config) -> list[Problem]:
    """What is allowed and may not be meant."""
    found = [*_notes_on_keys(config.auth)]
    for name, symbol in config.symbols.items():
        path = f"symbols.{name}"
        sources = [source for source in config.sources if name in source.symbols]
        if not sources:
            found.append(
                Problem(
                    path, "no source delivers it: it will never have a price", "name it in a source's symbols"
                )
            )
        if symbol.policy == CONSENSUS and len(sources) == 1:
            found.append(
                Problem(
                    f"{path}.policy",
                    f"{sources[0].name} alone delivers it: there is nobody to agree with",
                    "name it in the symbols of more sources",
                )
            )
        simulated = [s.name for s in sources if provider_class(s.type).traits.simulated]
        if simulated and symbol.instrument is not Instrument.TEST:
            when = "" if len(simulated) == len(sources) else " when the real sources fail"
            found.append(
                Problem(
                    path,
                    f"{', '.join(simulated)} will carry its price with simulated data{when}",
                    "clients are told so by its quality; for tests, prefer a symbol of its own",
                )
            )
    return found


def _notes_on_keys(auth: Auth) -> Iterator[Problem]:
    if auth.keys and auth.mode == "open":
        yield Problem(
            "auth.mode",
            "there are keys, and nobody is asked for a token",
            'write mode = "token" to ask for one',
        )
    for key in read_keys(auth)[0]:
        file = auth.keys[key.id].file
        if key.can_sign and Path(file).stat().st_mode & stat.S_IROTH:
            yield Problem(
                f"auth.keys.{key.id}.file",
                "everybody on this machine can read it, and whoever does can make tokens",
                f"chmod o-r {file}",
            )


def is_loopback(address: str) -> bool:
    """Can only this machine reach the address?"""
    if address == "localhost":
        return True
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback


def _listening(tree: Tree, listen: Listen, tls: Tls) -> Iterator[Problem]:
    try:
        loopback = is_loopback(listen.address)
    except ValueError:
        yield tree.problem(
            "listen.address",
            f"expected an IP address or localhost, got {toml(listen.address)}",
            'write address = "127.0.0.1", or "0.0.0.0" for every IPv4 address',
        )
        return
    if not loopback and not tls.certificate and not tls.private_key:
        yield tree.problem(
            "listen.address",
            f"{listen.address} can be reached from other machines, and there is no TLS: anybody between "
            f"could read "
            "and change prices",
            'give [tls] a certificate and a private_key, or write address = "127.0.0.1"',
        )


def _certificate(tree: Tree, tls: Tls) -> Iterator[Problem]:
    if not tls.certificate and not tls.private_key:
        return
    if not tls.certificate or not tls.private_key:
        missing, given = ("certificate", "private_key") if tls.private_key else ("private_key", "certificate")
        yield tree.problem(f"tls.{missing}", f"is empty, while {given} is given", "give both, or neither")
    readable = True
    for key, path in (("certificate", tls.certificate), ("private_key", tls.private_key)):
        if not path:
            continue
        try:
            Path(path).read_bytes()
        except OSError as error:
            readable = False
            yield tree.problem(
                f"tls.{key}", f"{path}: {error.strerror}", "it must be readable for the daemon's user"
            )
    if readable and tls.certificate and tls.private_key:
        try:
            # The passphrase keeps OpenSSL from asking for one on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                tls.certificate,
                tls.private_key,
                password="not asked for",  # noqa: S106
            )
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            yield tree.problem(
                "tls",
                f"certificate and private_key cannot be used together ({reason})",
                "both must be PEM, the key without a passphrase and the certificate's own",
            )


def _storing(tree: Tree, storage: Storage) -> Iterator[Problem]:
    file = storage.url.removeprefix(SQLITE_PREFIX)
    if storage.url and (
        not storage.url.startswith(SQLITE_PREFIX) or not file or file.endswith("/") or ":memory:" in file
    ):
        yield tree.problem(
            "storage.url",
            f"expected sqlite:/// and the path of a file, got {toml(Redactor().text(storage.url))}",
            'write url = "sqlite:////var/lib/aurexd/aurexd.db", or url = "" to store nothing',
        )


def _origins(tree: Tree, limits: Limits) -> Iterator[Problem]:
    for n, origin in enumerate(limits.allowed_origins):
        if not _ORIGIN.fullmatch(origin):
            tidied = origin.lower().rstrip("/")
            yield tree.problem(
                f"limits.allowed_origins[{n}]",
                f"expected an origin as a browser sends it, got {toml(origin)}",
                f"write {toml(tidied)}"
                if _ORIGIN.fullmatch(tidied)
                else 'write scheme and host, as "https://example.org"',
            )


def _proxies(tree: Tree, limits: Limits) -> Iterator[Problem]:
    for n, entry in enumerate(limits.trusted_proxies):
        try:
            Proxies([entry])
        except ValueError as error:
            hint = 'write an address as "127.0.0.1" or a network as "10.20.0.0/16"'
            with contextlib.suppress(ValueError):
                network = ipaddress.ip_network(entry, strict=False)
                hint = f"write {toml(str(network))}" if network.prefixlen else hint
            yield tree.problem(
                f"limits.trusted_proxies[{n}]", f"expected an address or a network ({error})", hint
            )


def _hosts(tree: Tree, listen: Listen) -> Iterator[Problem]:
    for n, name in enumerate(listen.allowed_hosts):
        if name != ANY and not is_name(name):
            tidied = name.lower().removesuffix(".").partition("://")[2] or name.lower().removesuffix(".")
            tidied = tidied.partition("/")[0].partition(":")[0]
            yield tree.problem(
                f"listen.allowed_hosts[{n}]",
                f"expected a host's name, got {toml(name)}",
                f"write {toml(tidied)}" if is_name(tidied) else 'write it as "gold.example.org"',
            )


def _keys(tree: Tree, auth: Auth) -> Iterator[Problem]:
    if auth.mode == "token" and not tree.table["auth"].get("keys"):
        yield tree.problem(
            "auth.keys",
            "there is no key, so no token could ever be valid",
            "make one: aurexd token key --algorithm EdDSA --id ID --file FILE",
        )
    for problem in read_keys(auth)[1]:
        yield tree.problem(problem.path, problem.message, problem.suggestion)


def _mapping(
    tree: Tree, valid: Valid, path: str, source: SourceSettings, names: list[str]
) -> Iterator[Problem]:
    provider = provider_class(source.type)
    for name, code in source.symbols.items():
        here = f"{path}.symbols.{name}"
        if name not in names:
            hint = did_you_mean(name, names)
            yield tree.problem(here, f"there is no symbol {name}", hint or f"write [symbols.{name}]")
            continue
        symbol, quoted = valid.symbols.get(name), provider.instrument_of(code)
        # What is simulated or replayed may stand for anything: its quality says what it is.
        if symbol is None or quoted in (None, symbol.instrument) or provider.traits.simulated:
            continue
        yield tree.problem(
            here,
            f"{code} is a {_NOUNS[quoted]}, {name} is a {_NOUNS[symbol.instrument]}",
            f"put it under a symbol with instrument = {toml(quoted)}",
        )


_NOUNS = {
    Instrument.SPOT: "spot price",
    Instrument.FUTURE: "future",
    Instrument.TOKEN: "token",
    Instrument.FIX: "fix",
    Instrument.TEST: "test price",
}

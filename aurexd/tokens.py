"""Signed tokens (JWT, RFC 7519): judges them by its keys, and makes them.

The key that a token names decides the algorithm; what the token itself says of it must agree (RFC 8725, 3.1). joserfc
does the cryptography. Time is an argument, and no error says anything of a token but the id of its key.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, OctKey, OKPKey
from msgspec import Meta

from aurexd.errors import IdentityError, KeyFileError
from aurexd.identity import KEY_ID, MAX_TOKEN_LENGTH, Identity, Scope, is_user
from aurexd.market import SECOND_US, EpochUs

MIN_SECRET_BYTES = 32
"""Of HS256: as many as its hash has (RFC 7518, 3.2)."""

LAST_SECOND = 253_402_300_799
"""The end of the year 9999, the last that can be written."""


class Algorithm(StrEnum):
    """How a key signs."""

    EDDSA = "EdDSA"
    ES256 = "ES256"
    HS256 = "HS256"


_NATIVE = {
    # RFC 9864 calls it by its curve and deprecates EdDSA, which may stand for others; issuers write either.
    Algorithm.EDDSA: "Ed25519",
    Algorithm.ES256: "ES256",
    Algorithm.HS256: "HS256",
}
_CURVES = {Algorithm.EDDSA: "Ed25519", Algorithm.ES256: "P-256"}


class _OneAlgorithm(jws.JWSRegistry):
    """joserfc's rules for tokens of one algorithm: of a header's parameters only these mean anything, so that a
    `crit` with any other is refused (RFC 7515, 4.1.11)."""

    max_header_length = 2048
    max_payload_length = MAX_TOKEN_LENGTH

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__(algorithms=[_NATIVE[algorithm]], strict_check_header=False)
        known = self.default_header_registry
        self.header_registry = {name: known[name] for name in ("alg", "kid", "typ", "crit")}

    def get_alg(self, name: str) -> JWSAlgModel:
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


_RULES = {algorithm: _OneAlgorithm(algorithm) for algorithm in Algorithm}


class Key:
    """One key. Two with the same id and the same material are equal."""

    __slots__ = ("_native", "_thumbprint", "algorithm", "id")

    def __init__(self, key_id: str, algorithm: Algorithm, native: OctKey | OKPKey | ECKey) -> None:
        """Made by `read_key`."""
        self.id = key_id
        self.algorithm = algorithm
        self._native = native
        self._thumbprint = native.thumbprint()

    def __repr__(self) -> str:
        return f"<Key {self.id} {self.algorithm}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and (self.id, self._thumbprint) == (other.id, other._thumbprint)

    def __hash__(self) -> int:
        return hash((self.id, self._thumbprint))

    @property
    def can_sign(self) -> bool:
        """Whether it can make tokens, not only judge them."""
        return self._native.is_private

    def sign(self, claims: bytes) -> str:
        """A token with these claims.

        Raises:
            KeyFileError: it is a public key.

        """
        if not self.can_sign:
            raise KeyFileError("is a public key, which cannot sign", "sign where the private key is")
        header = {"alg": self.algorithm.value, "kid": self.id, "typ": "JWT"}
        return jws.serialize_compact(header, claims, self._native, registry=_RULES[self.algorithm])

    def open(self, token: str) -> bytes:
        """The claims of a token that this key has signed.

        Raises:
            IdentityError: it has not, or not so.

        """
        try:
            payload = jws.deserialize_compact(token, self._native, registry=_RULES[self.algorithm]).payload
        except UnsupportedAlgorithmError:
            raise IdentityError(f"its algorithm is not that of the key {self.id}, {self.algorithm}") from None
        except BadSignatureError:
            raise IdentityError(f"its signature is not of the key {self.id}, or it was changed") from None
        except (JoseError, ValueError, RecursionError):
            raise IdentityError("it cannot be read as a signed token") from None
        return payload


def read_key(key_id: str, algorithm: Algorithm, data: bytes) -> Key:
    """A key from its file: PEM, private or public; for HS256 the secret, as text on one line or as raw bytes.

    Raises:
        KeyFileError: it cannot be used; with what to do.

    """
    if algorithm is Algorithm.HS256:
        return Key(key_id, algorithm, _secret(data))
    kind = OKPKey if algorithm is Algorithm.EDDSA else ECKey
    try:
        native = kind.import_key(data)
    except TypeError:
        raise KeyFileError("is protected by a passphrase", "write it without one") from None
    except (JoseError, ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"is no {algorithm} key in PEM", _make_one(algorithm)) from None
    if native.curve_name != _CURVES[algorithm]:
        raise KeyFileError(
            f"is a key of the curve {native.curve_name}, and {algorithm} takes {_CURVES[algorithm]}",
            _make_one(algorithm),
        )
    return Key(key_id, algorithm, native)


def generate_key(algorithm: Algorithm) -> bytes:
    """What to write into the file of a new key."""
    match algorithm:
        case Algorithm.HS256:
            return base64.urlsafe_b64encode(OctKey.generate_key(8 * MIN_SECRET_BYTES).raw_value) + b"\n"
        case Algorithm.EDDSA:
            return OKPKey.generate_key("Ed25519").as_pem(private=True)
        case Algorithm.ES256:
            return ECKey.generate_key("P-256").as_pem(private=True)


def _make_one(algorithm: Algorithm) -> str:
    return f"make one: aurexd token key --algorithm {algorithm} --id ID --file FILE"


def _secret(data: bytes) -> OctKey:
    if b"-----BEGIN" in data:
        raise KeyFileError(
            "is a key in PEM, and HS256 takes a secret", "write the algorithm that it is made for"
        )
    text = data.rstrip(b"\r\n")
    # Whoever types a secret, or has it typed by openssl, ends the line; raw bytes may end in any.
    secret = text if text.isascii() and text.decode("ascii").isprintable() else data
    if len(secret) < MIN_SECRET_BYTES:
        raise KeyFileError(
            f"is a secret of {len(secret)} bytes, and HS256 takes {MIN_SECRET_BYTES} or more",
            _make_one(Algorithm.HS256),
        )
    try:
        return OctKey.import_key(secret)
    except ValueError:
        raise KeyFileError("is a public key, and HS256 takes a secret", _make_one(Algorithm.HS256)) from None


# --- tokens ---

_Seconds = Annotated[float, Meta(gt=0, le=LAST_SECOND)]


class _Header(msgspec.Struct):
    kid: str


class _Claims(msgspec.Struct):
    sub: str
    aud: str | list[str]
    exp: _Seconds
    nbf: _Seconds | None = None
    scope: str = ""


class Unverified(msgspec.Struct, frozen=True):
    """What a token says of itself, true or not."""

    header: dict[str, Any]
    claims: dict[str, Any]


class Keyring:
    """The keys by which tokens are judged, and for whom these must be made: an `Authority`."""

    __slots__ = ("_audience", "_keys", "_leeway_us")

    def __init__(self, keys: Iterable[Key], *, audience: str, leeway_s: float) -> None:
        """`leeway_s`: by how much the issuer's clock may differ from ours."""
        self._keys = {key.id: key for key in keys}
        self._audience = audience
        self._leeway_us = int(leeway_s * SECOND_US)

    def verify(self, token: str, now: EpochUs) -> Identity:
        """Who shows this token.

        Raises:
            IdentityError: it is not valid here and now; `expired` when it was, and that is all.

        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise IdentityError(f"it has more than {MAX_TOKEN_LENGTH} characters")
        key = self._key_of(token)
        try:
            claims = msgspec.json.decode(key.open(token), type=_Claims)
        except (msgspec.DecodeError, RecursionError) as error:
            raise IdentityError(f"its claims are not as they must be: {error}") from None
        if not is_user(claims.sub):
            raise IdentityError("its `sub` is no user: too long, empty, or not printable")
        audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if self._audience not in audience:
            raise IdentityError(f"it is made for somebody else: its `aud` is not {self._audience!r}")
        if claims.nbf is not None and now < int(claims.nbf * SECOND_US) - self._leeway_us:
            raise IdentityError("it is not valid yet")
        expires = EpochUs(int(claims.exp * SECOND_US))
        ends = EpochUs(expires + self._leeway_us)
        if now >= ends:
            raise IdentityError("it has expired", expired=True)
        scopes = _shared(frozenset(_SCOPES[word] for word in claims.scope.split(" ") if word in _SCOPES))
        return Identity(user=claims.sub, scopes=scopes, expires=expires, ends=ends, voucher=key)

    def vouches_for(self, identity: Identity) -> bool:
        """Whether the key that signed its token is still here."""
        key = identity.voucher
        return isinstance(key, Key) and self._keys.get(key.id) == key

    def _key_of(self, token: str) -> Key:
        head, _, _ = token.partition(".")
        try:
            header = msgspec.json.decode(_decode(head), type=_Header)
        except msgspec.ValidationError:
            raise IdentityError("its header names no key, as `kid`") from None
        except (ValueError, RecursionError):
            raise IdentityError("it cannot be read as a signed token") from None
        key = self._keys.get(header.kid)
        if key is None:
            named = f", {header.kid}" if re.fullmatch(KEY_ID, header.kid) else ""
            raise IdentityError(f"it names a key that is not known here{named}")
        return key


_SCOPES = {scope.value: scope for scope in Scope}


@functools.cache
def _shared(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """The same set for all who have these scopes: there are eight, and thousands of sessions."""
    return scopes


def mint(
    key: Key, *, user: str, scopes: Iterable[Scope], audience: str, now: EpochUs, lifetime_s: float
) -> str:
    """A new token.

    Raises:
        KeyFileError: the key is a public one.

    """
    issued = now // SECOND_US
    claims = {
        "sub": user,
        "aud": audience,
        "scope": " ".join(scopes),
        "iat": issued,
        "exp": issued + max(1, int(lifetime_s)),
    }
    return key.sign(msgspec.json.encode(claims))


def unverified(token: str) -> Unverified:
    """What a token says, whoever made it: to look at, never to act on.

    Raises:
        IdentityError: it is no token.

    """
    parts = token.split(".")
    try:
        header, claims = (msgspec.json.decode(_decode(part), type=dict[str, Any]) for part in parts[:2])
    except (ValueError, RecursionError):
        raise IdentityError("it cannot be read as a signed token") from None
    return Unverified(header, claims)


def _decode(part: str) -> bytes:
    """Base64url without padding; ValueError for what is none."""
    return base64.b64decode(part.encode("ascii") + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)

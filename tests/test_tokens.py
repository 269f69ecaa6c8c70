"""Signed tokens: what is valid, and that nothing else is; whatever is wrong, the token is never told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import example, given
from hypothesis import strategies as st

from aurexd.errors import IdentityError, KeyFileError
from aurexd.identity import MAX_TOKEN_LENGTH, MAX_USER_LENGTH, Scope
from aurexd.market import SECOND_US, EpochUs
from aurexd.tokens import LAST_SECOND, Algorithm, Key, Keyring, generate_key, mint, read_key, unverified

NOW_S = 1_761_566_400
NOW = EpochUs(NOW_S * SECOND_US + 123_000)
LEEWAY_S = 30

FILES = {algorithm: generate_key(algorithm) for algorithm in Algorithm}
KEYS = {algorithm: read_key(algorithm.lower(), algorithm, FILES[algorithm]) for algorithm in Algorithm}
EDDSA, ES256, HS256 = KEYS[Algorithm.EDDSA], KEYS[Algorithm.ES256], KEYS[Algorithm.HS256]
RING = Keyring(KEYS.values(), audience="aurexd", leeway_s=LEEWAY_S)

CLAIMS: dict[str, Any] = {"sub": "alice", "aud": "aurexd", "exp": NOW_S + 3600, "scope": "read alerts"}

each_key = pytest.mark.parametrize("key", KEYS.values(), ids=str)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key: Key = EDDSA, **claims: Any) -> str:
    """A token with our claims, but for those that are said to be others; None takes one away."""
    merged = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return key.sign(json.dumps(merged).encode())


def forged(header: Any, claims: Any = CLAIMS, secret: bytes = b"") -> str:
    """A token with any header, signed as HS256."""
    body = ".".join(
        b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims)
    )
    return f"{body}.{b64(hmac.digest(secret, body.encode(), hashlib.sha256))}"


def refusal(text: str, ring: Keyring = RING, now: EpochUs = NOW) -> IdentityError:
    """Why a token is not valid; its words never have the token in them."""
    with pytest.raises(IdentityError) as caught:
        ring.verify(text, now)
    error = caught.value
    said = f"{error} {error!r}"
    for part in [text, *text.split(".")]:
        assert len(part) < 20 or part not in said
    assert error.__cause__ is None
    return error


# --- what is valid ---


@each_key
def test_a_token_says_who_its_bearer_is_what_he_may_do_and_until_when(key: Key) -> None:
    identity = RING.verify(token(key), NOW)
    assert identity.user == "alice"
    assert identity.scopes == {Scope.READ, Scope.ALERTS}
    assert identity.expires == (NOW_S + 3600) * SECOND_US
    assert identity.ends == (NOW_S + 3600 + LEEWAY_S) * SECOND_US
    assert RING.vouches_for(identity)


@each_key
def test_what_is_minted_is_valid(key: Key) -> None:
    text = mint(key, user="bob", scopes=[Scope.ADMIN], audience="aurexd", now=NOW, lifetime_s=90)
    identity = RING.verify(text, NOW)
    assert identity.user == "bob"
    assert identity.scopes == {Scope.ADMIN}
    assert identity.expires == (NOW_S + 90) * SECOND_US
    assert unverified(text).header == {"alg": key.algorithm, "kid": key.id, "typ": "JWT"}


USERS = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=30)


@given(user=USERS, scopes=st.sets(st.sampled_from(Scope)), lifetime_s=st.integers(1, 10**9))
def test_minting_and_verifying_are_inverse(user: str, scopes: set[Scope], lifetime_s: int) -> None:
    text = mint(HS256, user=user, scopes=scopes, audience="aurexd", now=NOW, lifetime_s=lifetime_s)
    identity = RING.verify(text, NOW)
    assert identity.user == user
    assert identity.scopes == scopes
    assert identity.expires == (NOW_S + lifetime_s) * SECOND_US


def test_ed25519_goes_by_its_old_name_and_by_its_new_one() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    ring = Keyring([read_key("k", Algorithm.EDDSA, pem)], audience="aurexd", leeway_s=0)
    for name in ("EdDSA", "Ed25519"):
        body = f"{b64(json.dumps({'alg': name, 'kid': 'k'}).encode())}.{b64(json.dumps(CLAIMS).encode())}"
        assert ring.verify(f"{body}.{b64(private.sign(body.encode()))}", NOW).user == "alice"


@each_key
def test_the_public_part_of_a_key_judges_and_cannot_sign(key: Key) -> None:
    if key is HS256:
        return
    public = read_key(key.id, key.algorithm, public_part(key.algorithm))
    assert (key.can_sign, public.can_sign) == (True, False)
    assert public == key
    assert Keyring([public], audience="aurexd", leeway_s=0).verify(token(key), NOW).user == "alice"
    with pytest.raises(KeyFileError, match="is a public key"):
        public.sign(b"{}")


def public_part(algorithm: Algorithm) -> bytes:
    private = load_pem_private_key(FILES[algorithm], None)
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_several_audiences_may_be_meant() -> None:
    assert RING.verify(token(aud=["somebody", "aurexd"]), NOW).user == "alice"


def test_scopes_that_nobody_here_knows_mean_nothing() -> None:
    for scope in ("read openid alerts profile", " read  alerts ", "alerts read read"):
        assert RING.verify(token(scope=scope), NOW).scopes == {Scope.READ, Scope.ALERTS}
    for none in ("", "READ", "read,alerts", "read\talerts", None):
        assert RING.verify(token(scope=none), NOW).scopes == set()


def test_those_with_the_same_scopes_share_them() -> None:
    one, other = (RING.verify(token(sub=user), NOW) for user in ("alice", "bob"))
    assert one.scopes is other.scopes


def test_other_claims_and_other_header_parameters_mean_nothing() -> None:
    assert (
        RING.verify(token(iss="https://issuer.example", jti="1", iat="x", sentence=[{}]), NOW).user == "alice"
    )
    header = {"alg": "HS256", "kid": HS256.id, "typ": "at+jwt", "x5t": 5, "jku": "https://evil.example"}
    assert RING.verify(forged(header, secret=FILES[Algorithm.HS256].strip()), NOW).user == "alice"


# --- time ---


def at(seconds: float) -> EpochUs:
    return EpochUs(int((NOW_S + seconds) * SECOND_US))


def test_it_holds_until_it_expires_and_a_leeway_more() -> None:
    text = token(exp=NOW_S)
    RING.verify(text, at(-1))
    RING.verify(text, at(LEEWAY_S - 0.001))
    error = refusal(text, now=at(LEEWAY_S))
    assert error.expired
    assert str(error) == "it has expired"


def test_it_holds_from_its_time_on_and_a_leeway_before() -> None:
    text = token(nbf=NOW_S)
    RING.verify(text, at(-LEEWAY_S))
    error = refusal(text, now=at(-LEEWAY_S - 0.001))
    assert not error.expired
    assert "not valid yet" in str(error)


@given(
    exp=st.floats(1, LAST_SECOND) | st.integers(1, LAST_SECOND),
    nbf=st.floats(1, LAST_SECOND) | st.none(),
    now=st.integers(0, LAST_SECOND * SECOND_US).map(EpochUs),
    leeway_s=st.integers(0, 300),
)
def test_the_times_decide_and_nothing_else(
    exp: float, nbf: float | None, now: EpochUs, leeway_s: int
) -> None:
    ring = Keyring([HS256], audience="aurexd", leeway_s=leeway_s)
    text = token(HS256, exp=exp, nbf=nbf)
    begins = 0 if nbf is None else int(nbf * SECOND_US) - leeway_s * SECOND_US
    ends = int(exp * SECOND_US) + leeway_s * SECOND_US
    if begins <= now < ends:
        assert ring.verify(text, now).ends == ends
    else:
        assert refusal(text, ring, now).expired == (begins <= now)


def test_only_a_token_that_is_right_but_for_its_time_is_called_expired() -> None:
    assert not refusal(token(exp=1, aud="somebody")).expired
    assert not refusal(token(exp=1, sub="")).expired
    assert not refusal(changed(token(exp=1), -1)).expired


# --- what is not valid ---


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": None}, "`exp`"),
        ({"exp": "1761570000"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": [1761570000]}, "exp"),
        ({"exp": 0}, "exp"),
        ({"exp": -5}, "exp"),
        ({"exp": LAST_SECOND + 1}, "exp"),
        ({"exp": float("nan")}, ""),
        ({"exp": float("inf")}, ""),
        ({"nbf": "x"}, "nbf"),
        ({"sub": None}, "`sub`"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": ["alice"]}, "sub"),
        ({"sub": "a" * (MAX_USER_LENGTH + 1)}, "sub"),
        ({"sub": "alice\n"}, "sub"),
        ({"sub": "ali\u202ece"}, "sub"),
        ({"aud": None}, "`aud`"),
        ({"aud": "somebody"}, "'aurexd'"),
        ({"aud": "aurexd2"}, "'aurexd'"),
        ({"aud": []}, "'aurexd'"),
        ({"aud": [["aurexd"]]}, "aud"),
        ({"aud": {"aurexd": 1}}, "aud"),
        ({"scope": ["read"]}, "scope"),
        ({"scope": 5}, "scope"),
        ({"scope": {"read": True}}, "scope"),
    ],
    ids=str,
)
def test_claims_must_be_there_and_of_their_kind(claims: dict[str, Any], says: str) -> None:
    error = refusal(token(**claims))
    assert says in str(error)
    assert not error.expired


@pytest.mark.parametrize("claims", [b"", b"[]", b"1", b'"x"', b"null", b"{", b"[" * 3000, b"\xff"])
def test_claims_are_an_object(claims: bytes) -> None:
    refusal(EDDSA.sign(claims))


def changed(text: str, place: int) -> str:
    """The text with another letter at one place."""
    letters = list(text)
    letters[place] = "A" if letters[place] != "A" else "B"
    return "".join(letters)


@each_key
def test_no_letter_of_a_token_can_be_changed(key: Key) -> None:
    text = token(key)
    for place in range(len(text)):
        refusal(changed(text, place))


@each_key
@given(data=st.data())
def test_no_letter_can_be_changed_into_any_other_nor_taken_away_nor_added(
    key: Key, data: st.DataObject
) -> None:
    text = token(key)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 3)))
    other = text[:start] + data.draw(st.text(max_size=4)) + text[end:]
    if other != text:
        refusal(other)


def test_a_token_is_of_the_key_that_it_names() -> None:
    for key in KEYS.values():
        for other in KEYS.values():
            header = {"alg": key.algorithm.value, "kid": other.id}
            text = relabelled(token(key), header)
            if key is not other:
                refusal(text)


def relabelled(text: str, header: dict[str, Any]) -> str:
    """The token with another header, and the old signature."""
    return ".".join([b64(json.dumps(header).encode()), *text.split(".")[1:]])


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "", "HS384", "RS256", "ES384", "Ed448", "dir", "\u0130"]
)
@each_key
def test_no_other_algorithm_is_believed(key: Key, name: str) -> None:
    header = {"alg": name, "kid": key.id}
    for signature in ("", "AA", token(key).rpartition(".")[2]):
        body = relabelled(token(key), header).rpartition(".")[0]
        refusal(f"{body}.{signature}")
    for secret in (b"", b"x" * 32, *FILES.values()):
        refusal(
            forged(header, secret=secret) if secret != FILES[Algorithm.HS256] else forged(header, secret=b"x")
        )


@pytest.mark.parametrize("algorithm", [Algorithm.EDDSA, Algorithm.ES256])
def test_a_public_key_is_no_secret(algorithm: Algorithm) -> None:
    pem = public_part(algorithm)
    ring = Keyring([read_key("k", algorithm, pem), HS256], audience="aurexd", leeway_s=0)
    for secret in (pem, pem.strip(), pem + b"\0"):
        refusal(forged({"alg": "HS256", "kid": "k"}, secret=secret), ring)
        refusal(forged({"alg": "HS256", "kid": HS256.id}, secret=secret), ring)


def test_an_unknown_key_is_named_where_that_is_a_name() -> None:
    assert str(refusal(forged({"alg": "HS256", "kid": "k7"}))).endswith("not known here, k7")
    for kid in ("../../etc/passwd", "k 7", "", "k7\n", "eyJ" * 30):
        assert str(refusal(forged({"alg": "HS256", "kid": kid}))).endswith("not known here")


@pytest.mark.parametrize(
    "header", [{}, {"kid": None}, {"kid": 5}, {"kid": ["hs256"]}, [], "kid", 5, b"{", b"[" * 600]
)
def test_a_token_must_name_its_key(header: Any) -> None:
    if isinstance(header, dict):
        header = {"alg": "HS256", **header}
    refusal(forged(header, secret=FILES[Algorithm.HS256].strip()))


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
        {"crit": ["x"], "x": 1},
    ],
    ids=str,
)
def test_what_a_header_calls_critical_is_not_understood(more: dict[str, Any]) -> None:
    refusal(forged({"alg": "HS256", "kid": HS256.id, **more}, secret=FILES[Algorithm.HS256].strip()))


def test_a_giant_token_is_not_even_read() -> None:
    at_most = token(HS256, x="y" * 5_900)
    assert 7_900 < len(at_most) <= MAX_TOKEN_LENGTH
    RING.verify(at_most, NOW)
    assert "8192 characters" in str(refusal(token(HS256, x="y" * 6_200)))
    assert "8192 characters" in str(refusal("e" * 10_000_000))
    refusal(f"{b64(json.dumps({'alg': 'HS256', 'kid': HS256.id, 'x': 'y' * 2000}).encode())}.e30.AA")


@given(st.text(max_size=200) | st.text(st.sampled_from('eyJ.-_=A0 {}"\n'), max_size=200))
@example("..")
@example("")
@example("e30.e30.")
@example(b64(b'{"kid":"hs256","alg":"HS256"}') + "..")
def test_whatever_is_no_token_is_refused(text: str) -> None:
    refusal(text)


@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["HS256", "hs256", "none"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk"]) | st.text(), inner, max_size=4
            )
        ),
        max_leaves=8,
    ),
    claims=st.binary(max_size=60),
)
def test_whatever_a_header_is_there_are_only_clean_errors(header: Any, claims: bytes) -> None:
    refusal(forged(header, claims, secret=b"x" * 32))


# --- keys ---


def test_keys_can_be_rotated_and_who_loses_his_is_not_vouched_for_any_more() -> None:
    fresh = read_key("fresh", Algorithm.EDDSA, generate_key(Algorithm.EDDSA))
    identity = RING.verify(token(), NOW)
    assert Keyring([fresh, EDDSA], audience="aurexd", leeway_s=0).vouches_for(identity)
    assert Keyring(
        [read_key(EDDSA.id, Algorithm.EDDSA, FILES[Algorithm.EDDSA])], audience="a", leeway_s=0
    ).vouches_for(identity)
    assert not Keyring([fresh], audience="aurexd", leeway_s=0).vouches_for(identity)
    replaced = read_key(EDDSA.id, Algorithm.EDDSA, generate_key(Algorithm.EDDSA))
    assert not Keyring([replaced], audience="aurexd", leeway_s=0).vouches_for(identity)


def test_a_key_never_shows_itself() -> None:
    for key in KEYS.values():
        assert repr(key) == f"<Key {key.id} {key.algorithm}>"
        identity = RING.verify(token(key), NOW)
        assert FILES[key.algorithm].decode().strip() not in repr(identity)


def test_a_secret_is_a_line_of_text_or_any_bytes() -> None:
    typed = b"correct horse battery staple, and more"
    for ending in (b"", b"\n", b"\r\n"):
        assert read_key("k", Algorithm.HS256, typed + ending) == read_key("k", Algorithm.HS256, typed)
    raw = bytes(range(200, 255)) + b"\n"
    assert read_key("k", Algorithm.HS256, raw) != read_key("k", Algorithm.HS256, raw[:-1])


ENCRYPTED = BestAvailableEncryption(b"secret")


@pytest.mark.parametrize(
    ("algorithm", "data", "says"),
    [
        (Algorithm.HS256, b"", "0 bytes"),
        (Algorithm.HS256, b"x" * 31, "31 bytes"),
        (Algorithm.HS256, b"x" * 31 + b"\n\n", "31 bytes"),
        (Algorithm.HS256, FILES[Algorithm.EDDSA], "key in PEM"),
        (Algorithm.EDDSA, b"", "no EdDSA key in PEM"),
        (Algorithm.EDDSA, b"\xff\x00", "no EdDSA key in PEM"),
        (Algorithm.EDDSA, FILES[Algorithm.HS256], "no EdDSA key in PEM"),
        (Algorithm.EDDSA, FILES[Algorithm.ES256], "no EdDSA key in PEM"),
        (Algorithm.ES256, FILES[Algorithm.EDDSA], "no ES256 key in PEM"),
        (
            Algorithm.EDDSA,
            ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, ENCRYPTED),
            "passphrase",
        ),
        (
            Algorithm.EDDSA,
            x25519.X25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "curve X25519",
        ),
        (
            Algorithm.ES256,
            ec.generate_private_key(ec.SECP384R1())
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "curve P-384",
        ),
    ],
    # Keys are new in each process, and pytest-xdist wants the same names in all of them.
    ids=lambda value: "file" if isinstance(value, bytes) else None,
)
def test_a_file_that_is_no_such_key_says_why_and_what_to_do(
    algorithm: Algorithm, data: bytes, says: str
) -> None:
    with pytest.raises(KeyFileError) as caught:
        read_key("k", algorithm, data)
    assert says in caught.value.message
    assert caught.value.suggestion


@given(algorithm=st.sampled_from(Algorithm), data=st.binary(max_size=100))
def test_any_file_is_a_key_or_a_clean_error(algorithm: Algorithm, data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc's, of secrets that look like keys
        try:
            key = read_key("k", algorithm, data)
        except KeyFileError:
            return
    assert key.can_sign


def test_new_keys_are_new() -> None:
    for algorithm in Algorithm:
        assert generate_key(algorithm) != generate_key(algorithm)


def test_what_is_no_token_says_nothing_of_itself() -> None:
    for text in ("", "a", "a.b", "e30", "e30.W10.x", os.urandom(50).hex()):
        with pytest.raises(IdentityError):
            unverified(text)

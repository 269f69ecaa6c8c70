"""Where a token may stand in a request, and what becomes of it there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.config.model import Config
from aurexd.errors import IdentityError
from aurexd.identity import ANYBODY, LOCAL, Identity, Scope
from aurexd.market import SECOND_US, EpochUs
from aurexd.server.credentials import QUERY_NAMES, Credentials, Unauthorized
from aurexd.server.request import Request
from aurexd.settings import Settings
from tests.issuer import START, STRANGER, Still, ask_for_tokens, token


def asking(now: EpochUs = START) -> Credentials:
    return Credentials(ask_for_tokens(Settings(Config())), Still(now))


def request(
    authorization: str | None = None, *subprotocols: str, query: str = "", address: str = "192.0.2.7"
) -> Request:
    return Request(
        address=address,
        method="GET",
        path="/api/v1/sources",
        query=query,
        host="gold.example",
        subprotocols=subprotocols,
        authorization=authorization,
    )


def who(identity: Identity | None) -> str | None:
    return None if identity is None else identity.user


@pytest.mark.parametrize(
    "shown",
    [
        request(f"Bearer {token()}"),
        request(f"bearer  {token()} "),
        request(None, "aurex.v1.json", f"aurex.token.{token()}"),
        request(None, f"aurex.token.{token()}", "aurex.v1.msgpack"),
        request(f"Bearer {token()}", f"aurex.token.{token()}"),
        request("Basic YWxpY2U6c2VjcmV0", f"aurex.token.{token()}"),
    ],
    ids=["header", "written otherwise", "subprotocol", "first of them", "both", "beside a proxy's own"],
)
def test_a_token_is_shown_in_the_header_or_among_the_subprotocols(shown: Request) -> None:
    assert who(asking().identify(shown)) == "alice"


@pytest.mark.parametrize(
    "shown",
    [request(), request("Basic YWxpY2U6c2VjcmV0"), request("Bearer"[:4]), request("", "aurex.v1.json")],
    ids=str,
)
def test_no_token_is_none(shown: Request) -> None:
    assert asking().identify(shown) is None


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (request(f"Bearer {token(key=STRANGER)}"), "its signature is not of the key k1"),
        (request("Bearer"), "cannot be read"),
        (request("Bearer a b"), "cannot be read"),
        (request(None, "aurex.token."), "cannot be read"),
        (request(f"Bearer {token()},Bearer {token()}"), "cannot be read"),
        (request(f"Bearer {token()}", f"aurex.token.{token('bob')}"), "two of them"),
        (request(None, f"aurex.token.{token()}", f"aurex.token.{token('bob')}"), "two of them"),
    ],
)
def test_a_token_that_is_not_valid_is_an_error(shown: Request, says: str) -> None:
    with pytest.raises(IdentityError, match=says) as caught:
        asking().identify(shown)
    assert not caught.value.expired


def test_one_that_has_expired_is_called_so() -> None:
    with pytest.raises(IdentityError) as caught:
        asking(EpochUs(START + 3600 * SECOND_US)).identify(request(f"Bearer {token()}"))
    assert caught.value.expired


@pytest.mark.parametrize("name", sorted(QUERY_NAMES | {"TOKEN", "%74oken"}))
@pytest.mark.parametrize("also", [None, f"Bearer {token()}"], ids=["alone", "beside a header"])
def test_a_token_in_the_url_is_refused_whatever_else_is_shown(name: str, also: str | None) -> None:
    for query in (f"{name}={token()}", f"symbol=XAUUSD&{name}={token()}", f"{name}=", f"{name}"):
        with pytest.raises(IdentityError, match="stands in the URL, where logs and histories keep it"):
            asking().identify(request(also, query=query))


def test_where_tokens_are_not_asked_for_who_is_on_this_machine_is_its_local_user() -> None:
    credentials = Credentials(Settings(Config()), Still())
    for address in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
        assert credentials.identify(request("Bearer nonsense", address=address)) is LOCAL
    for address in ("192.0.2.7", "2001:db8::1", "10.0.0.1"):
        assert credentials.identify(request(query="token=x", address=address)) is ANYBODY


def test_where_tokens_are_asked_for_nobody_is_local() -> None:
    assert asking().identify(request(address="127.0.0.1")) is None


# --- HTTP ---


def test_http_says_what_is_missing_in_words_and_for_programs() -> None:
    credentials = asking()
    for shown, status, challenge in [
        (request(), 401, "Bearer"),
        (request("Bearer x"), 401, 'Bearer error="invalid_token"'),
        (request(query=f"token={token()}"), 401, 'Bearer error="invalid_token"'),
        (
            request(f"Bearer {token(scopes=['alerts'])}"),
            403,
            'Bearer error="insufficient_scope", scope="read"',
        ),
    ]:
        answer = credentials.authorize(shown, Scope.READ)
        assert isinstance(answer, Unauthorized)
        assert (answer.status, answer.challenge) == (status, challenge)
        assert answer.message
    allowed = credentials.authorize(request(f"Bearer {token()}"), Scope.READ)
    assert isinstance(allowed, Identity)
    assert allowed.user == "alice"


def test_where_tokens_are_not_asked_for_everybody_may_read() -> None:
    answer = Credentials(Settings(Config()), Still()).authorize(request(), Scope.READ)
    assert answer is ANYBODY


# --- what is kept of it ---


def test_a_request_never_shows_its_token_and_forgets_it() -> None:
    shown = request(f"Bearer {token()}", "aurex.v1.json", f"aurex.token.{token()}", query=f"token={token()}")
    assert token() not in repr(shown)
    shown.forget_token()
    kept = (shown.authorization, shown.query, shown.subprotocols)
    assert kept == (None, "", ("aurex.v1.json",))


@given(
    authorization=st.none() | st.text(st.characters(max_codepoint=255)),
    subprotocols=st.lists(
        st.text(st.characters(max_codepoint=255)).map(lambda text: f"aurex.token.{text}"), max_size=2
    ),
    query=st.text(st.characters(max_codepoint=255)),
)
def test_whatever_is_shown_it_is_nobody_or_a_clean_error(
    authorization: str | None, subprotocols: list[str], query: str
) -> None:
    credentials = asking()
    shown = request(authorization, *subprotocols, query=query)
    try:
        assert credentials.identify(shown) is None
    except IdentityError:
        assert isinstance(credentials.authorize(shown, Scope.READ), Unauthorized)

"""Who comes back gets all that it missed, or is told that it cannot: whatever was published meanwhile."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.protocol.data import Position
from aurexd.rings import KeptRings, Rings
from aurexd.update import Update, parse_position
from tests.updates import price_update

CHANNELS = ("price:XAUUSD", "price:GC", "status:GC")
histories = st.lists(st.sampled_from(CHANNELS), max_size=60)


def published(history: list[str], size: int) -> tuple[Rings, list[Update]]:
    rings = Rings("e", size)
    return rings, [rings.publish(channel, price_update) for channel in history]


def through_the_store(rings: Rings) -> KeptRings:
    data = msgspec.msgpack.Encoder(decimal_format="string").encode(rings.keep())
    return msgspec.msgpack.decode(data, type=KeptRings)


@given(histories, st.integers(1, 20), st.sampled_from(CHANNELS), st.integers(0, 70))
def test_what_was_missed_since_a_count_comes_whole_or_not_at_all(
    history: list[str], size: int, channel: str, count: int
) -> None:
    rings, updates = published(history, size)
    mine = [update for update in updates if update.channel == channel]
    missed = rings.since(channel, Position(epoch="e", count=count))
    if count > len(mine) or len(mine) - count > size:
        assert missed is None
    else:
        assert missed == mine[count:]


@given(histories, st.integers(1, 20), st.sampled_from(CHANNELS), st.integers(0, 70))
def test_what_was_missed_after_an_update_comes_whole_or_not_at_all(
    history: list[str], size: int, channel: str, seq: int
) -> None:
    rings, updates = published(history, size)
    wanted = [update for update in updates if update.channel == channel and update.seq > seq]
    missed = rings.after(channel, "e", seq)
    if seq > len(updates) or len(wanted) > size:
        assert missed is None
    else:
        assert missed == wanted


def test_another_epoch_is_never_recovered() -> None:
    rings, _ = published(["price:GC"], 5)
    assert rings.since("price:GC", Position(epoch="f", count=1)) is None
    assert rings.since("price:GC", Position(epoch="e", count=1)) == []
    assert rings.after("price:GC", "f", 1) is None


def test_a_channel_without_messages_is_recovered_from_its_beginning_only() -> None:
    rings, _ = published([], 5)
    assert rings.since("price:GC", Position(epoch="e", count=0)) == []
    assert rings.since("price:GC", Position(epoch="e", count=1)) is None


@given(histories, st.integers(1, 20), histories)
def test_a_restart_changes_nothing(history: list[str], size: int, later: list[str]) -> None:
    rings, _ = published(history, size)
    restored = Rings.restore(through_the_store(rings), size, lambda _channel: True)
    for channel in later:
        before, after = rings.publish(channel, price_update), restored.publish(channel, price_update)
        assert (before.seq, before.message) == (after.seq, after.message)
    assert restored.counts() == rings.counts()
    for channel in CHANNELS:
        for count in range(rings.count(channel) + 2):
            position = Position(epoch="e", count=count)
            one, other = rings.since(channel, position), restored.since(channel, position)
            assert (one is None) == (other is None)
            assert [u.message for u in one or []] == [u.message for u in other or []]


@given(histories, st.integers(2, 20), st.integers(1, 19), st.integers(0, 70))
def test_a_smaller_ring_after_a_restart_knows_what_it_lost(
    history: list[str], size: int, smaller: int, seq: int
) -> None:
    rings, updates = published(history, size)
    restored = Rings.restore(through_the_store(rings), smaller, lambda _channel: True)
    for channel in CHANNELS:
        missed = restored.after(channel, "e", seq)
        wanted = [u.message for u in updates if u.channel == channel and u.seq > seq]
        if missed is not None:
            assert [u.message for u in missed] == wanted


@pytest.mark.parametrize("restarted", [False, True])
@given(before=histories, later=histories, count=st.integers(0, 70), seq=st.integers(0, 130))
def test_of_a_channel_that_was_not_served_for_a_while_nothing_false_is_recovered(
    before: list[str], later: list[str], count: int, seq: int, *, restarted: bool
) -> None:
    rings, updates = published(before, 20)
    if restarted:
        rings = Rings.restore(through_the_store(rings), 20, lambda channel: channel != "price:GC")
    else:
        rings.forget("price:GC")
    assert rings.latest("price:GC") is None
    known = rings.count("price:GC")
    assert known == before.count("price:GC"), "a count means one thing as long as the epoch lasts"
    updates += [rings.publish(channel, price_update) for channel in later]
    mine = [update for update in updates if update.channel == "price:GC"]
    missed = rings.since("price:GC", Position(epoch="e", count=count))
    assert missed in (None, mine[count:])
    assert count >= known or missed is None
    after = rings.after("price:GC", "e", seq)
    assert after in (None, [update for update in mine if update.seq > seq])


@given(st.text() | st.sampled_from(["-", "e-", "-1", "e-1x", "e-²", "e-" + "9" * 30]))
def test_any_text_is_a_position_or_none(text: str) -> None:
    position = parse_position(text)
    if position is not None:
        assert text == f"{position[0]}-{text.rpartition('-')[2]}"
        assert position[1] >= 0


def test_an_update_says_where_it_stands() -> None:
    _, updates = published(["price:GC", "price:GC"], 5)
    assert [parse_position(update.position) for update in updates] == [("e", 1), ("e", 2)]


@pytest.mark.parametrize(
    ("channel", "conflated"), [("price:GC", True), ("status:GC", True), ("alert:alice", False)]
)
def test_what_may_be_conflated_is_said_by_its_channel(channel: str, conflated: bool) -> None:
    assert Update.of(channel, price_update(1), "e", 1).conflated is conflated

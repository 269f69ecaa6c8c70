"""Whatever happens to a slow client's outbox, what leaves it is whole frames, and they add up."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aurexd.outbox import TAKE_BYTES, Outbox
from aurexd.protocol import compose
from aurexd.protocol.codec import JSON, MSGPACK, Encoding, compressed
from aurexd.update import Batch, Update
from tests.frames import messages_in
from tests.updates import NOW, alert, price_update

CHANNELS = ("price:XAUUSD", "price:XAGUSD", "price:GC")


def update(channel: str, count: int) -> Update:
    return Update.of(channel, price_update(count, channel.partition(":")[2]), "e", count)


def answer(number: int, size: int = 0, encoding: Encoding = JSON) -> bytes:
    return encoding.frame(compose.error("invalid_message", f"{number}:{'x' * size}", NOW))


def drain(outbox: Outbox) -> bytes:
    data = b""
    while outbox:
        data += outbox.take()
    return data


def test_a_new_outbox_is_empty() -> None:
    outbox = Outbox(JSON)
    assert not outbox
    assert outbox.take() == b""


def test_several_updates_of_a_channel_become_the_latest_that_says_how_many_it_stands_for() -> None:
    outbox = Outbox(JSON)
    outbox.keep_batch(Batch([update("price:XAUUSD", count) for count in (7, 8, 9)], JSON))
    (message,) = messages_in(drain(outbox))
    assert (message["update_count"], message["conflated"], message["data"]["close"]) == (9, 3, 9.5)


def test_however_much_is_published_at_most_one_update_of_a_channel_waits() -> None:
    outbox = Outbox(JSON)
    for count in range(1, 1001):
        outbox.keep_batch(Batch([update(channel, count) for channel in CHANNELS], JSON))
    messages = messages_in(drain(outbox))
    assert [m["conflated"] for m in messages] == [1000] * len(CHANNELS)


def test_what_it_costs_grows_with_what_waits_and_not_with_what_is_published() -> None:
    outbox = Outbox(JSON)
    assert outbox.held_bytes == 0
    for count in range(1, 1001):
        outbox.keep_batch(Batch([update(channel, count) for channel in CHANNELS], JSON))
    conflated = outbox.held_bytes
    assert 0 < conflated < 1000
    outbox.keep_lossless(answer(1, 5000))
    assert outbox.held_bytes >= conflated + 5000
    drain(outbox)
    assert outbox.held_bytes == 0
    outbox.keep_rest(b"x" * 300)
    assert outbox.held_bytes == 300


def test_one_update_says_nothing_of_conflation() -> None:
    outbox = Outbox(JSON)
    outbox.keep_batch(Batch([update("price:XAUUSD", 7)], JSON))
    assert "conflated" not in messages_in(drain(outbox))[0]


def test_a_cut_frame_is_finished_first_and_is_not_conflated() -> None:
    outbox = Outbox(JSON)
    batch = Batch([update("price:XAUUSD", count) for count in (1, 2, 3)], JSON)
    written = batch.ends[0] + 1
    outbox.keep_batch(batch, written)
    outbox.keep_lossless(answer(1))
    messages = messages_in(batch.data[:written] + drain(outbox))
    assert [m["type"] for m in messages] == ["price_update", "price_update", "error", "price_update"]
    assert [m.get("update_count") for m in messages] == [1, 2, None, 3]


def test_a_dropped_channel_says_how_many_messages_waited() -> None:
    outbox = Outbox(JSON)
    outbox.keep_batch(
        Batch([update("price:XAUUSD", 4), update("price:XAUUSD", 5), update("price:GC", 1)], JSON)
    )
    assert outbox.drop_channel("price:XAUUSD") == 2
    assert outbox.drop_channel("price:XAUUSD") == 0
    assert [m["data"]["symbol"] for m in messages_in(drain(outbox))] == ["GC"]


def test_a_replay_leaves_after_the_answer_that_announced_it_and_before_what_is_new() -> None:
    outbox = Outbox(JSON)
    outbox.keep_lossless(answer(1))
    outbox.keep_replay([update("price:GC", 1), update("price:GC", 2), update("price:GC", 3)])
    for count in (4, 5):
        outbox.keep_batch(Batch([update("price:GC", count)], JSON))
    messages = messages_in(drain(outbox))
    assert [m["type"] for m in messages] == ["error", *["price_update"] * 4]
    assert [(m["update_count"], m.get("conflated", 1)) for m in messages[1:]] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (5, 2),
    ]


def test_a_replay_costs_nothing_and_may_be_dropped() -> None:
    outbox = Outbox(JSON)
    outbox.keep_replay([update("price:GC", 1), update("price:XAUUSD", 1), update("price:GC", 2)])
    outbox.keep_batch(Batch([update("price:GC", 3)], JSON))
    assert outbox.lossless_bytes == 0
    assert outbox.drop_channel("price:GC") == 3
    assert [m["data"]["symbol"] for m in messages_in(drain(outbox))] == ["XAUUSD"]


def test_an_alert_is_never_conflated() -> None:
    outbox = Outbox(JSON)
    for count in range(1, 4):
        updates = [Update.of("alert:alice", alert(count), "e", 2 * count), update("price:GC", count)]
        outbox.keep_batch(Batch(updates, JSON))
    messages = messages_in(drain(outbox))
    assert [m["update_count"] for m in messages if m["type"] == "alert"] == [1, 2, 3]
    assert [m["update_count"] for m in messages if m["type"] == "price_update"] == [3]


def test_settled_updates_precede_what_is_said_last() -> None:
    outbox = Outbox(JSON)
    outbox.keep_batch(Batch([update("price:XAUUSD", 1), update("price:XAUUSD", 2)], JSON))
    outbox.settle()
    outbox.keep_lossless(answer(1))
    first, second = messages_in(drain(outbox))
    assert (first["update_count"], first["conflated"], second["type"]) == (2, 2, "error")


def test_lossless_bytes_count_what_was_not_taken_yet() -> None:
    outbox = Outbox(JSON)
    frames = [answer(number, TAKE_BYTES // 2) for number in range(6)]
    for frame in frames:
        outbox.keep_lossless(frame)
    assert outbox.lossless_bytes == sum(map(len, frames))
    taken = outbox.take()
    assert outbox.lossless_bytes == sum(map(len, frames)) - len(taken)
    assert outbox.owes


def test_one_take_is_bounded_so_that_what_waits_behind_it_can_still_be_conflated() -> None:
    outbox = Outbox(JSON)
    for number in range(10):
        outbox.keep_lossless(answer(number, TAKE_BYTES // 4))
    outbox.keep_batch(Batch([update("price:XAUUSD", 1)], JSON))
    first = outbox.take()
    assert TAKE_BYTES <= len(first) < TAKE_BYTES + len(answer(0, TAKE_BYTES // 4))
    outbox.keep_batch(Batch([update("price:XAUUSD", 2)], JSON))
    (last,) = messages_in(drain(outbox))[-1:]
    assert (last["update_count"], last["conflated"]) == (2, 2)


def test_what_must_arrive_gets_out_however_much_is_published_meanwhile() -> None:
    outbox = Outbox(JSON)
    outbox.keep_lossless(answer(1, 10 * TAKE_BYTES))
    for count in range(1, 1000):
        outbox.keep_batch(Batch([update(f"price:S{number}", count) for number in range(200)], JSON))
        data = outbox.take()
        outbox.keep_rest(data[1000:])
        if not outbox.owes:
            break
    else:
        pytest.fail("the answer is still not out")


def test_the_channel_that_waited_longest_goes_first_however_often_others_change() -> None:
    outbox = Outbox(JSON)
    for count in (1, 2, 3):
        for channel in CHANNELS:
            outbox.keep_batch(Batch([update(channel, count)], JSON))
    assert [f"price:{m['data']['symbol']}" for m in messages_in(drain(outbox))] == list(CHANNELS)


@pytest.mark.parametrize("encoding", [JSON, MSGPACK, compressed(JSON, 12)])
@given(counts=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=12), data=st.data())
def test_wherever_a_batch_is_cut_every_update_is_accounted_for(
    encoding: Encoding, counts: list[str], data: st.DataObject
) -> None:
    so_far: Counter[str] = Counter()
    updates = []
    for channel in counts:
        so_far[channel] += 1
        updates.append(update(channel, so_far[channel]))
    batch = Batch(updates, encoding)
    written = data.draw(st.integers(0, len(batch.data) - 1))
    outbox = Outbox(encoding)
    outbox.keep_batch(batch, written)
    stood_for: Counter[str] = Counter()
    for message in messages_in(batch.data[:written] + drain(outbox), encoding):
        stood_for[f"price:{message['data']['symbol']}"] += message.get("conflated", 1)
    assert stood_for == so_far


class SlowClient(RuleBasedStateMachine):
    """One client whose socket takes as many bytes as it likes, whenever it likes."""

    @initialize(encoding=st.sampled_from([JSON, MSGPACK, compressed(JSON, 12)]))
    def start(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.outbox = Outbox(encoding)
        self.stream = b""
        self.counts: Counter[str] = Counter()
        self.dropped: dict[str, int] = defaultdict(int)
        self.answers = 0
        self.settled = False

    def write(self, data: bytes, room: int) -> int:
        self.stream += data[:room]
        return min(room, len(data))

    @precondition(lambda self: not self.settled)
    @rule(channels=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=6), room=st.integers(0, 2000))
    def publish(self, channels: list[str], room: int) -> None:
        updates = []
        for channel in channels:
            self.counts[channel] += 1
            updates.append(update(channel, self.counts[channel]))
        batch = Batch(updates, self.encoding)
        # As the stream does: straight into the socket only while nothing waits.
        written = 0 if self.outbox else self.write(batch.data, room)
        if written < len(batch.data):
            self.outbox.keep_batch(batch, written)

    @rule(size=st.sampled_from([0, 0, 100, TAKE_BYTES + 1]), room=st.integers(0, 300))
    def say(self, size: int, room: int) -> None:
        self.answers += 1
        frame = answer(self.answers, size, self.encoding)
        if self.outbox:
            self.outbox.keep_lossless(frame)
        elif (written := self.write(frame, room)) < len(frame):
            self.outbox.keep_rest(frame[written:])

    @rule(channel=st.sampled_from(CHANNELS))
    def drop(self, channel: str) -> None:
        self.dropped[channel] += self.outbox.drop_channel(channel)

    @rule(room=st.integers(0, 3 * TAKE_BYTES))
    def flush(self, room: int) -> None:
        data = self.outbox.take()
        self.outbox.keep_rest(data[self.write(data, room) :])

    @rule()
    def settle(self) -> None:
        self.settled = True
        self.outbox.settle()

    @invariant()
    def what_leaves_is_whole_frames_that_add_up(self) -> None:
        if not hasattr(self, "outbox"):
            return
        # A copy that is drained shows what the client would have seen in the end.
        rest = Outbox(self.encoding)
        for name in ("_rest", "_lossless", "_lossless_bytes", "_latest"):
            value = getattr(self.outbox, name)
            setattr(rest, name, value.copy() if hasattr(value, "copy") else value)
        messages = messages_in(self.stream + drain(rest), self.encoding)

        said = [m["data"]["message"] for m in messages if m["type"] == "error"]
        assert [int(text.partition(":")[0]) for text in said] == list(range(1, self.answers + 1))

        last: dict[str, int] = defaultdict(int)
        skipped: dict[str, int] = defaultdict(int)
        for message in messages:
            if message["type"] == "price_update":
                channel = f"price:{message['data']['symbol']}"
                count, conflated = message["update_count"], message.get("conflated", 1)
                assert conflated >= 1
                skipped[channel] += count - last[channel] - conflated
                assert count > last[channel]
                last[channel] = count
        for channel in CHANNELS:
            # A jump is what was conflated, or what was dropped with the channel.
            missing = skipped[channel] + self.counts[channel] - last[channel]
            assert missing == self.dropped[channel]

        assert not (self.settled and self.outbox._latest)
        assert self.outbox.lossless_bytes == sum(map(len, self.outbox._lossless))


TestSlowClient = SlowClient.TestCase

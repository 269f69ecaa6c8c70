from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aurexd.mailbox import MAX_WAITING, Mailbox
from tests.updates import alert

ids = st.sampled_from([f"a{n}" for n in range(1, 8)])


@given(st.lists(st.tuples(st.booleans(), ids)))
def test_an_alert_waits_until_it_is_acknowledged_and_no_longer(steps: list[tuple[bool, str]]) -> None:
    mailbox = Mailbox()
    waiting: dict[str, int] = {}
    for count, (comes, alert_id) in enumerate(steps, 1):
        if comes and alert_id not in waiting:
            assert mailbox.put(alert(count, alert_id)) is None
            waiting[alert_id] = count
        elif not comes:
            mailbox.acknowledge([alert_id])
            waiting.pop(alert_id, None)
        assert [(m.data.alert_id, m.update_count) for m in mailbox.waiting()] == list(waiting.items())
        assert bool(mailbox) == bool(waiting)


def test_the_oldest_gives_way_when_nobody_ever_acknowledges() -> None:
    mailbox = Mailbox()
    for count in range(1, MAX_WAITING + 1):
        assert mailbox.put(alert(count)) is None
    oldest = mailbox.put(alert(MAX_WAITING + 1))
    assert oldest is not None
    assert oldest.data.alert_id == "a1"
    assert len(mailbox.waiting()) == MAX_WAITING

"""What the alert messages carry: rules, conditions, fired alerts. When a rule fires is decided elsewhere."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from aurexd.market import Instrument, Quality
from aurexd.protocol.data import Input, Output, Timestamp

Window = Annotated[float, Meta(gt=0, le=31 * 86_400, description="Seconds, up to 31 days.")]
RuleId = Annotated[str, Meta(max_length=64, description="Names the rule.")]
AlertId = Annotated[str, Meta(max_length=64)]
Symbol = Annotated[str, Meta(max_length=16, description="`XAUUSD`.")]
Level = Annotated[Decimal, Meta(description="A price.")]
Hysteresis = Annotated[
    Decimal | None, Meta(description="The price must come back this far before the rule is armed again.")
]
Cooldown = Annotated[float, Meta(ge=0, description="Seconds between two alerts of it, at least.")]
Expires = Annotated[Timestamp | None, Meta(description="Null: never.")]
SnoozedUntil = Annotated[Timestamp | None, Meta(description="It does not fire before; null: not snoozed.")]
Note = Annotated[str, Meta(max_length=200, description="The owner's own words; sent with the alert.")]


class Condition(Input, frozen=True, kw_only=True, gc=False, tag_field="kind"):
    """Base of all conditions, told apart by `kind`."""


class Above(Condition, frozen=True, kw_only=True, gc=False, tag="above"):
    """The price is above the level, be it from the start."""

    level: Level


class Below(Condition, frozen=True, kw_only=True, gc=False, tag="below"):
    """The price is below the level, be it from the start."""

    level: Level


class CrossesUp(Condition, frozen=True, kw_only=True, gc=False, tag="crosses_up"):
    """The price moves from the level or below to above it."""

    level: Level


class CrossesDown(Condition, frozen=True, kw_only=True, gc=False, tag="crosses_down"):
    """The price moves from the level or above to below it."""

    level: Level


class Direction(StrEnum):
    """Which moves count."""

    UP = "up"
    DOWN = "down"
    EITHER = "either"


class Moves(Condition, frozen=True, kw_only=True, gc=False, tag="moves"):
    """The price moves by so much within the window."""

    amount: Annotated[Decimal, Meta(description="In units of the price.")]
    window_s: Window
    direction: Direction = Direction.EITHER


class MovesPercent(Condition, frozen=True, kw_only=True, gc=False, tag="moves_percent"):
    """The price moves by so many percent within the window."""

    percent: Decimal
    window_s: Window
    direction: Direction = Direction.EITHER


class LeavesRange(Condition, frozen=True, kw_only=True, gc=False, tag="leaves_range"):
    """The price moves from within the range to outside it."""

    low: Level
    high: Level


class NewHigh(Condition, frozen=True, kw_only=True, gc=False, tag="new_high"):
    """The price is higher than any within the window."""

    window_s: Window


class NewLow(Condition, frozen=True, kw_only=True, gc=False, tag="new_low"):
    """The price is lower than any within the window."""

    window_s: Window


class BecomesStale(Condition, frozen=True, kw_only=True, gc=False, tag="becomes_stale"):
    """The symbol's quality becomes `stale`."""


class MarketOpens(Condition, frozen=True, kw_only=True, gc=False, tag="market_opens"):
    """The symbol's market opens."""


class MarketCloses(Condition, frozen=True, kw_only=True, gc=False, tag="market_closes"):
    """The symbol's market closes."""


AnyCondition = (
    Above
    | Below
    | CrossesUp
    | CrossesDown
    | Moves
    | MovesPercent
    | LeavesRange
    | NewHigh
    | NewLow
    | BecomesStale
    | MarketOpens
    | MarketCloses
)


class Repeat(StrEnum):
    """How often a rule may fire."""

    ONCE = "once"
    EVERY_TIME = "every_time"
    ONCE_PER_SESSION = "once_per_session"


class RuleState(StrEnum):
    """What a rule is doing."""

    ARMED = "armed"
    DISARMED = "disarmed"
    RESTING = "resting"
    SNOOZED = "snoozed"
    DONE = "done"
    EXPIRED = "expired"


# --- what a client sends ---


class AlertCreateData(Input, frozen=True, kw_only=True, gc=False):
    """A rule to be."""

    symbol: Symbol
    condition: Annotated[AnyCondition, Meta(description="When it fires.")]
    repeat: Annotated[Repeat, Meta(description="How often it may fire; `once` unless said.")] = Repeat.ONCE
    hysteresis: Hysteresis = None
    cooldown_s: Cooldown = 0
    expires: Expires = None
    snoozed_until: SnoozedUntil = None
    note: Note = ""


class AlertListData(Input, frozen=True, kw_only=True, gc=False):
    """Which rules are meant."""

    symbol: Annotated[Symbol | None, Meta(description="Only this symbol's; null: all.")] = None


class AlertUpdateData(Input, frozen=True, kw_only=True, gc=False):
    """What to change; a field that is not there stays as it is."""

    rule_id: RuleId
    condition: AnyCondition | UnsetType = UNSET
    repeat: Repeat | UnsetType = UNSET
    hysteresis: Decimal | UnsetType | None = UNSET
    cooldown_s: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    expires: Timestamp | UnsetType | None = UNSET
    snoozed_until: Timestamp | UnsetType | None = UNSET
    note: Note | UnsetType = UNSET


class AlertDeleteData(Input, frozen=True, kw_only=True, gc=False):
    """The rule to delete."""

    rule_id: RuleId


class AlertAckData(Input, frozen=True, kw_only=True, gc=False):
    """The alerts that have arrived."""

    alert_ids: Annotated[
        list[AlertId], Meta(min_length=1, max_length=100, description="They are not sent again.")
    ]


# --- what the server sends ---


class AlertRule(Output, frozen=True, kw_only=True, gc=False):
    """A rule as it is kept."""

    rule_id: RuleId
    owner: Annotated[str, Meta(description="The only one who sees it.")]
    state: Annotated[
        RuleState,
        Meta(
            description="`disarmed`: the price must come back first; `resting`: for its `cooldown_s`, or until the "
            "next session; `done`: it fired as often as it may."
        ),
    ]
    symbol: Symbol
    condition: Annotated[AnyCondition, Meta(description="When it fires.")]
    repeat: Annotated[Repeat, Meta(description="How often it may fire.")]
    hysteresis: Hysteresis
    cooldown_s: Cooldown
    expires: Expires
    snoozed_until: SnoozedUntil
    note: Note
    created: Annotated[Timestamp, Meta(description="When it was made.")]
    fired_count: Annotated[int, Meta(description="How often it has fired.")]
    last_fired: Annotated[
        Timestamp | None, Meta(description="`fired` of its newest alert; null: it has none.")
    ]


class AlertRuleData(Output, frozen=True, kw_only=True, gc=False):
    """The rule, durable now."""

    rule: Annotated[AlertRule, Meta(description="As it is now.")]


class AlertListedData(Output, frozen=True, kw_only=True, gc=False):
    """The owner's rules."""

    rules: Annotated[list[AlertRule], Meta(description="Oldest first.")]


class AlertDeletedData(Output, frozen=True, kw_only=True, gc=False):
    """The rule that is gone."""

    rule_id: RuleId


class AlertAckedData(Output, frozen=True, kw_only=True, gc=False):
    """The alerts that will not be sent again."""

    alert_ids: Annotated[list[AlertId], Meta(description="Those that were named.")]


class AlertData(Output, frozen=True, kw_only=True, gc=False):
    """A rule fired."""

    alert_id: Annotated[str, Meta(description="To acknowledge it by, and to know it when it is sent again.")]
    rule_id: RuleId
    symbol: Symbol
    condition: Annotated[AnyCondition, Meta(description="As it was when it fired.")]
    close: Annotated[Decimal | None, Meta(description="The price that fired it; null where none did.")]
    previous_close: Annotated[Decimal | None, Meta(description="The accepted price before.")]
    source: Annotated[str | None, Meta(description="Of that price.")]
    instrument: Annotated[Instrument, Meta(description="What is quoted.")]
    quality: Annotated[Quality, Meta(description="Of that price.")]
    timestamp: Annotated[Timestamp, Meta(description="The source's time of that price.")]
    fired: Annotated[Timestamp, Meta(description="When that price arrived.")]
    late: Annotated[bool, Meta(description="It may have happened while aurexd was down, or could not store.")]
    paused_until: Annotated[
        Timestamp | None,
        Meta(description="Too many alerts: the rule is snoozed until then; null: it is not."),
    ]
    redelivered: Annotated[bool, Meta(description="It may have been sent before; it was not acknowledged.")]
    note: Annotated[str, Meta(description="The rule's.")]

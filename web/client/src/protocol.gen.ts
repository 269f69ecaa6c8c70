/** Every message of the WebSocket. Made by `npm run generate` from the daemon's own types; a check fails when it is stale. */

export type ClientMessage =
  Auth | Subscribe | Unsubscribe | Snapshot | Ping | AlertCreate | AlertList | AlertUpdate | AlertDelete | AlertAck;
export type ServerMessage =
  | Authenticated
  | Subscribed
  | Unsubscribed
  | SnapshotSent
  | Pong
  | AlertCreated
  | AlertListed
  | AlertUpdated
  | AlertDeleted
  | AlertAcked
  | ErrorMessage
  | Welcome
  | Heartbeat
  | GoingAway
  | TokenExpiring
  | PriceUpdate
  | Status
  | Candle
  | Alert
  | News
  | Sentiment
  | Signal;
/**
 * Which moves count.
 */
export type Direction = "down" | "either" | "up";
/**
 * How often a rule may fire.
 */
export type Repeat = "every_time" | "once" | "once_per_session";
/**
 * What a rule is doing.
 */
export type RuleState = "armed" | "disarmed" | "done" | "expired" | "resting" | "snoozed";
/**
 * Whether clients must show who they are.
 */
export type AuthMode = "open" | "token";
/**
 * What a source really quotes. A symbol has one instrument and never changes it.
 */
export type Instrument = "fix" | "future" | "spot" | "test" | "token";
/**
 * How far a price can be trusted now.
 */
export type Quality = "closed" | "delayed" | "live" | "simulated" | "stale";
/**
 * Whether the symbol's market trades now.
 */
export type MarketState = "closed" | "open";
/**
 * Where a signal points.
 */
export type SignalDirection = "down" | "neutral" | "up";

/**
 * Show who you are. Also renews a token in mid-session: one of the same user.
 */
export interface Auth {
  type: "auth";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data: AuthData;
}
/**
 * Who the client is.
 */
export interface AuthData {
  /**
   * A signed token.
   */
  token: string;
}
/**
 * Add channels to the session; the current message of each follows the answer.
 */
export interface Subscribe {
  type: "subscribe";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data: SubscribeData;
}
/**
 * What to subscribe to.
 */
export interface SubscribeData {
  /**
   * Added to those the session has.
   */
  channels: string[];
  /**
   * For channels seen before: the position of the last message.
   */
  resume?: {
    [k: string]: Position;
  };
}
/**
 * A place in one channel.
 */
export interface Position {
  /**
   * Which run of the counts.
   */
  epoch: string;
  /**
   * The `update_count` of the last message; 0 before the first.
   */
  count: number;
}
/**
 * Take channels from the session. One that it does not have is no error.
 */
export interface Unsubscribe {
  type: "unsubscribe";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data: ChannelsData;
}
/**
 * Which channels are meant.
 */
export interface ChannelsData {
  /**
   * Their names.
   */
  channels: string[];
}
/**
 * Ask for the current message of channels, subscribed or not.
 */
export interface Snapshot {
  type: "snapshot";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data: ChannelsData;
}
/**
 * Ask for a sign of life: for browsers, which cannot send WebSocket pings.
 */
export interface Ping {
  type: "ping";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data?: NothingAsked;
}
/**
 * Nothing: `{}`.
 */
export interface NothingAsked {}
/**
 * Make an alert rule.
 */
export interface AlertCreate {
  type: "alert.create";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data: AlertCreateData;
}
/**
 * A rule to be.
 */
export interface AlertCreateData {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * When it fires.
   */
  condition:
    | Above
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
    | MarketCloses;
  /**
   * How often it may fire; `once` unless said.
   */
  repeat?: Repeat;
  /**
   * The price must come back this far before the rule is armed again.
   */
  hysteresis?: number | null;
  /**
   * Seconds between two alerts of it, at least.
   */
  cooldown_s?: number;
  /**
   * Null: never.
   */
  expires?: string | null;
  /**
   * It does not fire before; null: not snoozed.
   */
  snoozed_until?: string | null;
  /**
   * The owner's own words; sent with the alert.
   */
  note?: string;
}
/**
 * The price is above the level, be it from the start.
 */
export interface Above {
  kind: "above";
  /**
   * A price.
   */
  level: number;
}
/**
 * The price is below the level, be it from the start.
 */
export interface Below {
  kind: "below";
  /**
   * A price.
   */
  level: number;
}
/**
 * The price moves from the level or below to above it.
 */
export interface CrossesUp {
  kind: "crosses_up";
  /**
   * A price.
   */
  level: number;
}
/**
 * The price moves from the level or above to below it.
 */
export interface CrossesDown {
  kind: "crosses_down";
  /**
   * A price.
   */
  level: number;
}
/**
 * The price moves by so much within the window.
 */
export interface Moves {
  kind: "moves";
  /**
   * In units of the price.
   */
  amount: number;
  /**
   * Seconds, up to 31 days.
   */
  window_s: number;
  direction?: Direction;
}
/**
 * The price moves by so many percent within the window.
 */
export interface MovesPercent {
  kind: "moves_percent";
  percent: number;
  /**
   * Seconds, up to 31 days.
   */
  window_s: number;
  direction?: Direction;
}
/**
 * The price moves from within the range to outside it.
 */
export interface LeavesRange {
  kind: "leaves_range";
  /**
   * A price.
   */
  low: number;
  /**
   * A price.
   */
  high: number;
}
/**
 * The price is higher than any within the window.
 */
export interface NewHigh {
  kind: "new_high";
  /**
   * Seconds, up to 31 days.
   */
  window_s: number;
}
/**
 * The price is lower than any within the window.
 */
export interface NewLow {
  kind: "new_low";
  /**
   * Seconds, up to 31 days.
   */
  window_s: number;
}
/**
 * The symbol's quality becomes `stale`.
 */
export interface BecomesStale {
  kind: "becomes_stale";
}
/**
 * The symbol's market opens.
 */
export interface MarketOpens {
  kind: "market_opens";
}
/**
 * The symbol's market closes.
 */
export interface MarketCloses {
  kind: "market_closes";
}
/**
 * Ask for the alert rules.
 */
export interface AlertList {
  type: "alert.list";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data?: AlertListData;
}
/**
 * Which rules are meant.
 */
export interface AlertListData {
  /**
   * Only this symbol's; null: all.
   */
  symbol?: string | null;
}
/**
 * Change an alert rule, snooze it, or wake it.
 */
export interface AlertUpdate {
  type: "alert.update";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data: AlertUpdateData;
}
/**
 * What to change; a field that is not there stays as it is.
 */
export interface AlertUpdateData {
  /**
   * Names the rule.
   */
  rule_id: string;
  condition?:
    | Above
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
    | MarketCloses;
  repeat?: Repeat;
  hysteresis?: number | null;
  cooldown_s?: number;
  expires?: string | null;
  snoozed_until?: string | null;
  /**
   * The owner's own words; sent with the alert.
   */
  note?: string;
}
/**
 * Delete an alert rule.
 */
export interface AlertDelete {
  type: "alert.delete";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data: AlertDeleteData;
}
/**
 * The rule to delete.
 */
export interface AlertDeleteData {
  /**
   * Names the rule.
   */
  rule_id: string;
}
/**
 * Acknowledge alerts: until then they are sent again after a reconnect.
 */
export interface AlertAck {
  type: "alert.ack";
  /**
   * Yours to choose; the answer carries it.
   */
  id?: string | number | null;
  data: AlertAckData;
}
/**
 * The alerts that have arrived.
 */
export interface AlertAckData {
  /**
   * They are not sent again.
   */
  alert_ids: string[];
}
/**
 * Answers `auth`; also follows the `welcome` of a client that showed its token when it connected.
 */
export interface Authenticated {
  type: "authenticated";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: AuthenticatedData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * Who the server takes the client for.
 */
export interface AuthenticatedData {
  /**
   * The token's subject.
   */
  user: string;
  /**
   * What it may do.
   */
  scopes: string[];
  /**
   * Send a new `auth` before this.
   */
  expires: string;
}
/**
 * Answers `subscribe`; says where each channel stands. Snapshots or missed messages follow.
 */
export interface Subscribed {
  type: "subscribed";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: SubscribedData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * Where each of the channels stands.
 */
export interface SubscribedData {
  /**
   * Those that were asked for.
   */
  channels: {
    [k: string]: SubscribedPosition;
  };
}
/**
 * Where a channel stands, and what follows.
 */
export interface SubscribedPosition {
  /**
   * Which run of the counts.
   */
  epoch: string;
  /**
   * What `update_count` is now; 0 before the first message.
   */
  count: number;
  /**
   * True: the missed messages follow, in order. False: the current snapshot follows.
   */
  recovered: boolean;
}
/**
 * Answers `unsubscribe`; nothing of these channels follows. Without an `id` also where a session loses channels.
 */
export interface Unsubscribed {
  type: "unsubscribed";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: UnsubscribedData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * What is no longer sent.
 */
export interface UnsubscribedData {
  /**
   * Those that were asked for.
   */
  channels: string[];
}
/**
 * Answers `snapshot`; the current message of each channel that has one follows.
 */
export interface SnapshotSent {
  type: "snapshot_sent";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: SnapshotSentData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * Where each of the channels stands; its current message follows.
 */
export interface SnapshotSentData {
  /**
   * Those that were asked for.
   */
  channels: {
    [k: string]: CurrentPosition;
  };
}
/**
 * Where a channel stands.
 */
export interface CurrentPosition {
  /**
   * Which run of the counts.
   */
  epoch: string;
  /**
   * What `update_count` is now; 0 before the first message.
   */
  count: number;
}
/**
 * Answers `ping`.
 */
export interface Pong {
  type: "pong";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: NothingSaid;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * Nothing: `{}`.
 */
export interface NothingSaid {}
/**
 * Answers `alert.create`, once the rule is durable.
 */
export interface AlertCreated {
  type: "alert.created";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: AlertRuleData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * The rule, durable now.
 */
export interface AlertRuleData {
  /**
   * As it is now.
   */
  rule: AlertRule;
}
/**
 * A rule as it is kept.
 */
export interface AlertRule {
  /**
   * Names the rule.
   */
  rule_id: string;
  /**
   * The only one who sees it.
   */
  owner: string;
  /**
   * `disarmed`: the price must come back first; `resting`: for its `cooldown_s`, or until the next session; `done`: it fired as often as it may.
   */
  state: RuleState;
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * When it fires.
   */
  condition:
    | Above
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
    | MarketCloses;
  /**
   * How often it may fire.
   */
  repeat: Repeat;
  /**
   * The price must come back this far before the rule is armed again.
   */
  hysteresis: number | null;
  /**
   * Seconds between two alerts of it, at least.
   */
  cooldown_s: number;
  /**
   * Null: never.
   */
  expires: string | null;
  /**
   * It does not fire before; null: not snoozed.
   */
  snoozed_until: string | null;
  /**
   * The owner's own words; sent with the alert.
   */
  note: string;
  /**
   * When it was made.
   */
  created: string;
  /**
   * How often it has fired.
   */
  fired_count: number;
  /**
   * `fired` of its newest alert; null: it has none.
   */
  last_fired: string | null;
}
/**
 * Answers `alert.list`.
 */
export interface AlertListed {
  type: "alert.listed";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: AlertListedData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * The owner's rules.
 */
export interface AlertListedData {
  /**
   * Oldest first.
   */
  rules: AlertRule[];
}
/**
 * Answers `alert.update`, once the change is durable.
 */
export interface AlertUpdated {
  type: "alert.updated";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: AlertRuleData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * Answers `alert.delete`, once that is durable.
 */
export interface AlertDeleted {
  type: "alert.deleted";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: AlertDeletedData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * The rule that is gone.
 */
export interface AlertDeletedData {
  /**
   * Names the rule.
   */
  rule_id: string;
}
/**
 * Answers `alert.ack`.
 */
export interface AlertAcked {
  type: "alert.acked";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: AlertAckedData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * The alerts that will not be sent again.
 */
export interface AlertAckedData {
  /**
   * Those that were named.
   */
  alert_ids: string[];
}
/**
 * Answers a message that was not acted on; without one, says why the session is about to end.
 */
export interface ErrorMessage {
  type: "error";
  /**
   * The request's, if it had one.
   */
  id?: string | number;
  data: ErrorData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * What is wrong.
 */
export interface ErrorData {
  /**
   * One of the error codes; there may come more.
   */
  code: string;
  /**
   * For people: what, where, and what to do.
   */
  message: string;
  /**
   * Wait at least this long.
   */
  retry_after_ms?: number;
}
/**
 * The first message of a session.
 */
export interface Welcome {
  type: "welcome";
  data: WelcomeData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * What the session may rely on.
 */
export interface WelcomeData {
  /**
   * Names the session in the server's log.
   */
  session: string;
  /**
   * Of aurexd.
   */
  version: string;
  /**
   * Which run of the counts; another one means: start over.
   */
  epoch: string;
  /**
   * The server's clock.
   */
  server_time: string;
  /**
   * `token`: until `authenticated` has come, only `auth` and `ping` are acted on.
   */
  auth: AuthMode;
  /**
   * How either end notices a dead line.
   */
  heartbeat: HeartbeatData;
  /**
   * What the session may ask of the server.
   */
  limits: LimitsData;
}
/**
 * How either end notices that the line is dead.
 */
export interface HeartbeatData {
  /**
   * A client that was silent so long is pinged.
   */
  ping_interval_s: number;
  /**
   * It is closed with 4002 when no answer comes within this.
   */
  pong_timeout_s: number;
  /**
   * A line silent so long gets a `heartbeat`: three times that means dead.
   */
  silence_s: number;
}
/**
 * What the session may ask of the server.
 */
export interface LimitsData {
  /**
   * Of one message to the server.
   */
  max_message_bytes: number;
  /**
   * To the server, sustained; two seconds' worth at once.
   */
  max_messages_per_second: number;
  /**
   * WebSocket pings and pongs to the server; two seconds' worth at once.
   */
  max_control_frames_per_second: number;
  /**
   * Subscribed to at the same time.
   */
  max_channels: number;
  /**
   * A session without a channel that says nothing for so long is closed; 0: never.
   */
  idle_timeout_s: number;
  /**
   * Of answers that may wait for a slow reader.
   */
  send_queue_bytes: number;
  /**
   * Until a token must be shown; absent where none is asked for.
   */
  auth_timeout_s?: number;
}
/**
 * Only when the line was silent for `silence_s`.
 */
export interface Heartbeat {
  type: "heartbeat";
  data: NothingSaid;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * The server stops; a close with 4000 follows.
 */
export interface GoingAway {
  type: "going_away";
  data: GoingAwayData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * The server is about to close the session.
 */
export interface GoingAwayData {
  /**
   * For people.
   */
  reason: string;
  /**
   * Come back after this long; different for each client.
   */
  retry_after_ms: number;
}
/**
 * The session's token expires soon; a close with 4006 follows, unless a new one comes.
 */
export interface TokenExpiring {
  type: "token_expiring";
  data: TokenExpiringData;
  /**
   * When the server sent it.
   */
  timestamp: string;
}
/**
 * The session is about to end, unless its token is renewed.
 */
export interface TokenExpiringData {
  /**
   * Send a new `auth` before this.
   */
  expires: string;
}
/**
 * Channel `price:SYMBOL`: the symbol's price. None comes before there is a price.
 */
export interface PriceUpdate {
  type: "price_update";
  data: PriceData;
  /**
   * When the server sent it.
   */
  timestamp: string;
  /**
   * The channel's messages in this epoch so far, this one included.
   */
  update_count: number;
  /**
   * How many of the channel's messages this one stands for; absent: one.
   */
  conflated?: number;
}
/**
 * What a symbol costs. Numbers are rounded to the symbol's decimals.
 */
export interface PriceData {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * The mid where bid and ask are quoted, else the last price.
   */
  close: number;
  /**
   * Against the previous session's close; null while that is unknown.
   */
  change: number | null;
  /**
   * The same in percent.
   */
  change_pct: number | null;
  /**
   * The source's time of this price.
   */
  timestamp: string;
  /**
   * Null where the source quotes none.
   */
  bid: number | null;
  /**
   * Null where the source quotes none.
   */
  ask: number | null;
  /**
   * Who says so; `consensus`: several.
   */
  source: string;
  /**
   * What is quoted; a symbol never changes it.
   */
  instrument: Instrument;
  /**
   * How far the price can be trusted.
   */
  quality: Quality;
  /**
   * Of a consensus: the price lies within this much of `close`; see the policies.
   */
  confidence?: number;
  /**
   * Of a consensus: the sources it is made of.
   */
  votes?: string[];
  /**
   * True: the price before was another source's, or other sources', so that part of the step between may not be the market's.
   */
  rebased?: boolean;
}
/**
 * Channel `status:SYMBOL`: quality, source or market state changed, be it without a tick.
 */
export interface Status {
  type: "status";
  data: StatusData;
  /**
   * When the server sent it.
   */
  timestamp: string;
  /**
   * The channel's messages in this epoch so far, this one included.
   */
  update_count: number;
  /**
   * How many of the channel's messages this one stands for; absent: one.
   */
  conflated?: number;
}
/**
 * How far a symbol's price can be trusted now.
 */
export interface StatusData {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * Of the latest price, as of now.
   */
  quality: Quality;
  /**
   * Who carries the price; null while nobody ever did.
   */
  source: string | null;
  /**
   * What is quoted.
   */
  instrument: Instrument;
  /**
   * Whether it trades now.
   */
  market: MarketState;
  /**
   * For people: why it is so.
   */
  reason: string;
  /**
   * When it became so.
   */
  since: string;
}
/**
 * Channel `candle:SYMBOL:INTERVAL`: the candle under way, and its last state.
 */
export interface Candle {
  type: "candle";
  data: CandleData;
  /**
   * When the server sent it.
   */
  timestamp: string;
  /**
   * The channel's messages in this epoch so far, this one included.
   */
  update_count: number;
  /**
   * How many of the channel's messages this one stands for; absent: one.
   */
  conflated?: number;
}
/**
 * The prices of one interval.
 */
export interface CandleData {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * 1s, 1m, 5m, 15m, 1h, 4h or 1d.
   */
  interval: string;
  /**
   * Of the interval, inclusive.
   */
  start: string;
  /**
   * Of the interval, exclusive.
   */
  end: string;
  /**
   * The first `close` of a `price_update` in it.
   */
  open: number;
  /**
   * The highest.
   */
  high: number;
  /**
   * The lowest.
   */
  low: number;
  /**
   * The last so far.
   */
  close: number;
  /**
   * How many prices made it.
   */
  ticks: number;
  /**
   * What is quoted.
   */
  instrument: Instrument;
  /**
   * The interval is over.
   */
  final: boolean;
  /**
   * How often a late tick changed it when it was final already; else 0.
   */
  revision: number;
  /**
   * Taken from a provider's history: aurexd was not there.
   */
  filled: boolean;
}
/**
 * Channel `alert`: one of the owner's rules fired. Counted per owner, never conflated.
 */
export interface Alert {
  type: "alert";
  data: AlertData;
  /**
   * When the server sent it.
   */
  timestamp: string;
  /**
   * The channel's messages in this epoch so far, this one included.
   */
  update_count: number;
  /**
   * How many of the channel's messages this one stands for; absent: one.
   */
  conflated?: number;
}
/**
 * A rule fired.
 */
export interface AlertData {
  /**
   * To acknowledge it by, and to know it when it is sent again.
   */
  alert_id: string;
  /**
   * Names the rule.
   */
  rule_id: string;
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * As it was when it fired.
   */
  condition:
    | Above
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
    | MarketCloses;
  /**
   * The price that fired it; null where none did.
   */
  close: number | null;
  /**
   * The accepted price before.
   */
  previous_close: number | null;
  /**
   * Of that price.
   */
  source: string | null;
  /**
   * What is quoted.
   */
  instrument: Instrument;
  /**
   * Of that price.
   */
  quality: Quality;
  /**
   * The source's time of that price.
   */
  timestamp: string;
  /**
   * When that price arrived.
   */
  fired: string;
  /**
   * It may have happened while aurexd was down, or could not store.
   */
  late: boolean;
  /**
   * Too many alerts: the rule is snoozed until then; null: it is not.
   */
  paused_until: string | null;
  /**
   * It may have been sent before; it was not acknowledged.
   */
  redelivered: boolean;
  /**
   * The rule's.
   */
  note: string;
}
/**
 * Channel `news`. Never conflated.
 */
export interface News {
  type: "news";
  data: NewsData;
  /**
   * When the server sent it.
   */
  timestamp: string;
  /**
   * The channel's messages in this epoch so far, this one included.
   */
  update_count: number;
  /**
   * How many of the channel's messages this one stands for; absent: one.
   */
  conflated?: number;
}
/**
 * One piece of news. Text from outside: show it as text, never as markup.
 */
export interface NewsData {
  /**
   * The same piece keeps it.
   */
  news_id: string;
  /**
   * One line of text.
   */
  headline: string;
  /**
   * Null where the publisher gives none.
   */
  summary: string | null;
  /**
   * http or https.
   */
  url: string | null;
  /**
   * Who says so.
   */
  publisher: string;
  /**
   * Those it concerns.
   */
  symbols: string[];
  /**
   * When it was published.
   */
  timestamp: string;
}
/**
 * Channel `sentiment:SYMBOL`.
 */
export interface Sentiment {
  type: "sentiment";
  data: SentimentData;
  /**
   * When the server sent it.
   */
  timestamp: string;
  /**
   * The channel's messages in this epoch so far, this one included.
   */
  update_count: number;
  /**
   * How many of the channel's messages this one stands for; absent: one.
   */
  conflated?: number;
}
/**
 * The mood about a symbol.
 */
export interface SentimentData {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * −1: all negative, 1: all positive.
   */
  score: number;
  /**
   * How many texts it was taken from.
   */
  samples: number;
  /**
   * How far back they go.
   */
  window_s: number;
  /**
   * Who says so.
   */
  source: string;
  /**
   * As of when.
   */
  timestamp: string;
}
/**
 * Channel `signal:SYMBOL`.
 */
export interface Signal {
  type: "signal";
  data: SignalData;
  /**
   * When the server sent it.
   */
  timestamp: string;
  /**
   * The channel's messages in this epoch so far, this one included.
   */
  update_count: number;
  /**
   * How many of the channel's messages this one stands for; absent: one.
   */
  conflated?: number;
}
/**
 * What an indicator says about a symbol.
 */
export interface SignalData {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * Of the indicator.
   */
  name: string;
  /**
   * Where it points.
   */
  direction: SignalDirection;
  /**
   * 0: a guess, 1: certain.
   */
  confidence: number;
  /**
   * For people.
   */
  reason: string;
  /**
   * The source's time of the price that made it.
   */
  timestamp: string;
}

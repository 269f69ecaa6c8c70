/** What the daemon answers over HTTP. Made by `npm run generate` from the daemon's own types; a check fails when it is stale. */
import type { AlertData, AlertRule, Instrument, MarketState, Quality, StatusData } from "./protocol.gen.js";

/**
 * Can aurexd store?
 */
export type StoreState = "degraded" | "failed" | "off" | "ok" | "opening";
/**
 * What a source's actor is doing.
 */
export type SourceState = "connected" | "connecting" | "failed" | "finished" | "parked" | "paused" | "waiting";
/**
 * Whether a source has a part in the price, and why not.
 */
export type Standing = "counts" | "market_closed" | "no_price" | "outranked" | "returning" | "stale" | "worse_quality";

/**
 * What has fired, newest first.
 */
export interface AlertHistory {
  /**
   * The newest `limit` before `before`.
   */
  alerts: KeptAlert[];
  /**
   * Where the alerts before these are; null: there are none.
   */
  next: string | null;
}
/**
 * One alert, as it was sent.
 */
export interface KeptAlert {
  /**
   * As in the message `alert`.
   */
  alert: AlertData;
  /**
   * When its owner had it; null: not yet.
   */
  acknowledged: string | null;
}
/**
 * Why an alert fired.
 */
export interface AlertWhy {
  /**
   * As in the message `alert`.
   */
  alert: AlertData;
  /**
   * When its owner had it; null: not yet.
   */
  acknowledged: string | null;
  /**
   * As it was when it fired.
   */
  rule: AlertRule;
  /**
   * The rule, for people.
   */
  fires_when: string;
  /**
   * Why it fired, for people.
   */
  reason: string;
  /**
   * The price before; null: there was none.
   */
  previous: AlertPrice | null;
  /**
   * The price that fired it; null: no price did.
   */
  price: AlertPrice | null;
}
/**
 * A price that an alert was judged by.
 */
export interface AlertPrice {
  /**
   * The price.
   */
  close: number;
  /**
   * Who said so.
   */
  source: string;
  /**
   * How far it could be trusted.
   */
  quality: Quality;
  /**
   * The source's time.
   */
  timestamp: string;
  /**
   * When it arrived here.
   */
  received: string;
  /**
   * The one before it was another source's, or other sources'.
   */
  rebased: boolean;
  /**
   * Of the table `prices`.
   */
  row: number;
}
/**
 * The candles of one symbol, oldest first.
 */
export interface CandleHistory {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * Of each candle.
   */
  interval: "15m" | "1d" | "1h" | "1m" | "1s" | "4h" | "5m";
  /**
   * Of the range, inclusive; null: as far as there are candles.
   */
  from: string | null;
  /**
   * Of the range, exclusive.
   */
  to: string;
  /**
   * What is quoted.
   */
  instrument: Instrument;
  /**
   * Those that begin in it, the newest `limit`.
   */
  candles: HistoryCandle[];
  /**
   * Times between them that have none.
   */
  gaps: Gap[];
  /**
   * Where the candles before these are; null: there are none.
   */
  next: string | null;
}
/**
 * One candle, as in the message `candle`; its prices have the symbol's decimals.
 */
export interface HistoryCandle {
  /**
   * Of its interval, inclusive.
   */
  start: string;
  /**
   * Of its interval, exclusive.
   */
  end: string;
  /**
   * The first price.
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
   * The last.
   */
  close: number;
  /**
   * How many prices it was made of.
   */
  ticks: number;
  /**
   * The interval is over.
   */
  final: boolean;
  /**
   * How often a late price changed it when it was final.
   */
  revision: number;
  /**
   * Taken from a provider's history: aurexd was not there.
   */
  filled: boolean;
}
/**
 * A time between two candles of the answer that has none.
 */
export interface Gap {
  /**
   * Inclusive.
   */
  from: string;
  /**
   * Exclusive.
   */
  to: string;
}
/**
 * The body of every answer that is an error.
 */
export interface HttpError {
  /**
   * What is wrong.
   */
  error: HttpErrorDetail;
}
/**
 * What is wrong.
 */
export interface HttpErrorDetail {
  /**
   * The answer's status again.
   */
  status: number;
  /**
   * For people: what, where, and what to do.
   */
  message: string;
}
/**
 * The process works.
 */
export interface Health {
  /**
   * Its core actors answer.
   */
  status: "ok";
  /**
   * Of aurexd.
   */
  version: string;
  /**
   * Since the start.
   */
  uptime_s: number;
}
/**
 * The published prices of one symbol, oldest first.
 */
export interface PriceHistory {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * Every price, one by one.
   */
  interval: "tick";
  /**
   * Of the range, inclusive.
   */
  from: string;
  /**
   * Of the range, exclusive.
   */
  to: string;
  /**
   * Those received in it, the newest `limit`.
   */
  prices: HistoryPrice[];
}
/**
 * One published price, as it was stored.
 */
export interface HistoryPrice {
  /**
   * The mid where bid and ask were quoted, else the last price.
   */
  close: number;
  /**
   * Null where the source quoted none.
   */
  bid: number | null;
  /**
   * Null where the source quoted none.
   */
  ask: number | null;
  /**
   * Who said so.
   */
  source: string;
  /**
   * How far it could be trusted.
   */
  quality: Quality;
  /**
   * The source's time.
   */
  timestamp: string;
  /**
   * When it arrived here.
   */
  received: string;
}
/**
 * What a symbol costs now: as in `price_update`, and its age.
 */
export interface LatestPrice {
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
  /**
   * When it arrived here.
   */
  received: string;
  /**
   * Since then.
   */
  age_ms: number;
}
/**
 * Whether clients can be served; how fresh prices are does not count.
 */
export interface Readiness {
  /**
   * They can.
   */
  ready: boolean;
  /**
   * Of the daemon's life.
   */
  phase: "draining" | "serving" | "starting";
  /**
   * By name.
   */
  symbols: {
    [k: string]: SymbolReadiness;
  };
  /**
   * Whether prices are stored.
   */
  store: StoreReadiness;
}
/**
 * How fresh a symbol's price is.
 */
export interface SymbolReadiness {
  /**
   * Of its latest price, as of now.
   */
  quality: Quality;
  /**
   * Whether it trades now.
   */
  market: MarketState;
  /**
   * Who carries the price; null while nobody ever did.
   */
  source: string | null;
  /**
   * For people: why it is so.
   */
  reason: string;
}
/**
 * Whether prices are stored. Counts are ticks since the start.
 */
export interface StoreReadiness {
  /**
   * Whether it can store.
   */
  state: StoreState;
  /**
   * For people: why not, and what to do.
   */
  reason: string | null;
  /**
   * Written.
   */
  stored: number;
  /**
   * In memory, not written yet.
   */
  waiting: number;
  /**
   * Lost, because the memory for them was full.
   */
  dropped: number;
}
/**
 * When symbols had another source, quality or market, newest first.
 */
export interface SourceHistory {
  /**
   * As in the message `status`: the newest `limit` before `before`.
   */
  statuses: StatusData[];
  /**
   * Where the statuses before these are; null: there are none.
   */
  next: string | null;
}
/**
 * Where the prices come from.
 */
export interface Sources {
  /**
   * In the configuration's order.
   */
  sources: SourceInfo[];
  /**
   * In the configuration's order.
   */
  symbols: SymbolInfo[];
}
/**
 * One provider's connection. Counts are since its start.
 */
export interface SourceInfo {
  /**
   * As configured.
   */
  name: string;
  /**
   * Which provider's protocol it speaks.
   */
  type: string;
  /**
   * 1 is asked first.
   */
  priority: number;
  /**
   * Ours → the provider's.
   */
  symbols: {
    [k: string]: string;
  };
  /**
   * Symbol → what is quoted.
   */
  instruments: {
    [k: string]: Instrument;
  };
  /**
   * What it is doing.
   */
  state: SourceState;
  /**
   * When it began that.
   */
  since: string;
  /**
   * Delivered.
   */
  ticks: number;
  /**
   * When the newest arrived.
   */
  last_tick: string | null;
  /**
   * How late that was, less what the provider's clock is known to be ahead.
   */
  lag_ms: number | null;
  /**
   * The provider's clock less ours; null while unknown.
   */
  clock_skew_ms: number | null;
  /**
   * Moves that were refused first and then confirmed.
   */
  jumps: number;
  /**
   * Connections made.
   */
  connections: number;
  /**
   * Connections lost or not made.
   */
  failures: number;
  /**
   * For people: what failed last, and what to do.
   */
  last_error: string | null;
  /**
   * While it waits: when it tries again.
   */
  next_attempt: string | null;
  /**
   * What arrived and could not be used, by reason.
   */
  rejected: {
    [k: string]: number;
  };
}
/**
 * One symbol, and who carries its price.
 */
export interface SymbolInfo {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * What is quoted.
   */
  instrument: Instrument;
  /**
   * Digits after the point that its prices are rounded to.
   */
  decimals: number;
  /**
   * Whether who asks for nothing gets it.
   */
  default: boolean;
  /**
   * Of its latest price, as of now.
   */
  quality: Quality;
  /**
   * Whether it trades now.
   */
  market: MarketState;
  /**
   * Who carries the price; null while nobody ever did.
   */
  source: string | null;
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
 * Clients and messages. Counts are since the daemon's start, but for those of the channels.
 */
export interface Stats {
  /**
   * Of aurexd.
   */
  version: string;
  /**
   * Since the start.
   */
  uptime_s: number;
  /**
   * Streaming sessions now.
   */
  active_connections: number;
  /**
   * Streaming sessions ever opened.
   */
  connections: number;
  /**
   * Streaming sessions for which something waits.
   */
  slow_connections: number;
  /**
   * Channel messages; heartbeats and answers not counted.
   */
  messages_sent: number;
  /**
   * Of these, what sockets took at once, before TLS.
   */
  bytes_sent: number;
  /**
   * Messages that a newer one replaced for a slow client.
   */
  conflated: number;
  /**
   * Published on all channels in this epoch.
   */
  update_count: number;
  /**
   * Of the last minute.
   */
  rates: Rates;
  /**
   * Of the last minute.
   */
  latencies: Latencies;
  /**
   * Which run of the counts.
   */
  epoch: string;
  /**
   * Channel → its `update_count`.
   */
  channels: {
    [k: string]: number;
  };
  /**
   * Symbol → its newest price.
   */
  last_price: {
    [k: string]: LatestPrice;
  };
}
/**
 * By the second, on average over the last minute.
 */
export interface Rates {
  /**
   * Channel messages to clients.
   */
  messages_per_s: number;
  /**
   * Of these, what sockets took at once, before TLS.
   */
  bytes_per_s: number;
  /**
   * Messages published, on all channels.
   */
  updates_per_s: number;
}
/**
 * A price's hops from the source to the clients' sockets.
 */
export interface Latencies {
  /**
   * From its source's time until it was received.
   */
  source: Latency;
  /**
   * Then, until it was decided.
   */
  aggregator: Latency;
  /**
   * Then, until the hub began to write it.
   */
  hub: Latency;
  /**
   * Then, until it was written to a client's socket.
   */
  socket: Latency;
  /**
   * All but the first: from receiving until it was written.
   */
  delivery: Latency;
}
/**
 * How long something took in the last minute, about; null where it did not happen.
 */
export interface Latency {
  /**
   * Half took no longer.
   */
  p50_ms: number | null;
  /**
   * Of a hundred, 99 took no longer.
   */
  p99_ms: number | null;
  /**
   * How many there were.
   */
  count: number;
}
/**
 * From which ticks and by which rules a symbol's price comes, as of now.
 */
export interface WhyPrice {
  /**
   * `XAUUSD`.
   */
  symbol: string;
  /**
   * What is quoted.
   */
  instrument: Instrument;
  /**
   * The price; null: there is none yet.
   */
  price: LatestPrice | null;
  /**
   * How far it can be trusted now.
   */
  quality: Quality;
  /**
   * For people: why that is so.
   */
  reason: string;
  /**
   * When it became so.
   */
  since: string;
  /**
   * How one price is made of several: `priority` or `consensus`.
   */
  policy: string;
  /**
   * Who carries the price; null while nobody ever did.
   */
  source: string | null;
  /**
   * Since when the same sources make it; null: no price was made yet.
   */
  made_since: string | null;
  /**
   * Whether it trades now.
   */
  market: MarketState;
  /**
   * The newest that has begun.
   */
  session: WhySession;
  /**
   * When the market opens or closes next.
   */
  next_change: string;
  /**
   * What `change` is against; null while that is unknown.
   */
  previous_close: number | null;
  /**
   * What it may move in a second without question; 0: all is believed.
   */
  max_jump_pct: number;
  /**
   * How long who was lost must be fresh to count again.
   */
  return_after_s: number;
  /**
   * Each that serves the symbol, in configuration order.
   */
  sources: WhySource[];
  /**
   * The last that were not believed, the newest last.
   */
  refused: WhyRefused[];
}
/**
 * A trading day of the market.
 */
export interface WhySession {
  /**
   * Inclusive.
   */
  start: string;
  /**
   * Exclusive.
   */
  end: string;
}
/**
 * What part one source has in a symbol's price.
 */
export interface WhySource {
  /**
   * As configured.
   */
  source: string;
  /**
   * 1 is asked first; of no account in a consensus.
   */
  priority: number;
  /**
   * `counts`: it makes the price, or has a vote; else why not.
   */
  standing: Standing;
  /**
   * Of its own price while it is fresh; null before the first.
   */
  quality: Quality | null;
  /**
   * Its newest that was believed; null before the first.
   */
  tick: WhyTick | null;
  /**
   * Since then.
   */
  age_ms: number | null;
  /**
   * How old it was then, by what is known of its clock.
   */
  lag_ms: number | null;
  /**
   * How long a tick keeps it fresh.
   */
  stale_after_s: number;
  /**
   * How late it is by design.
   */
  known_delay_s: number;
  /**
   * Until it is stale; null: it is.
   */
  stale_in_ms: number | null;
  /**
   * Until it counts again, after it was lost; null: that keeps it from nothing.
   */
  returns_in_ms: number | null;
  /**
   * How far its clock is known to be ahead of ours.
   */
  clock_ahead_ms: number;
  /**
   * Ticks that were not believed, by reason.
   */
  refused: {
    [k: string]: number;
  };
}
/**
 * A tick as it came from its source.
 */
export interface WhyTick {
  /**
   * Null where it has none.
   */
  bid: number | null;
  /**
   * The same.
   */
  ask: number | null;
  /**
   * The same.
   */
  last: number | null;
  /**
   * Its source's time.
   */
  timestamp: string;
  /**
   * When it arrived here.
   */
  received: string;
}
/**
 * A tick that was not believed.
 */
export interface WhyRefused {
  /**
   * Whose.
   */
  source: string;
  /**
   * Why not.
   */
  reason: string;
  /**
   * As it came.
   */
  tick: WhyTick;
}

/** What the daemon answers over HTTP. Made by `npm run generate` from the daemon's own types; a check fails when it is stale. */
import type { Instrument, Quality } from "./protocol.gen.js";

/**
 * Can aurexd store?
 */
export type StoreState = "degraded" | "failed" | "off" | "ok" | "opening";
/**
 * What a source's actor is doing.
 */
export type SourceState = "connected" | "connecting" | "failed" | "finished" | "parked" | "paused" | "waiting";

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
   * Who says so.
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
   * Streaming sessions now.
   */
  active_connections: number;
  /**
   * Streaming sessions ever opened.
   */
  connections: number;
  /**
   * Channel messages; heartbeats and answers not counted.
   */
  messages_sent: number;
  /**
   * Published on all channels in this epoch.
   */
  update_count: number;
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

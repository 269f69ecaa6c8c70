/** Live gold prices from aurexd. `README.md` says how. */
export { AurexWebSocketClient, getWebSocketClient, type ClientOptions, type WebSocketMessage } from "./client.js";
export type { ConnectionInfo, ConnectionState } from "./feed.js";
export type { TokenReason } from "./connection.js";
export type { Transport } from "./machine.js";
export type { Encoding } from "./codec.js";
export type { Environment } from "./environment.js";
export type { Backoff } from "./backoff.js";
export { AurexError } from "./errors.js";
export { CLOSE_CODES, shouldReconnect } from "./codes.js";
export {
  candleChannel,
  channelOf,
  priceChannel,
  statusChannel,
  type ChannelMessage,
  type Interval,
} from "./channels.js";
export { mergeCandles, type Candle } from "./candles.js";
export type { CandleSeries, CandlesView } from "./series.js";
export type { Alerts, AlertsView } from "./alerts.js";
export type { Condition, RuleView } from "./rules.js";
export type { ReadableStore, Unsubscribe } from "./store.js";
export type {
  AlertCreateData,
  AlertData,
  AlertRule,
  AlertUpdateData,
  CandleData,
  ClientMessage,
  ErrorData,
  Instrument,
  MarketState,
  NewsData,
  PriceData,
  PriceUpdate,
  Quality,
  Repeat,
  RuleState,
  SentimentData,
  ServerMessage,
  SignalData,
  Status,
  StatusData,
} from "./protocol.gen.js";
export type * from "./http.gen.js";
/** All of the protocol's types, by the daemon's names. */
export type * as protocol from "./protocol.gen.js";

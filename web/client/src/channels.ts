/** The channels' names, and which message belongs to which. */
import type { Alert, Candle, News, PriceUpdate, Sentiment, ServerMessage, Signal, Status } from "./protocol.gen.js";

/** What comes on a channel, with a count. */
export type ChannelMessage = PriceUpdate | Status | Candle | Alert | News | Sentiment | Signal;

/** The length of a candle. */
export type Interval = "1s" | "1m" | "5m" | "15m" | "1h" | "4h" | "1d";

export const priceChannel = (symbol: string): string => `price:${symbol}`;
export const statusChannel = (symbol: string): string => `status:${symbol}`;
export const candleChannel = (symbol: string, interval: Interval): string => `candle:${symbol}:${interval}`;

/** The channel that a message belongs to; null for answers and notices, and for what is not known here. */
export function channelOf(message: ServerMessage): string | null {
  switch (message.type) {
    case "price_update":
      return `price:${message.data.symbol}`;
    case "status":
      return `status:${message.data.symbol}`;
    case "candle":
      return `candle:${message.data.symbol}:${message.data.interval}`;
    case "sentiment":
      return `sentiment:${message.data.symbol}`;
    case "signal":
      return `signal:${message.data.symbol}`;
    case "alert":
    case "news":
      return message.type;
    default:
      return null;
  }
}

/** Whether a message came on a channel. */
export function isChannelMessage(message: ServerMessage): message is ChannelMessage {
  return channelOf(message) !== null;
}

/** What this tab has been given of each channel, whichever line or tab it came from: nothing is given twice. Pure. */
import type { ChannelMessage } from "./channels.js";
import { Positions } from "./positions.js";

/** What becomes of a message: `deliver` is null where it is known already; `missed` is not 0 where some are lost before it. */
export interface Judgement {
  readonly deliver: ChannelMessage | null;
  readonly missed: number | null;
  /** What is missing is to be asked for: the message is not the channel's current one. */
  readonly ask: boolean;
}

const DROP: Judgement = { deliver: null, missed: 0, ask: false };

export class Ledger {
  readonly positions = new Positions();
  readonly #latest = new Map<string, ChannelMessage>();

  /** The newest message of a channel. */
  latest(channel: string): ChannelMessage | undefined {
    return this.#latest.get(channel);
  }

  forget(channel: string): void {
    this.positions.forget(channel);
    this.#latest.delete(channel);
  }

  /** A channel's message came; `epoch` is its line's, or null where the line does not count (polling). */
  judge(channel: string, message: ChannelMessage, epoch: string | null): Judgement {
    const known = this.#latest.get(channel);
    let missed: number | null = 0;
    let ask = false;
    if (epoch === null) {
      if (known !== undefined && (isSame(message, known) || isOlder(message, known))) return DROP;
      message = { ...message, update_count: known?.update_count ?? 0 };
    } else if (message.type === "alert" && message.data.redelivered) {
      // Sent again until it is acknowledged, with the count that it had: it says nothing of where the channel stands.
    } else {
      const verdict = this.positions.accept(channel, epoch, message.update_count, message.conflated);
      if (verdict.kind === "repeat") return DROP;
      if (verdict.kind === "snapshot" && known !== undefined && isSame(message, known)) return DROP;
      if (verdict.kind === "gap") {
        missed = verdict.missed;
        ask = !verdict.current;
      }
    }
    this.#latest.set(channel, message);
    return { deliver: message, missed, ask };
  }
}

/** Whether two messages of a channel say the same. */
function isSame(one: ChannelMessage, other: ChannelMessage): boolean {
  return JSON.stringify(one.data) === JSON.stringify(other.data);
}

/** Whether a message tells of a time before another's. */
function isOlder(message: ChannelMessage, known: ChannelMessage): boolean {
  if (message.type === "candle" && known.type === "candle") {
    return Date.parse(message.data.start) < Date.parse(known.data.start);
  }
  if (message.type === "price_update" && known.type === "price_update") {
    return Date.parse(message.data.timestamp) < Date.parse(known.data.timestamp);
  }
  return false;
}

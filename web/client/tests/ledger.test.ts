import fc from "fast-check";
import { expect, test } from "vitest";
import type { ChannelMessage } from "../src/channels.js";
import { Ledger } from "../src/ledger.js";
import type { SubscribedPosition } from "../src/protocol.gen.js";
import { Positions } from "../src/positions.js";
import { alert, candle, price } from "./messages.js";

const CHANNEL = "price:TESTGOLD";

/** A server's channel, as docs/protocol.md describes it: counts, a ring of the newest, resume in full or not at all. */
class Channel {
  readonly ring: ChannelMessage[] = [];
  count = 0;
  epoch = "e1";
  readonly #kept: number;

  constructor(kept: number) {
    this.#kept = kept;
  }

  publish(): ChannelMessage {
    this.count += 1;
    const message = price(2700 + this.count, { update_count: this.count });
    this.ring.push(message);
    if (this.ring.length > this.#kept) this.ring.shift();
    return message;
  }

  crash(): void {
    this.count = 0;
    this.epoch += "x";
    this.ring.length = 0;
  }

  /** The answer to `subscribe`, and what follows it. */
  subscribe(ledger: Ledger): {
    place: SubscribedPosition;
    follows: ChannelMessage[];
  } {
    const resume = ledger.positions.resume([CHANNEL])[CHANNEL];
    const missed = resume?.epoch === this.epoch ? this.count - resume.count : -1;
    const recovered = missed >= 0 && missed <= this.ring.length;
    const follows = recovered ? this.ring.slice(this.ring.length - missed) : this.ring.slice(-1);
    return { place: { epoch: this.epoch, count: this.count, recovered }, follows };
  }
}

/** What the user of a ledger has seen. */
class Seen {
  readonly counts: number[] = [];
  missed = 0;

  take(ledger: Ledger, epoch: string | null, message: ChannelMessage): void {
    const { deliver, missed } = ledger.judge(CHANNEL, message, epoch);
    this.missed += missed ?? 0;
    if (deliver !== null) this.counts.push(deliver.update_count);
  }
}

type Step = { publish: number } | { cutAfter: number };
const steps = fc.array(
  fc.oneof(
    fc.record({ publish: fc.integer({ min: 1, max: 8 }) }),
    // The line breaks when so many of the messages that follow `subscribed` have come, be it not even that one.
    fc.record({ cutAfter: fc.integer({ min: -1, max: 6 }) }),
  ),
  { maxLength: 40 },
);

function play(script: readonly Step[], kept: number): { seen: Seen; channel: Channel } {
  const [channel, ledger, seen] = [new Channel(kept), new Ledger(), new Seen()];
  let connected = false;
  const connect = (cutAfter: number): void => {
    const { place, follows } = channel.subscribe(ledger);
    connected = cutAfter >= follows.length;
    if (cutAfter < 0) return;
    ledger.positions.announce(CHANNEL, place);
    for (const message of follows.slice(0, cutAfter)) seen.take(ledger, channel.epoch, message);
  };
  for (const step of script) {
    if ("cutAfter" in step) {
      connect(step.cutAfter);
    } else {
      for (let n = 0; n < step.publish; n += 1) {
        const message = channel.publish();
        if (connected as boolean) seen.take(ledger, channel.epoch, message);
      }
    }
  }
  connect(Infinity);
  return { seen, channel };
}

test("wherever the line is cut, what the server still has comes once, in order and without a hole", () => {
  fc.assert(
    fc.property(steps, (script) => {
      const { seen, channel } = play(script, 10_000);
      expect(seen.missed).toBe(0);
      const first = seen.counts[0] ?? channel.count + 1;
      expect(seen.counts).toEqual(Array.from({ length: channel.count - first + 1 }, (_, n) => first + n));
    }),
  );
});

test("what the server has no more is told as a gap, of exactly so many", () => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 5 }), (script, kept) => {
      const { seen, channel } = play([{ publish: 1 }, { cutAfter: 1 }, ...script], kept);
      const first = seen.counts[0] ?? channel.count + 1;
      expect(seen.counts.length + seen.missed).toBe(channel.count - first + 1);
      expect(seen.counts).toEqual([...new Set(seen.counts)].sort((a, b) => a - b));
    }),
  );
});

test("a message that stands for several leaves no hole, also where some of them came before", () => {
  const positions = new Positions();
  positions.announce(CHANNEL, { epoch: "e", count: 4 });
  expect(positions.accept(CHANNEL, "e", 4)).toEqual({ kind: "new" });
  expect(positions.accept(CHANNEL, "e", 9, 5)).toEqual({ kind: "new" });
  expect(positions.accept(CHANNEL, "e", 11, 5)).toEqual({ kind: "new" });
  expect(positions.accept(CHANNEL, "e", 14, 2)).toEqual({ kind: "gap", missed: 1, current: false });
  expect(positions.accept(CHANNEL, "e", 13)).toEqual({ kind: "repeat" });
});

test("a snapshot is told again only where it says something else", () => {
  const [ledger, seen] = [new Ledger(), new Seen()];
  const known = price(2700, { update_count: 7 });
  seen.take(ledger, "e", known);
  seen.take(ledger, "e", known);
  expect(seen.counts).toEqual([7]);
  seen.take(ledger, "e", price(2700, { update_count: 7, quality: "stale" }));
  expect(seen.counts).toEqual([7, 7]);
});

test("another epoch begins anew, and nobody can tell how much was missed", () => {
  const [channel, ledger] = [new Channel(10), new Ledger()];
  for (let n = 0; n < 5; n += 1) ledger.judge(CHANNEL, channel.publish(), channel.epoch);
  channel.crash();
  channel.publish();
  const { place, follows } = channel.subscribe(ledger);
  expect(place.recovered).toBe(false);
  ledger.positions.announce(CHANNEL, place);
  expect(follows.map((message) => ledger.judge(CHANNEL, message, channel.epoch))).toEqual([
    { deliver: follows[0], missed: null, ask: false },
  ]);
});

test("the same holds on an event stream, which announces nothing", () => {
  const ledger = new Ledger();
  ledger.judge(CHANNEL, price(2700, { update_count: 5 }), "e1");
  expect(ledger.judge(CHANNEL, price(2701, { update_count: 5 }), "e2").missed).toBeNull();
});

test("only what was really delivered is a place to resume from", () => {
  const positions = new Positions();
  expect(positions.resume([CHANNEL])).toEqual({});
  positions.announce(CHANNEL, { epoch: "e", count: 5 });
  expect(positions.resume([CHANNEL])).toEqual({}); // its snapshot has not come
  positions.accept(CHANNEL, "e", 5);
  expect(positions.resume([CHANNEL])).toEqual({ [CHANNEL]: { epoch: "e", count: 5 } });
  positions.announce("price:QUIET", { epoch: "e", count: 0 });
  expect(positions.resume(["price:QUIET"])).toEqual({ "price:QUIET": { epoch: "e", count: 0 } });
});

test("what is polled counts nothing: only what has changed is told, and nothing older", () => {
  const [ledger, seen] = [new Ledger(), new Seen()];
  seen.take(ledger, "e", price(2700, { update_count: 41, timestamp: "2026-01-01T12:00:05Z" }));
  seen.take(ledger, null, price(2700, { update_count: 0, timestamp: "2026-01-01T12:00:05Z" }));
  seen.take(ledger, null, price(2699, { update_count: 0, timestamp: "2026-01-01T12:00:01Z" }));
  expect(seen.counts).toEqual([41]);
  seen.take(ledger, null, price(2702, { update_count: 0, timestamp: "2026-01-01T12:00:09Z" }));
  expect(seen.counts).toEqual([41, 41]);
  expect(ledger.positions.resume([CHANNEL])).toEqual({ [CHANNEL]: { epoch: "e", count: 41 } });
});

test("a polled candle's last state comes before the next candle", () => {
  const ledger = new Ledger();
  const told = [
    candle({ start: "2026-01-01T12:00:00Z", ticks: 4 }),
    candle({ start: "2026-01-01T12:00:00Z", ticks: 9, final: true }),
    candle({ start: "2026-01-01T12:01:00Z", ticks: 1 }),
    candle({ start: "2026-01-01T12:00:00Z", ticks: 9, final: true }),
  ].map((message) => ledger.judge("candle:TESTGOLD:1m", message, null).deliver?.data);
  expect(told.map((data) => data && "ticks" in data && data.ticks)).toEqual([4, 9, 1, undefined]);
});

test("alerts that are sent again say nothing of where the channel stands", () => {
  const ledger = new Ledger();
  ledger.positions.announce("alert", { epoch: "e", count: 6 });
  for (const count of [3, 5]) {
    expect(ledger.judge("alert", alert({ update_count: count, redelivered: true }), "e").missed).toBe(0);
  }
  expect(ledger.judge("alert", alert({ update_count: 7 }), "e").missed).toBe(0);
  expect(ledger.positions.resume(["alert"])).toEqual({ alert: { epoch: "e", count: 7 } });
});

test("another tab's places are taken where this one has none", () => {
  const positions = new Positions();
  positions.accept(CHANNEL, "e", 5);
  positions.adopt({ [CHANNEL]: { epoch: "e", count: 3 }, news: { epoch: "e", count: 2 } });
  expect(positions.resume([CHANNEL, "news"])).toEqual({
    [CHANNEL]: { epoch: "e", count: 5 },
    news: { epoch: "e", count: 2 },
  });
});

/** A hundred cut points, against the real daemon: what comes has no hole and no repeat, whichever way it comes. */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ClientOptions } from "../src/index.js";
import { clientOf, Daemon, Proxy, until } from "./daemon.js";

const CUTS_PER_CLIENT = 5;
const KINDS: ClientOptions[] = [
  ...Array<ClientOptions>(8).fill({ encoding: "json", transports: ["websocket"] }),
  ...Array<ClientOptions>(8).fill({ encoding: "msgpack", transports: ["websocket"] }),
  ...Array<ClientOptions>(4).fill({ transports: ["events"] }),
];

/** What a client was given: `update_count`, price, and for how many messages this one stands. */
type Given = [count: number, close: number, conflated: number];

let daemon: Daemon;

beforeAll(async () => {
  // A walk with a seed: the same prices for everybody, a hundred a second. More of them are kept than usual, since an
  // event stream is told to come back after some seconds, and may be cut again before anything came.
  daemon = await Daemon.start(`
[realtime]
resume_messages = 10000
[symbols.TESTGOLD]
instrument = "test"
decimals = 2
calendar = "always"
default = true

[[sources]]
name = "script"
type = "simulated"
seed = 7
symbols = { TESTGOLD = "TESTGOLD" }
interval_s = 0.01
`);
});

afterAll(() => daemon.remove());

/** A client that keeps what it is given, and what it was told that it missed. */
function recording(url: string, options: ClientOptions) {
  const client = clientOf(url, { symbols: ["TESTGOLD"], ...options });
  const given: Given[] = [];
  const gaps: unknown[] = [];
  client.onPriceUpdate(({ close }, { update_count: count, conflated = 1 }) => given.push([count, close, conflated]));
  client.onGap((channel, missed) => gaps.push([channel, missed]));
  return { client, given, gaps, last: () => given.at(-1)?.[0] ?? 0 };
}

test("a hundred cuts of a scripted stream leave no hole and no repeat", { timeout: 240_000 }, async () => {
  const whole = recording(daemon.url, {});
  await until(() => whole.given.length > 0, "the uncut stream");
  const cutPoints = fc.sample(fc.integer({ min: 1, max: 18_000 }), { numRuns: KINDS.length * CUTS_PER_CLIENT });
  const cut = await Promise.all(
    KINDS.map(async (options) => {
      const mine = cutPoints.splice(0, CUTS_PER_CLIENT);
      const proxy = await Proxy.before(() => daemon.port);
      proxy.cutAfter = (): number => mine.pop() ?? Infinity;
      return { proxy, ...recording(proxy.url, options) };
    }),
  );
  await until(() => cut.every(({ proxy }) => proxy.cuts === CUTS_PER_CLIENT), "every line was cut", 120_000);
  const end = whole.last() + 10;
  await until(() => [whole, ...cut].every(({ last }) => last() >= end), "everybody has what came after", 60_000);

  whole.client.disconnect();
  expect(cut).toHaveLength(20);
  const prices = new Map(whole.given.map(([count, close]) => [count, close]));
  for (const { client, proxy, given, gaps } of cut) {
    client.disconnect();
    await proxy.close();
    expect(gaps).toEqual([]);
    for (const [n, [count, close, conflated]] of given.entries()) {
      // On a busy machine a client may be a slow reader, who is told so: a step is then as large as it says.
      const step = count - (given[n - 1]?.[0] ?? count - 1);
      expect(step).toBeGreaterThanOrEqual(1);
      expect(step).toBeLessThanOrEqual(conflated);
      if (count <= end && prices.has(count)) expect(close).toBe(prices.get(count));
    }
  }
});

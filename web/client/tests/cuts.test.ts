/** A hundred cut points, against the real daemon: what comes has no hole and no repeat, whichever way it comes. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ClientOptions } from "../src/index.js";
import { clientOf, Daemon, Proxy, until } from "./daemon.js";

const TICKS = 450;
const EVERY_MS = 10;
const CUTS_PER_CLIENT = 5;
const KINDS: ClientOptions[] = [
  ...Array<ClientOptions>(8).fill({ encoding: "json", transports: ["websocket"] }),
  ...Array<ClientOptions>(8).fill({ encoding: "msgpack", transports: ["websocket"] }),
  ...Array<ClientOptions>(4).fill({ transports: ["events"] }),
];

/** The n-th price of the script, from 1. */
const scripted = (n: number): number => (270_000 + n) / 100;

let daemon: Daemon;

beforeAll(() => {
  daemon = new Daemon(`
[symbols.TESTGOLD]
instrument = "test"
decimals = 2
calendar = "always"
default = true

[[sources]]
name = "script"
type = "replay"
file = "FOLDER/script.csv"
symbols = { TESTGOLD = "TESTGOLD" }
`);
  const rows = Array.from({ length: TICKS }, (_, n) => {
    const close = scripted(n + 1);
    const time = new Date(Date.UTC(2026, 0, 5) + n * EVERY_MS).toISOString();
    return `${time},${(close - 0.1).toFixed(2)},${(close + 0.1).toFixed(2)}`;
  });
  writeFileSync(join(daemon.folder, "script.csv"), ["time_utc,bid,ask", ...rows].join("\n"));
});

afterAll(() => daemon.remove());

test("a hundred cuts of a scripted stream leave no hole and no repeat", { timeout: 60_000 }, async () => {
  const cutPoints = fc.sample(fc.integer({ min: 1, max: 18_000 }), { numRuns: KINDS.length * CUTS_PER_CLIENT });
  const clients = await Promise.all(
    KINDS.map(async (options) => {
      const mine = cutPoints.splice(0, CUTS_PER_CLIENT);
      const proxy = await Proxy.before(() => daemon.port);
      proxy.cutAfter = (): number => mine.pop() ?? Infinity;
      const client = clientOf(proxy.url, { symbols: ["TESTGOLD"], ...options });
      const came: [number, number][] = [];
      const gaps: unknown[] = [];
      client.onPriceUpdate(({ close }, { update_count: count }) => came.push([count, close]));
      client.onGap((channel, missed) => gaps.push([channel, missed]));
      return { client, proxy, came, gaps };
    }),
  );
  await daemon.start(); // the script begins with it, and the clients are already trying
  const all = (): boolean => clients.every(({ came }) => came.at(-1)?.[0] === TICKS);
  await until(all, "every client has the last price", 45_000);
  for (const { client, proxy, came, gaps } of clients) {
    client.disconnect();
    await proxy.close();
    const first = came[0]?.[0] ?? NaN;
    expect(first).toBeLessThan(TICKS);
    expect(came).toEqual(Array.from({ length: TICKS - first + 1 }, (_, n) => [first + n, scripted(first + n)]));
    expect(gaps).toEqual([]);
  }
  expect(clients.reduce((sum, { proxy }) => sum + proxy.cuts, 0)).toBe(KINDS.length * CUTS_PER_CLIENT);
});

/** Several tabs, one line: against the real daemon, with BroadcastChannels of Node and locks of our own. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { AurexWebSocketClient, ClientOptions } from "../src/index.js";
import { clientOf, Daemon, pause, SIMULATED, until } from "./daemon.js";
import { Locks } from "./locks.js";

let daemon: Daemon;
let tabs: Tab[] = [];
let locks = new Locks();

beforeAll(async () => {
  daemon = await Daemon.start(`${SIMULATED}[symbols.OTHER]
instrument = "test"
decimals = 2
calendar = "always"
[[sources]]
name = "another"
type = "simulated"
symbols = { OTHER = "OTHER" }
interval_s = 0.05
`);
});
afterEach(() => {
  for (const tab of tabs) tab.close();
  tabs = [];
  locks = new Locks();
});
afterAll(() => daemon.remove());

/** A BroadcastChannel that can be deaf and dumb, as a tab's is that the browser has frozen. */
class Air {
  frozen = false;
  readonly #channel: BroadcastChannel;

  constructor(name: string, made: (air: Air) => void) {
    this.#channel = new BroadcastChannel(name);
    made(this);
  }

  set onmessage(listener: (event: MessageEvent) => void) {
    this.#channel.onmessage = (event): void => {
      if (!this.frozen) listener(event);
    };
  }

  postMessage(message: unknown): void {
    if (!this.frozen) this.#channel.postMessage(message);
  }

  close(): void {
    this.#channel.close();
  }
}

class Tab {
  readonly client: AurexWebSocketClient;
  readonly counts: number[] = [];
  readonly gaps: unknown[] = [];
  hidden = false;
  #air: Air | null = null;

  constructor(symbol = "TESTGOLD", options: ClientOptions = {}) {
    const made = (air: Air): void => {
      this.#air = air;
    };
    this.client = clientOf(daemon.url, {
      symbols: [symbol],
      ...options,
      environment: {
        WebSocket: WebSocket as never,
        locks: locks.of(this),
        hidden: () => this.hidden,
        BroadcastChannel: class extends Air {
          constructor(name: string) {
            super(name, made);
          }
        } as never,
      },
    });
    this.client.onPriceUpdate((_, { update_count: count }) => this.counts.push(count));
    this.client.onGap((channel, missed) => this.gaps.push([channel, missed]));
    tabs.push(this);
  }

  /** The browser stops it: it hears nothing, says nothing, and does not know. */
  freeze(): void {
    if (this.#air !== null) this.#air.frozen = true;
  }

  thaw(): void {
    if (this.#air !== null) this.#air.frozen = false;
  }

  close(): void {
    this.client.disconnect();
    locks.close(this);
  }

  async more(some = 3): Promise<void> {
    const wanted = this.counts.length + some;
    await until(() => this.counts.length >= wanted, `${String(wanted)} prices`);
  }

  expectNoHole(): void {
    const [first = 0] = this.counts;
    expect(this.counts).toEqual(this.counts.map((_, n) => first + n));
    expect(this.gaps).toEqual([]);
  }
}

const connections = async (): Promise<number> => Number((await tabs[0]?.client.fetchStats())?.active_connections);

const leaders = (): Tab[] => tabs.filter(({ client }) => client.connection.leader);

test("three tabs have one line, and each gets everything it wants", async () => {
  const [one, two, other] = [new Tab(), new Tab(), new Tab("OTHER")];
  for (const tab of tabs) await tab.more();
  expect(await connections()).toBe(1);
  expect(leaders()).toHaveLength(1);
  for (const { client } of tabs) {
    expect(client.connection).toMatchObject({ state: "connected", transport: "websocket" });
    expect(client.connection.session).toBe(one.client.connection.session);
  }
  for (const tab of [one, two, other]) tab.expectNoHole();
  expect(two.client.getPrice("OTHER")).toBeNull();
});

test("when the tab with the line is closed, another one goes on where it was itself", async () => {
  const [one, two, other] = [new Tab(), new Tab(), new Tab("OTHER")];
  for (const tab of tabs) await tab.more();
  expect(leaders()).toEqual([one]);
  one.close();
  tabs.shift();
  for (const tab of tabs) await tab.more(20);
  expect(leaders()).toHaveLength(1);
  expect(await connections()).toBe(1);
  two.expectNoHole();
  other.expectNoHole();
});

test("a tab that comes later has the current price at once, and what it leaves is left", async () => {
  const one = new Tab();
  await one.more();
  const late = new Tab("OTHER");
  await late.more();
  const later = new Tab("OTHER");
  await later.more(1);
  const channels = async (): Promise<string[]> => Object.keys((await one.client.fetchStats()).channels);
  expect(await channels()).toContain("price:OTHER");
  locks.close(late); // it crashes: it cannot say good-bye
  later.close();
  await one.more();
  one.expectNoHole();
});

test("a frozen tab has the line taken from it, and gives it up when it thaws", async () => {
  const [one, two] = [new Tab(), new Tab()];
  for (const tab of tabs) await tab.more();
  expect(leaders()).toEqual([one]);
  one.freeze();
  await until(() => two.client.connection.leader, "another leader", 10_000);
  one.thaw();
  await two.more(10);
  await until(() => leaders().length === 1, "one leader");
  expect(leaders()).toEqual([two]);
  await one.more(10);
  expect(await connections()).toBe(1);
  one.expectNoHole();
  two.expectNoHole();
});

test("what one tab asks, the tab with the line asks for it", async () => {
  const [one, two] = [new Tab(), new Tab()];
  for (const tab of tabs) await tab.more();
  expect(one.client.connection.leader).toBe(true);
  expect(await two.client.request({ type: "ping", data: {} })).toMatchObject({ type: "pong" });
  const failed = two.client.request({ type: "subscribe", data: { channels: ["price:UNOBTAINIUM"] } });
  await expect(failed).rejects.toMatchObject({ name: "AurexError", code: "unknown_channel" });
});

test("tabs with a token share a line only where the page names the user", async () => {
  const [one, two] = [new Tab("TESTGOLD", { token: "a.b.c" }), new Tab("TESTGOLD", { token: "a.b.c" })];
  await pause(200);
  expect(one.client.connection.leader).toBe(true);
  expect(two.client.connection.leader).toBe(true);
  const [three, four] = ["alice", "bob"].map((share) => new Tab("TESTGOLD", { token: "a.b.c", share }));
  const five = new Tab("TESTGOLD", { token: "a.b.c", share: "bob" });
  await pause(200);
  expect([three, four, five].map((tab) => tab?.client.connection.leader)).toEqual([true, true, false]);
});

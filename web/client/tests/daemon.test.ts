/** The client against the real daemon: other ways and back, restarts, tokens, and a network that comes and goes. */
import { createHmac, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { AlertHistory, AurexWebSocketClient, ClientOptions, PriceData } from "../src/index.js";
import { clientOf, Daemon, pause, Proxy, SIMULATED, until } from "./daemon.js";

let daemon: Daemon;
let proxy: Proxy;
const clients: AurexWebSocketClient[] = [];

beforeAll(async () => {
  daemon = await Daemon.start();
  proxy = await Proxy.before(() => daemon.port);
});
afterEach(() => {
  for (const client of clients.splice(0)) client.disconnect();
  proxy.refuses = false;
});
afterAll(async () => {
  await proxy.close();
  await daemon.remove();
});

/** A client that shows prices, and what has come of them. */
function showing(options: ClientOptions = {}, url = proxy.url): { client: AurexWebSocketClient; came: Came } {
  const client = clientOf(url, options);
  clients.push(client);
  const came = new Came();
  client.onPriceUpdate((price, { update_count: count }) => {
    came.take(price, count);
  });
  return { client, came };
}

class Came {
  readonly prices: PriceData[] = [];
  readonly counts: number[] = [];

  take(price: PriceData, count: number): void {
    this.prices.push(price);
    this.counts.push(count);
  }

  /** More prices than now. */
  more(some = 3): Promise<void> {
    const wanted = this.prices.length + some;
    return until(() => this.prices.length >= wanted, `${String(wanted)} prices`);
  }

  expectNoHole(): void {
    const [first = 0] = this.counts;
    expect(this.counts).toEqual(this.counts.map((_, n) => first + n));
  }
}

const withoutWebSocket: ClientOptions = {
  environment: {
    WebSocket: class extends WebSocket {
      constructor(url: URL, protocols: string[]) {
        url.pathname = "/not/through/this/proxy";
        super(url, protocols);
      }
    } as never,
  },
};

test.each<ClientOptions>([{ encoding: "json" }, { encoding: "msgpack" }])("prices come in %o", async (options) => {
  const { client, came } = showing(options);
  await came.more();
  expect(came.prices[0]).toMatchObject({ symbol: "TESTGOLD", instrument: "test", quality: "simulated" });
  expect(client.connection).toMatchObject({ state: "connected", transport: "websocket", attempts: 0, cause: null });
  await until(() => client.connection.latencyMs !== null, "a latency");
  expect(client.symbols.get()?.map(({ symbol, decimals }) => [symbol, decimals])).toEqual([["TESTGOLD", 2]]);
  came.expectNoHole();
});

test("where no WebSocket gets through, the same prices come as server-sent events", async () => {
  const { client, came } = showing(withoutWebSocket);
  await came.more();
  expect(client.connection).toMatchObject({ state: "degraded", transport: "events" });
  came.expectNoHole();
});

test("where no stream gets through either, they are asked for", async () => {
  const { client, came } = showing({ ...withoutWebSocket, transports: ["websocket", "polling"], pollMs: 50 });
  const statuses: string[] = [];
  client.onStatus(({ quality, market }) => statuses.push(`${quality} ${market}`));
  await came.more();
  expect(client.connection).toMatchObject({ state: "degraded", transport: "polling" });
  await until(() => statuses.length > 0, "a status");
  expect(statuses).toEqual(["simulated open"]);
});

test("a rollout that is closed leads to the event stream, and opened again, to the WebSocket at the next start", async () => {
  const closed = await Daemon.start(`${SIMULATED}[realtime]\nrollout_percent = 0\n`);
  try {
    const { client, came } = showing({}, closed.url);
    await came.more();
    expect(client.connection).toMatchObject({ state: "degraded", transport: "events", cause: "rollout_closed" });
    closed.reload("rollout_percent = 0", "rollout_percent = 100");
    await until(() => closed.log.includes('"config_reloaded"'), "the reload");
    client.disconnect();
    client.connect();
    await until(() => client.connectionState === "connected", "a WebSocket");
  } finally {
    await closed.remove();
  }
});

test("from the WebSocket to the event stream and back there is no hole and no repeat", async () => {
  let closed = false;
  class Door extends WebSocket {
    constructor(url: URL, protocols: string[]) {
      if (closed) url.pathname = "/not/through/this/proxy";
      super(url, protocols);
    }
  }
  const { client, came } = showing({ environment: { WebSocket: Door as never } });
  const gaps: unknown[] = [];
  client.onGap((channel, missed) => gaps.push([channel, missed]));
  await came.more();
  for (let turn = 0; turn < 3; turn += 1) {
    closed = true;
    proxy.cut();
    await until(() => client.connection.transport === "events", "the event stream");
    await came.more();
    closed = false;
    client.disconnect();
    client.connect();
    await until(() => client.connection.transport === "websocket", "the WebSocket");
    await came.more();
  }
  came.expectNoHole();
  expect(gaps).toEqual([]);
});

test("a network that goes and comes back leaves no hole", async () => {
  const { client, came } = showing({ transports: ["websocket"] });
  await came.more();
  proxy.refuses = true;
  proxy.cut();
  await until(() => client.connection.attempts >= 2, "failed tries");
  expect(client.connection).toMatchObject({ state: "connecting", cause: "lost" });
  proxy.refuses = false;
  await came.more(20);
  came.expectNoHole();
});

test("a computer that wakes up is current within a second", async () => {
  // A machine that is busy takes its time for everything: it is what a new connection takes that it is held against.
  const began = performance.now();
  await showing().came.more(1);
  const newMs = performance.now() - began;
  let slept = 0;
  const { client, came } = showing({ environment: { WebSocket: WebSocket as never, wall: () => Date.now() + slept } });
  await came.more();
  proxy.stall(); // the line stands, and is dead
  await pause(300);
  const before = came.prices.length;
  slept += 3_600_000;
  const woke = performance.now();
  await until(() => came.prices.length > before, "a price");
  expect(performance.now() - woke).toBeLessThan(1000 + newMs);
  expect(client.connectionState).toBe("connected");
  came.expectNoHole();
});

test("the daemon's restart leaves no hole, and its crash is told", async () => {
  const other = await Daemon.start();
  try {
    const { client, came } = showing({ transports: ["websocket"] }, other.url);
    const gaps: unknown[] = [];
    client.onGap((channel, missed) => gaps.push([channel, missed]));
    await came.more();
    await other.stop();
    await until(() => client.connectionState === "connecting", "the end of the line");
    expect(client.connection).toMatchObject({ state: "connecting", cause: "going_away" });
    await other.start();
    await came.more();
    came.expectNoHole();
    expect(gaps).toEqual([]);
    await other.stop("SIGKILL");
    await other.start();
    await until(() => gaps.length > 0, "a gap");
    expect(gaps).toEqual([["price:TESTGOLD", null]]);
  } finally {
    await other.remove();
  }
});

test("a channel that there is not is told, and the others go on", async () => {
  const { client, came } = showing();
  const refused: string[] = [];
  client.onRefused((channel, { code }) => refused.push(`${channel} ${code}`));
  client.subscribe("price:UNOBTAINIUM");
  await came.more();
  expect(refused).toEqual(["price:UNOBTAINIUM unknown_channel"]);
});

test.each(["websocket", "events", "polling"] as const)(
  "over %s a symbol that is taken out is told, and the others go on",
  async (transport) => {
    const other = '[symbols.OTHER]\ninstrument = "test"\ndecimals = 2\ncalendar = "always"\n';
    const feeds = 'symbols = { TESTGOLD = "TESTGOLD", OTHER = "TESTGOLD" }';
    const both = await Daemon.start(SIMULATED.replace('symbols = { TESTGOLD = "TESTGOLD" }', feeds) + other);
    try {
      const { client, came } = showing({ transports: [transport], pollMs: 50 }, both.url);
      const refused: string[] = [];
      client.onRefused((channel) => refused.push(channel));
      client.subscribe("price:OTHER");
      await until(() => client.getPrice("OTHER") !== null, "a price of the other");
      both.reload(feeds, 'symbols = { TESTGOLD = "TESTGOLD" }', other);
      await until(() => refused.length > 0, "it is told");
      expect(refused).toEqual(["price:OTHER"]);
      expect(client.getPrice("OTHER")).toBeNull();
      await came.more();
    } finally {
      await both.remove();
    }
  },
);

test("candles come with their history, and go on", async () => {
  const { client } = showing();
  const series = client.candles("TESTGOLD", "1s");
  const close = series.open();
  await until(() => series.view.get().candles.filter(({ final }) => final).length >= 2, "two final candles");
  const { candles, error } = series.view.get();
  expect(error).toBeNull();
  for (const [n, { start, low, high }] of candles.entries()) {
    expect(low).toBeLessThanOrEqual(high);
    expect(Date.parse(start)).toBeGreaterThan(Date.parse(candles[n - 1]?.start ?? "2000-01-01"));
  }
  close();
});

test("a rule is made, fires once for everybody, and is gone when it is deleted", async () => {
  const [{ client, came }, other] = [showing(), showing()];
  const { alerts } = client;
  const [fired, heard]: string[][] = [[], []];
  client.onAlert(({ rule_id }) => fired?.push(rule_id));
  other.client.onAlert(({ rule_id }) => heard?.push(rule_id));
  await came.more();
  await until(() => !alerts.view.get().loading, "the rules");
  const condition = { kind: "above", level: 1 } as const;
  const made = await alerts.create({ symbol: "TESTGOLD", condition, note: "as you can see" });
  expect(alerts.view.get().rules).toMatchObject([{ rule_id: made.rule_id, note: "as you can see", pending: null }]);
  await until(() => fired?.length === 1 && heard?.length === 1, "the alert");
  await until(() => alerts.view.get().rules[0]?.state === "done", "the rule's new state");
  client.disconnect();
  client.connect();
  await came.more();
  await alerts.delete(made.rule_id);
  expect(alerts.view.get().rules).toEqual([]);
  expect([fired, heard]).toEqual([[made.rule_id], [made.rule_id]]); // it was acknowledged
  await expect(alerts.delete(made.rule_id)).rejects.toMatchObject({ code: "not_found" });
});

test.each(["events", "polling"] as const)(
  "over %s alone rules are made, changed and deleted as well, and what fires comes",
  async (transport) => {
    const { client, came } = showing({ transports: [transport], pollMs: 50 });
    const { alerts } = client;
    const fired: string[] = [];
    client.onAlert(({ rule_id }) => fired.push(rule_id));
    await came.more(1);
    await until(() => !alerts.view.get().loading, "the rules");
    const making = alerts.create({ symbol: "TESTGOLD", condition: { kind: "above", level: 1 } });
    expect(alerts.view.get().rules).toMatchObject([{ pending: "create" }]);
    const { rule_id } = await making;
    expect(alerts.view.get().rules).toMatchObject([{ rule_id, pending: null }]);
    await until(() => fired.includes(rule_id), "the alert");
    await until(() => alerts.view.get().rules[0]?.state === "done", "the rule's new state");
    const changing = alerts.update({ rule_id, note: "later" });
    expect(alerts.view.get().rules).toMatchObject([{ note: "later", pending: "update" }]);
    await changing;
    expect(alerts.view.get().rules).toMatchObject([{ note: "later", pending: null }]);
    await expect(alerts.update({ rule_id, condition: { kind: "above", level: -1 } })).rejects.toMatchObject({
      code: "invalid_message",
    });
    expect(alerts.view.get().rules).toMatchObject([{ condition: { level: 1 }, pending: null }]);
    let acknowledged = false;
    while (!acknowledged) {
      const { alerts: kept } = (await client.get("api/v1/alerts/history")) as AlertHistory;
      acknowledged = kept.every((one) => one.acknowledged !== null);
    }
    await alerts.delete(rule_id);
    expect(alerts.view.get().rules).toEqual([]);
    await expect(alerts.delete(rule_id)).rejects.toMatchObject({ code: "not_found" });
    expect(fired).toEqual([rule_id]);
  },
);

// --- tokens ---

/** A token as an issuer makes it, for so many hours. */
function mint(secret: string, hours: number): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000 + hours * 3600);
  const signed = `${part({ alg: "HS256", kid: "k1" })}.${part({ sub: "alice", aud: "aurexd", scope: "read", exp })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

test("tokens are shown, renewed in place, and asked for over HTTP and on the event stream as well", async () => {
  const guarded = new Daemon(
    `${SIMULATED}[auth]\nmode = "token"\nexpiry_warning_s = 3600\n` +
      `[auth.keys.k1]\nalgorithm = "HS256"\nfile = "FOLDER/key"\n`,
  );
  const secret = randomBytes(32).toString("hex");
  writeFileSync(join(guarded.folder, "key"), secret, { mode: 0o600 });
  await guarded.start();
  try {
    const reasons: string[] = [];
    const token = (reason: string): string => {
      reasons.push(reason);
      return mint(secret, reason === "expiring" ? 3 : 0.5);
    };
    const { client, came } = showing({ token }, guarded.url);
    await came.more();
    expect(client.connection).toMatchObject({ state: "connected", user: "alice", scopes: ["read"] });
    await until(() => reasons.includes("expiring"), "a renewal");
    await came.more();
    came.expectNoHole();
    client.disconnect();

    for (const transports of [["events"], ["polling"]] as const) {
      const fallen = showing({ token: mint(secret, 0.5), transports, pollMs: 50 }, guarded.url);
      fallen.client.onAlert(() => undefined); // which the token does not allow: the prices come all the same
      await fallen.came.more();
      expect(fallen.client.connection.state).toBe("degraded");
    }
    const without = showing({}, guarded.url);
    await until(() => without.client.connection.stopped, "an end");
    expect(without.client.connection).toMatchObject({ state: "disconnected", cause: "unauthenticated" });
    const wrong = showing({ token: "not.a.token" }, guarded.url);
    await until(() => wrong.client.connection.stopped, "an end");
    expect(wrong.client.connection).toMatchObject({ state: "disconnected", cause: "bad_token" });
  } finally {
    await guarded.remove();
  }
});

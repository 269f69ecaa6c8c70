import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { AurexError, PriceData } from "../src/index.js";
import { Page, settle } from "./fakes.js";
import { price } from "./messages.js";

beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse("2026-01-01T12:00:00Z") });
});
afterEach(() => {
  vi.useRealTimers();
});

const nothing = (): void => undefined;

/** A page that shows a price, connected. */
async function showing(options: ConstructorParameters<typeof Page>[0] = {}): Promise<{ page: Page; prices: number[] }> {
  const page = new Page(options);
  const prices: number[] = [];
  page.client.onPriceUpdate(({ close }) => prices.push(close));
  await page.connected();
  return { page, prices };
}

// --- connecting ---

test("nothing connects before something is wanted", async () => {
  const page = new Page();
  await page.pass(10_000);
  expect(page.sockets).toEqual([]);
  page.client.onPriceUpdate(nothing);
  await settle();
  expect(page.sockets).toHaveLength(1);
  expect(page.socket.url).toBe("ws://gold.test:8000/api/v1/ws/stream");
  expect(page.socket.protocols).toEqual(["aurex.v1.json"]);
});

test.each([
  ["https://gold.test", "wss://gold.test/api/v1/ws/stream"],
  ["wss://gold.test/prices", "wss://gold.test/prices/api/v1/ws/stream"],
  ["ws://gold.test:8000/?a=b#c", "ws://gold.test:8000/api/v1/ws/stream"],
])("at %s it connects to %s", async (url, wanted) => {
  const page = new Page({ url });
  page.client.connect();
  await settle();
  expect(page.socket.url).toBe(wanted);
});

test("states are told in order, each once", async () => {
  const page = new Page();
  const states: string[] = [];
  page.client.onConnectionChange((state) => states.at(-1) !== state && states.push(state));
  page.client.connect();
  await page.connected();
  await page.socket.end();
  await page.pass(1000);
  await page.connected();
  page.client.disconnect();
  expect(states).toEqual(["connecting", "connected", "connecting", "connected", "disconnected"]);
});

test("what is wanted in one go is asked for in one message", async () => {
  const page = new Page();
  page.client.onPriceUpdate(nothing);
  page.client.onStatus(nothing);
  page.client.onCandle("TESTGOLD", "1m", nothing);
  page.client.onPriceUpdate(nothing, "XAUUSD");
  const socket = await page.connected();
  expect(socket.sent.filter(({ type }) => type === "subscribe")).toEqual([
    {
      type: "subscribe",
      id: 1,
      data: { channels: ["price:TESTGOLD", "status:TESTGOLD", "candle:TESTGOLD:1m", "price:XAUUSD"] },
    },
  ]);
});

test("a channel is left when the last who wants it leaves", async () => {
  const { page } = await showing();
  const [one, two] = [page.client.onPriceUpdate(nothing, "XAUUSD"), page.client.onPriceUpdate(nothing, "XAUUSD")];
  await settle();
  expect(page.socket.asked("subscribe")?.data.channels).toEqual(["price:XAUUSD"]);
  one();
  one(); // once is enough
  await settle();
  expect(page.socket.asked("unsubscribe")).toBeUndefined();
  two();
  await settle();
  expect(page.socket.asked("unsubscribe")?.data.channels).toEqual(["price:XAUUSD"]);
});

test("a price comes to those who want its symbol, once", async () => {
  const { page, prices } = await showing();
  const others: PriceData[] = [];
  page.client.onPriceUpdate((data) => others.push(data), "XAUUSD");
  await page.socket.say(price(2701));
  await page.socket.say(price(2701)); // the snapshot, which says the same
  expect(prices).toEqual([2701]);
  expect(others).toEqual([]);
  expect(page.client.getPrice("TESTGOLD")?.close).toBe(2701);
});

test("a handler that throws keeps nothing from the others", async () => {
  const page = new Page();
  const failures: unknown[] = [];
  vi.spyOn(globalThis, "queueMicrotask").mockImplementation((callback) => {
    void Promise.resolve().then(() => {
      try {
        callback();
      } catch (error) {
        failures.push(error);
      }
    });
  });
  page.client.onPriceUpdate(() => {
    throw new Error("mine");
  });
  const prices: number[] = [];
  page.client.onPriceUpdate(({ close }) => prices.push(close));
  await page.connected();
  await page.socket.say(price(2701));
  expect(prices).toEqual([2701]);
  expect(failures).toEqual([new Error("mine")]);
});

test("a price takes over the quality that its symbol's state has now", async () => {
  const page = new Page();
  page.client.onPriceUpdate(nothing);
  page.client.onStatus(nothing);
  await page.connected();
  await page.socket.say(price(2701));
  await page.socket.say({
    type: "status",
    data: {
      symbol: "TESTGOLD",
      quality: "stale",
      source: "simulated",
      instrument: "test",
      market: "open",
      reason: "simulated: no price for 5 s",
      since: "2026-01-01T12:00:05Z",
    },
    timestamp: "",
    update_count: 1,
  });
  expect(page.client.getPrice("TESTGOLD")).toMatchObject({ close: 2701, quality: "stale" });
});

// --- coming back ---

test("after a loss it subscribes again, to everything, and says where it was", async () => {
  const { page, prices } = await showing();
  await page.socket.say(price(2701, { update_count: 1 }));
  page.client.onStatus(nothing);
  await page.socket.end();
  await page.pass(1000);
  await page.socket.greet();
  expect(page.socket.asked("subscribe")?.data).toEqual({
    channels: ["price:TESTGOLD", "status:TESTGOLD"],
    resume: { "price:TESTGOLD": { epoch: "e1", count: 1 } },
  });
  await page.socket.subscribed(3, true);
  for (const count of [2, 3]) await page.socket.say(price(2700 + count, { update_count: count }));
  expect(prices).toEqual([2701, 2702, 2703]);
});

test("a hole is told, and the snapshot asked for", async () => {
  const { page } = await showing();
  const gaps: unknown[] = [];
  page.client.onGap((channel, missed) => gaps.push([channel, missed]));
  await page.socket.say(price(2701, { update_count: 1 }));
  await page.socket.say(price(2705, { update_count: 5 }));
  expect(gaps).toEqual([["price:TESTGOLD", 3]]);
  expect(page.socket.asked("snapshot")?.data.channels).toEqual(["price:TESTGOLD"]);
});

test("one channel that is not served does not spoil the others, and is told", async () => {
  const page = new Page();
  const refused: string[] = [];
  page.client.onRefused((channel, { code }) => refused.push(`${channel} ${code}`));
  page.client.onPriceUpdate(nothing);
  page.client.onNews(nothing);
  await settle();
  await page.socket.greet();
  await page.socket.refuse("subscribe", "not_available");
  const single = page.socket.sent.filter(({ type }) => type === "subscribe").slice(1);
  expect(single.map(({ data }) => data)).toEqual([{ channels: ["price:TESTGOLD"] }, { channels: ["news"] }]);
  await page.socket.refuse("subscribe", "not_available");
  expect(refused).toEqual(["news not_available"]);
  await page.socket.end();
  await page.pass(1000);
  await page.socket.greet();
  const again = page.socket.sent.filter(({ type }) => type === "subscribe");
  expect(again.map(({ data }) => data)).toEqual([{ channels: ["price:TESTGOLD"] }, { channels: ["news"] }]);
});

test("a symbol that the operator takes out is told as one that is not served, and is known no more", async () => {
  const { page, prices } = await showing();
  const refused: string[] = [];
  page.client.onRefused((channel, { code, message }) => refused.push(`${channel} ${code}: ${message}`));
  page.client.onPriceUpdate(nothing, "XAUUSD");
  page.client.onStatus(nothing, "XAUUSD");
  await settle();
  await page.socket.subscribed();
  await page.socket.say(price(4400, { symbol: "XAUUSD", update_count: 7 }));
  await page.socket.say({
    type: "error",
    data: { code: "unknown_channel", message: "XAUUSD: this server has it no more" },
    timestamp: "",
  });
  await page.socket.say({
    type: "unsubscribed",
    data: { channels: ["price:XAUUSD", "status:XAUUSD"] },
    timestamp: "",
  });
  expect(refused).toEqual([
    "price:XAUUSD unknown_channel: XAUUSD: this server has it no more",
    "status:XAUUSD unknown_channel: XAUUSD: this server has it no more",
  ]);
  expect(page.client.getPrice("XAUUSD")).toBeNull();
  await page.socket.say(price(2701));
  expect(prices).toEqual([2701]);
  await page.socket.end();
  await page.pass(1000);
  await page.socket.greet();
  // It may be back: asked for by itself, from where there is nothing to resume.
  const again = page.socket.sent.filter(({ type }) => type === "subscribe");
  expect(again.map(({ data }) => data)).toEqual([
    { channels: ["price:TESTGOLD"], resume: { "price:TESTGOLD": { epoch: "e1", count: 1 } } },
    { channels: ["price:XAUUSD"] },
    { channels: ["status:XAUUSD"] },
  ]);
});

test("a channel that a new token does not allow is told", async () => {
  const { page } = await showing({ token: "abc" });
  const refused: string[] = [];
  page.client.onRefused((channel, { code }) => refused.push(`${channel} ${code}`));
  await page.socket.say({ type: "unsubscribed", data: { channels: ["price:TESTGOLD"] }, timestamp: "" });
  expect(refused).toEqual(["price:TESTGOLD forbidden"]);
});

test("what was over the rate limit is said again when the server allows it", async () => {
  const { page } = await showing();
  const pong = page.client.request({ type: "ping", data: {} });
  await page.socket.refuse("ping", "rate_limited", 180);
  const before = page.socket.sent.length;
  await page.pass(179);
  expect(page.socket.sent).toHaveLength(before);
  await page.pass(1);
  const id = page.socket.asked("ping")?.id ?? 0;
  await page.socket.say({ type: "pong", id, data: {}, timestamp: "" });
  expect(await pong).toMatchObject({ type: "pong" });
});

test.each<[string, (page: Page) => Promise<void>]>([
  ["timeout", (page) => page.pass(10_000)],
  ["connection_lost", (page) => page.socket.end()],
  ["not_found", (page) => page.socket.refuse("alert.delete", "not_found")],
])("a request ends with %s", async (code, happens) => {
  const { page } = await showing();
  const failed = page.client.request({ type: "alert.delete", data: { rule_id: "r" } }).catch((error: unknown) => error);
  await page.socket.say({ type: "heartbeat", data: {}, timestamp: "" });
  await happens(page);
  expect((await failed) as AurexError).toMatchObject({ name: "AurexError", code });
});

test("a request without a connection is not sent later", async () => {
  const page = new Page();
  page.client.connect();
  await settle();
  await expect(page.client.request({ type: "ping", data: {} })).rejects.toMatchObject({ code: "not_connected" });
  await page.connected();
  expect(page.socket.sent.filter(({ type }) => type === "alert.delete")).toEqual([]);
});

test("what cannot be read ends the line, which comes back", async () => {
  const { page } = await showing();
  page.socket.onmessage?.({ data: "{" });
  expect(page.client.connection).toMatchObject({ state: "connecting", cause: "unreadable" });
  await page.pass(1000);
  expect(page.sockets).toHaveLength(2);
});

test("messages of a later release are no trouble", async () => {
  const { page, prices } = await showing();
  page.socket.onmessage?.({ data: '{"type": "horoscope", "data": {}}' });
  page.socket.onmessage?.({ data: "[1, 2]" });
  await page.socket.say(price(2701));
  expect(prices).toEqual([2701]);
});

// --- waking up ---

test("a computer that slept is current within a second of waking up", async () => {
  const { page, prices } = await showing();
  await page.socket.say(price(2701, { update_count: 1 }));
  page.sleep(3_600_000);
  await page.pass(500);
  expect(page.sockets).toHaveLength(2);
  await page.socket.greet();
  await page.socket.subscribed(2, true);
  await page.socket.say(price(2800, { update_count: 2 }));
  expect(prices).toEqual([2701, 2800]);
  expect(page.client.connectionState).toBe("connected");
});

test("after a nap the line that is still good is kept", async () => {
  const { page } = await showing();
  page.sleep(6000);
  await page.pass(500);
  expect(page.socket.asked("ping")).toBeDefined();
  await page.socket.say({ type: "heartbeat", data: {}, timestamp: "" });
  await page.pass(2000);
  expect(page.sockets).toHaveLength(1);
});

test("after a nap a line that is dead, and does not know it, is replaced within a second", async () => {
  const { page } = await showing();
  page.sleep(6000);
  await page.pass(900);
  expect(page.sockets).toHaveLength(2);
  expect(page.client.connectionState).toBe("connected");
  await page.connected();
  expect(page.sockets[0]?.readyState).toBe(3);
});

test.each(["online", "visible"] as const)("when %s, a wait is cut short", async (why) => {
  const page = new Page();
  page.random = 1;
  page.client.connect();
  await settle();
  for (let n = 0; n < 4; n += 1) {
    await page.socket.end();
    await page.pass(2 ** (n + 1) * 1000);
  }
  await page.socket.end();
  expect(page.client.connection).toMatchObject({ state: "connecting", attempts: 5 });
  expect(page.client.connection.retryAt).toBe(Date.now() + 30_000);
  const before = page.sockets.length;
  page.nudge(why);
  await settle();
  expect(page.sockets).toHaveLength(before + 1);
});

// --- tokens ---

test("a token is shown as a subprotocol, and never in the address", async () => {
  const page = new Page({ token: "abc.def.ghi" });
  page.client.connect();
  await settle();
  expect(page.socket.protocols).toEqual(["aurex.v1.json", "aurex.token.abc.def.ghi"]);
  expect(page.socket.url).not.toContain("abc");
});

test("a token that expires soon is replaced in place", async () => {
  const tokens = ["one", "two"];
  const reasons: string[] = [];
  const token = (reason: string): string | null => {
    reasons.push(reason);
    return tokens.shift() ?? null;
  };
  const { page } = await showing({ token });
  await page.socket.say({
    type: "token_expiring",
    data: { expires: "2026-01-01T12:01:00Z" },
    timestamp: "2026-01-01T12:00:00Z",
  });
  expect(reasons).toEqual(["connect", "expiring"]);
  expect(page.socket.asked("auth")?.data).toEqual({ token: "two" });
  expect(page.sockets).toHaveLength(1);
});

test("after token_expired it comes back with a new one", async () => {
  const reasons: string[] = [];
  const { page } = await showing({ token: (reason) => `token-${String(reasons.push(reason))}` });
  await page.socket.end(4006, '{"code": "token_expired"}');
  await page.pass(1000);
  expect(reasons).toEqual(["connect", "expired"]);
  expect(page.socket.protocols[1]).toBe("aurex.token.token-2");
});

test("a token that is refused is not shown again, another one is", async () => {
  let token = "stale";
  const page = new Page({ token: (reason) => (reason === "rejected" ? (token = "fresh") : token) });
  page.client.connect();
  await settle();
  await page.socket.end(4500, '{"code": "bad_token"}');
  expect(page.sockets).toHaveLength(2);
  expect(page.socket.protocols[1]).toBe("aurex.token.fresh");
  await page.socket.end(4500, '{"code": "bad_token"}');
  await page.pass(3_600_000);
  expect(page.sockets).toHaveLength(2);
  expect(page.client.connection).toMatchObject({ state: "disconnected", stopped: true, cause: "bad_token" });
  page.client.setToken("better");
  await settle();
  expect(page.socket.protocols[1]).toBe("aurex.token.better");
});

test("where a token is asked for and there is none, it says so and stops", async () => {
  const page = new Page();
  page.client.connect();
  await settle();
  await page.socket.greet({ auth: "token" });
  expect(page.client.connection).toMatchObject({
    state: "disconnected",
    stopped: true,
    cause: "unauthenticated",
    reason: "the server asks for a token",
  });
});

test("a token that cannot be had is tried for again", async () => {
  let tries = 0;
  const page = new Page({
    token: () => {
      tries += 1;
      return tries === 1 ? Promise.reject(new Error("no session")) : Promise.resolve("abc");
    },
  });
  page.client.connect();
  await settle();
  expect(page.client.connection).toMatchObject({ state: "connecting", reason: "cannot connect: no session" });
  await page.pass(1000);
  expect(page.socket.protocols[1]).toBe("aurex.token.abc");
});

// --- what it says of itself ---

test("it measures the latency and the server's clock", async () => {
  const page = new Page();
  page.client.connect();
  await settle();
  await page.socket.greet();
  await page.pass(80);
  const id = page.socket.asked("ping")?.id ?? 0;
  const timestamp = new Date(Date.now() + 5000 - 40).toISOString();
  await page.socket.say({ type: "pong", id, data: {}, timestamp });
  expect(page.client.connection).toMatchObject({ latencyMs: 80, clockOffsetMs: 5000 });
  expect(page.client.serverNow().getTime()).toBe(Date.now() + 5000);
});

test("what stays the same is not told", async () => {
  const { page } = await showing();
  const changes = vi.fn();
  page.client.onConnectionChange(changes);
  for (let n = 1; n < 20; n += 1) await page.socket.say(price(2700 + n, { update_count: n }));
  expect(changes).not.toHaveBeenCalled();
});

// --- leaving ---

test("when nobody wants anything any more, nothing is left: no line, no timer, no listener", async () => {
  const page = new Page({ lingerMs: 3000 });
  const stop = page.client.onPriceUpdate(nothing);
  const more = page.client.onCandle("TESTGOLD", "1m", nothing);
  await page.connected();
  stop();
  more();
  await page.pass(2999);
  expect(page.client.connectionState).toBe("connected");
  await page.pass(1);
  expect(page.client.connectionState).toBe("disconnected");
  expect(page.socket.readyState).toBe(3);
  expect(vi.getTimerCount()).toBe(0);
  expect(page.listeners).toBe(0);
});

test("leaving and coming back in a moment keeps the line", async () => {
  const page = new Page();
  page.client.onPriceUpdate(nothing)();
  page.client.onPriceUpdate(nothing);
  await page.connected();
  await page.pass(10_000);
  expect(page.sockets).toHaveLength(1);
});

import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { mergeCandles, type Candle } from "../src/candles.js";
import { Page } from "./fakes.js";
import { candle } from "./messages.js";

const startOf = (minute: number): string => new Date(Date.UTC(2026, 0, 1, 12, minute)).toISOString();

/** The candle of a minute, as it was after so many ticks. */
function at(minute: number, ticks: number, more: Partial<Candle> = {}): Candle {
  const start = startOf(minute);
  const end = startOf(minute + 1);
  return {
    start,
    end,
    open: 2700,
    high: 2700 + ticks,
    low: 2700,
    close: 2700,
    ticks,
    final: false,
    revision: 0,
    filled: false,
    ...more,
  };
}

const some = fc.array(
  fc
    .record({ minute: fc.nat(20), ticks: fc.nat(5), final: fc.boolean(), revision: fc.nat(2) })
    .map((one) => at(one.minute, one.ticks, { final: one.final, revision: one.final ? one.revision : 0 })),
);

test("candles are in order, one for each interval, and the one that tells most", () => {
  fc.assert(
    fc.property(some, some, (one, other) => {
      const merged = mergeCandles(mergeCandles([], one), other);
      const starts = merged.map(({ start }) => start);
      expect(starts).toEqual([...new Set(starts)].sort());
      for (const candle of merged) {
        const all = [...one, ...other].filter(({ start }) => start === candle.start);
        if (all.some(({ final }) => final)) expect(candle.final).toBe(true);
        const rivals = all.filter(({ final }) => final === candle.final);
        expect(candle.revision).toBe(Math.max(...rivals.map(({ revision }) => revision)));
      }
    }),
  );
});

test("it does not matter in which pieces they come, and what is known stays as it is", () => {
  fc.assert(
    fc.property(some, (candles) => {
      const known = Object.freeze(mergeCandles([], candles));
      let one: readonly Candle[] = [];
      for (const candle of candles) one = mergeCandles(one, [candle]);
      expect(one.map(({ start, ticks, final, revision }) => [start, ticks, final, revision])).toEqual(
        known.map(({ start, ticks, final, revision }) => [start, ticks, final, revision]),
      );
      expect(mergeCandles(known, candles)).toBe(known);
    }),
  );
});

// --- a series on a page ---

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A page whose daemon has so many minutes of history. */
function showing(minutes: number): Page {
  const page = new Page();
  page.answer = (url): unknown => {
    const query = url.searchParams;
    const [from, to] = [query.get("from") ?? "", query.get("to") ?? "9"];
    const limit = Number(query.get("limit"));
    const all = Array.from({ length: minutes }, (_, n) => at(n, 9, { final: true })).filter(
      ({ start }) => start >= from && start < to,
    );
    return { candles: all.slice(-limit), gaps: [], next: all.length > limit ? "/older" : null };
  };
  return page;
}

test("a series is the newest page of history, with the live candle at its end", async () => {
  const page = showing(3);
  const series = page.client.candles("TESTGOLD", "1m");
  series.open();
  expect(series.view.get()).toMatchObject({ candles: [], loading: true });
  await page.connected();
  expect(series.view.get()).toMatchObject({ loading: false, hasMore: false, error: null });
  await page.socket.say(candle({ start: startOf(3), ticks: 1 }));
  expect(series.view.get().candles.map(({ start, final }) => [start, final])).toEqual([
    [startOf(0), true],
    [startOf(1), true],
    [startOf(2), true],
    [startOf(3), false],
  ]);
});

test("older pages are loaded one after the other, as far as there are any", async () => {
  const page = showing(1200);
  const series = page.client.candles("TESTGOLD", "1m");
  series.open();
  await page.connected();
  expect(series.view.get()).toMatchObject({ hasMore: true });
  expect(series.view.get().candles).toHaveLength(500);
  await Promise.all([series.loadMore(), series.loadMore()]); // a user who scrolls
  expect(series.view.get().candles).toHaveLength(1000);
  await series.loadMore();
  await series.loadMore();
  expect(series.view.get()).toMatchObject({ hasMore: false });
  expect(series.view.get().candles).toHaveLength(1200);
  expect(page.requests).toHaveLength(3);
});

test("candles that were missed are loaded, from the last that is known", async () => {
  const page = showing(5);
  const series = page.client.candles("TESTGOLD", "1m");
  series.open();
  const socket = await page.connected();
  await socket.say(candle({ start: startOf(5), ticks: 1 }));
  const asked = page.requests.length;
  await socket.say({ ...candle({ start: startOf(9), ticks: 1 }), update_count: 40 });
  await page.pass(0);
  expect(page.requests.slice(asked).map(({ searchParams }) => searchParams.get("from"))).toEqual([startOf(5)]);
});

test("so is the end of a candle that a slow reader was not sent", async () => {
  const page = showing(5);
  const series = page.client.candles("TESTGOLD", "1m");
  series.open();
  const socket = await page.connected();
  await socket.say({ ...candle({ start: startOf(5), ticks: 1 }), update_count: 1 });
  const asked = page.requests.length;
  await socket.say({ ...candle({ start: startOf(6), ticks: 1 }), update_count: 4, conflated: 3 });
  await page.pass(0);
  expect(page.requests.slice(asked).map(({ searchParams }) => searchParams.get("from"))).toEqual([startOf(5)]);
});

test("why there is no history is told, and it is tried again", async () => {
  const page = new Page();
  const series = page.client.candles("TESTGOLD", "1m");
  const close = series.open();
  await page.connected();
  expect(series.view.get().error).toBe("gold.test:8000 cannot be reached: no network");
  close();
  page.answer = (): unknown => ({ candles: [at(0, 9)], gaps: [], next: null });
  series.open();
  await page.pass(0);
  expect(series.view.get()).toMatchObject({ error: null, loading: false });
});

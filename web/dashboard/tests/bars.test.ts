import fc from "fast-check";
import { expect, test } from "vitest";
import { type Bar, gapsOf, MOST_EMPTY, sessionStarts, slotsOf, ticked } from "../src/chart/bars";

const MINUTE = 60_000;
const DAY = 86_400_000;

function bar(start: number, length = MINUTE): Bar {
  return { start, end: start + length, open: 10, high: 12, low: 9, close: 11, ticks: 5, final: false, filled: false };
}

const minutes = (...starts: number[]) => starts.map((start) => bar(start * MINUTE));

test("a gap lies between two bars that do not touch", () => {
  expect(gapsOf(minutes(0, 1, 4, 5), MINUTE)).toEqual([{ from: 2 * MINUTE, to: 4 * MINUTE }]);
  expect(gapsOf([], MINUTE)).toEqual([]);
});

test("between days a weekend is no gap, a week is one", () => {
  const days = (...starts: number[]) => starts.map((start) => bar(start * DAY, DAY));
  expect(gapsOf(days(0, 3), DAY)).toEqual([]);
  expect(gapsOf(days(0, 8), DAY)).toHaveLength(1);
});

test("the scale has every bar once, in order, and of a gap as many places as it was long, up to a limit", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(200), { minLength: 1, maxLength: 60 }), (starts) => {
      const bars = minutes(...starts.sort((a, b) => a - b));
      const slots = slotsOf(bars, MINUTE);
      expect(slots.flatMap((slot) => slot.bar ?? [])).toEqual(bars);
      for (const [at, slot] of slots.entries()) {
        const before = slots[at - 1];
        if (before) expect(slot.time).toBeGreaterThan(before.time);
      }
      const missing = gapsOf(bars, MINUTE).map(({ from, to }) => Math.min((to - from) / MINUTE, MOST_EMPTY));
      expect(slots.length - bars.length).toBe(missing.reduce((sum, one) => sum + one, 0));
    }),
  );
});

test("a price moves the newest bar while it is of its interval and the bar is not final", () => {
  const newest = bar(0);
  expect(ticked(newest, 13, 1000)).toMatchObject({ close: 13, high: 13, low: 9 });
  expect(ticked(newest, 8, 1000)).toMatchObject({ close: 8, high: 12, low: 8 });
  expect(ticked(newest, 11, 1000)).toBe(newest);
  expect(ticked(newest, 13, MINUTE)).toBeNull();
  expect(ticked(newest, 13, -1)).toBeNull();
  expect(ticked({ ...newest, final: true }, 13, 1000)).toBeNull();
});

test("a session begins with its first bar; the chart's own beginning is none", () => {
  const bars = minutes(5, 6, 10, 11, 12);
  expect(
    sessionStarts(
      bars,
      [0, 8, 12].map((start) => start * MINUTE),
    ),
  ).toEqual([10 * MINUTE, 12 * MINUTE]);
  expect(
    sessionStarts(
      bars,
      [8, 9, 20].map((start) => start * MINUTE),
    ),
  ).toEqual([10 * MINUTE]);
  expect(sessionStarts([], [1])).toEqual([]);
});

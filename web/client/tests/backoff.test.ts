import fc from "fast-check";
import { expect, test } from "vitest";
import { delayMs, limitMs, RECONNECT } from "../src/backoff.js";

const fraction = fc.double({ min: 0, max: 1, noNaN: true });

test("the limit is 1 s at first, doubles with each failure, and is 30 s at most", () => {
  expect([0, 1, 2, 3, 4, 5, 6, 99].map((failures) => limitMs(RECONNECT, failures))).toEqual([
    1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000,
  ]);
});

test("the wait is anything from nothing to the limit: full jitter", () => {
  fc.assert(
    fc.property(fc.nat(1000), fraction, (failures, random) => {
      const wait = delayMs(RECONNECT, failures, random);
      expect(wait).toBeGreaterThanOrEqual(0);
      expect(wait).toBeLessThanOrEqual(limitMs(RECONNECT, failures));
    }),
  );
  expect(delayMs(RECONNECT, 3, 0)).toBe(0);
  expect(delayMs(RECONNECT, 3, 1)).toBe(limitMs(RECONNECT, 3));
});

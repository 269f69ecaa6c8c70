import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { age, count, moveOf, number, priceParts, readNumber, signed, span, time } from "../src/format";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

describe("numbers", () => {
  test.each([
    [4389.05, 2, "4,389.05"],
    [-1.1, 2, "\u22121.10"],
    [-0.001, 2, "0.00"],
    [0, 0, "0"],
    [null, 2, "\u2014"],
    [Number.NaN, 2, "\u2014"],
  ])("%s with %s decimals is %s", (value, decimals, text) => {
    expect(number(value, decimals)).toBe(text);
  });

  test("a move has its sign in front, unless it is none", () => {
    expect(signed(5.2, 2)).toBe("+5.20");
    expect(signed(-5.2, 2)).toBe("\u22125.20");
    expect(signed(0.001, 2)).toBe("0.00");
    expect(signed(null, 2)).toBe("\u2014");
    expect([moveOf(1), moveOf(-1), moveOf(0), moveOf(null)]).toEqual(["up", "down", "flat", "flat"]);
  });

  test("a price falls into what stands before the point and after it", () => {
    expect(priceParts(4389.05, 2)).toEqual(["4,389", ".05"]);
    expect(priceParts(4389, 0)).toEqual(["4,389", ""]);
  });

  test("large counts are short", () => {
    expect([count(9999), count(12_345), count(3_400_000), count(null)]).toEqual(["9,999", "12.3 k", "3.4 M", "\u2014"]);
  });

  test("what is written can be read back", () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e9, max: 1e9 }), (cents) => {
        const price = cents / 100;
        expect(readNumber(number(price, 2).replace("\u2212", "-"))).toBeCloseTo(price, 6);
      }),
    );
  });

  test.each([
    ["4389.5", 4389.5],
    ["4,389.50", 4389.5],
    ["4389,5", 4389.5],
    [" 4 389.5 ", 4389.5],
    ["4'389.5", 4389.5],
    [".5", 0.5],
    ["", null],
    ["abc", null],
    ["1.2.3", null],
    ["1e5", null],
  ])("%j is read as %s", (text, value) => {
    expect(readNumber(text)).toBe(value);
  });
});

describe("times", () => {
  test.each([
    [0, "0 ms"],
    [850, "850 ms"],
    [4200, "4.2 s"],
    [38_000, "38 s"],
    [59_600, "1 min"],
    [12 * MINUTE + 5000, "12 min"],
    [3 * HOUR + 20 * MINUTE, "3 h 20 min"],
    [49 * HOUR, "2 d 1 h"],
    [null, "\u2014"],
  ])("%s ms last %s", (ms, text) => {
    expect(span(ms)).toBe(text);
  });

  test("an age does not flicker below two seconds, and is in whole seconds then", () => {
    expect([age(-300), age(1999), age(2000), age(4900), age(90_000)]).toEqual([
      "just now",
      "just now",
      "2 s ago",
      "4 s ago",
      "1 min ago",
    ]);
  });

  test("a time of another day has its date", () => {
    const now = new Date(2026, 7, 18, 15).getTime();
    expect(time(new Date(2026, 7, 18, 14, 3, 7).getTime(), now)).toBe("14:03:07");
    expect(time(new Date(2026, 7, 17, 14, 3, 7).getTime(), now)).toBe("17 Aug 14:03:07");
  });
});

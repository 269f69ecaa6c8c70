import type { AlertRule, Condition } from "@aurexd/client";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type AlertForm,
  blank,
  check,
  CONDITION_KINDS,
  describe as inWords,
  formOf,
  levelsOf,
  moved,
} from "../src/alert-form";

const NOW = Date.UTC(2026, 7, 18, 12);
const DECIMALS = 2;

const cents = fc.integer({ min: 1, max: 1_000_000 }).map((value) => value / 100);
const windows = fc.constantFrom(60, 300, 3600, 86_400);
const direction = fc.constantFrom("up" as const, "down" as const, "either" as const);
const conditions: fc.Arbitrary<Condition> = fc.oneof(
  fc.record({
    kind: fc.constantFrom("above" as const, "below" as const, "crosses_up" as const, "crosses_down" as const),
    level: cents,
  }),
  fc.record({ kind: fc.constant("moves" as const), amount: cents, window_s: windows, direction }),
  fc.record({ kind: fc.constant("moves_percent" as const), percent: cents, window_s: windows, direction }),
  fc
    .tuple(cents, cents)
    .map(([low, more]) => ({ kind: "leaves_range" as const, low, high: Number((low + more).toFixed(2)) })),
  fc.record({ kind: fc.constantFrom("new_high" as const, "new_low" as const), window_s: windows }),
  fc.record({ kind: fc.constantFrom("becomes_stale" as const, "market_opens" as const, "market_closes" as const) }),
);

function rule(condition: Condition): AlertRule {
  return {
    rule_id: "r-1",
    owner: "local",
    state: "armed",
    symbol: "XAUUSD",
    condition,
    repeat: "every_time",
    hysteresis: 1.5,
    cooldown_s: 120,
    expires: "2026-08-19T12:00:00Z",
    snoozed_until: null,
    note: "sell half",
    created: "2026-08-18T12:00:00Z",
    fired_count: 0,
    last_fired: null,
  };
}

test("a rule that is edited and left as it was stays as it was", () => {
  fc.assert(
    fc.property(conditions, (condition) => {
      const checked = check(formOf(rule(condition), DECIMALS), DECIMALS, NOW);
      expect(checked.problems).toBeNull();
      expect(checked.rule).toEqual({
        symbol: "XAUUSD",
        condition,
        repeat: "every_time",
        hysteresis: 1.5,
        cooldown_s: 120,
        expires: "2026-08-19T12:00:00.000Z",
        note: "sell half",
      });
    }),
  );
});

test("from the chart the form knows the level, and from which side it will be crossed", () => {
  expect(blank("XAUUSD", DECIMALS, 4400, 4389)).toMatchObject({ kind: "crosses_up", level: "4400.00" });
  expect(blank("XAUUSD", DECIMALS, 4300, 4389)).toMatchObject({ kind: "crosses_down", level: "4300.00" });
});

describe("what is wrong is said beside the field", () => {
  const form = blank("XAUUSD", DECIMALS);

  test.each<[Partial<AlertForm>, keyof AlertForm, RegExp]>([
    [{ level: "" }, "level", /write a number, as 2050.50/],
    [{ level: "high" }, "level", /not a number/],
    [{ level: "-3" }, "level", /more than 0/],
    [{ kind: "leaves_range", low: "10", high: "9" }, "high", /above the lower end/],
    [{ kind: "moves_percent", percent: "" }, "percent", /as 0.5/],
    [{ level: "1", hysteresis: "-1" }, "hysteresis", /0 or more/],
    [{ level: "1", cooldownMinutes: "soon" }, "cooldownMinutes", /minutes/],
    [{ level: "1", expires: "2020-01-01T00:00" }, "expires", /over already/],
    [{ level: "1", note: "x".repeat(201) }, "note", /at most 200/],
    [{ level: "1", symbol: "" }, "symbol", /choose/],
  ])("%j", (part, field, words) => {
    const checked = check({ ...form, ...part }, DECIMALS, NOW);
    expect(checked.rule).toBeNull();
    expect(checked.problems?.[field]).toMatch(words);
    expect(Object.keys(checked.problems ?? {})).toEqual([field]);
  });

  test("a level is rounded to the symbol's decimals", () => {
    expect(check({ ...form, level: "4389.378" }, DECIMALS, NOW).rule?.condition).toEqual({
      kind: "crosses_up",
      level: 4389.38,
    });
  });
});

test("every condition can be said in words", () => {
  fc.assert(
    fc.property(conditions, (condition) => {
      expect(inWords(condition, DECIMALS)).not.toMatch(/undefined|NaN|does not know/);
    }),
  );
  expect(CONDITION_KINDS).toHaveLength(12);
  expect(inWords({ kind: "crosses_up", level: 2050 }, DECIMALS)).toBe("crosses 2,050.00 upwards");
  expect(inWords({ kind: "moves_percent", percent: 0.5, window_s: 900, direction: "down" }, DECIMALS)).toBe(
    "moves down 0.5 % within 15 min",
  );
  expect(inWords({ kind: "eclipse" } as unknown as Condition, DECIMALS)).toMatch(/does not know/);
});

describe("lines in the chart", () => {
  const range: Condition = { kind: "leaves_range", low: 10, high: 20 };

  test("are the levels of a condition", () => {
    expect(levelsOf({ kind: "above", level: 5 })).toEqual([{ field: "level", price: 5 }]);
    expect(levelsOf(range).map(({ price }) => price)).toEqual([10, 20]);
    expect(levelsOf({ kind: "market_opens" })).toEqual([]);
  });

  test("are moved, but a range is not turned over", () => {
    expect(moved({ kind: "above", level: 5 }, "level", 6)).toEqual({ kind: "above", level: 6 });
    expect(moved(range, "low", 12)).toEqual({ kind: "leaves_range", low: 12, high: 20 });
    expect(moved(range, "low", 20)).toBeNull();
    expect(moved(range, "level", 12)).toBeNull();
  });
});

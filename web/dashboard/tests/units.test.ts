import fc from "fast-check";
import { expect, test } from "vitest";
import { currencyOf, decimalsIn, factor, KARATS, OUNCE, unitName, type Weight, WEIGHTS } from "../src/units";

test("an ounce of fine gold is the price as it comes, to the last digit", () => {
  expect(factor(OUNCE)).toBe(1);
});

test.each<[Weight, number]>([
  ["g", 4389.38 / 31.1034768],
  ["kg", (4389.38 / 31.1034768) * 1000],
  ["tola", (4389.38 / 31.1034768) * 11.6638038],
  ["tael", (4389.38 / 31.1034768) * 37.429],
])("a price per %s", (weight, price) => {
  expect(4389.38 * factor({ weight, karat: 24 })).toBeCloseTo(price, 8);
});

test("18 karat are three quarters", () => {
  expect(factor({ weight: "ozt", karat: 18 })).toBe(0.75);
});

test("a step of the quoted price is seen in every unit, and none has more digits than that needs", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...(Object.keys(WEIGHTS) as Weight[])),
      fc.constantFrom(...KARATS),
      fc.integer({ min: 0, max: 4 }),
      (weight, karat, decimals) => {
        const unit = { weight, karat };
        const step = 10 ** -decimals * factor(unit);
        const shown = 10 ** -decimalsIn(unit, decimals);
        expect(shown).toBeLessThanOrEqual(step * 10);
        if (decimalsIn(unit, decimals) > 0) expect(shown).toBeGreaterThan(step / 40);
      },
    ),
  );
});

test("a unit is named with its currency", () => {
  expect(unitName(OUNCE)).toBe("USD / oz t");
  expect(unitName({ weight: "g", karat: 22 }, "EUR")).toBe("EUR / g, 22 karat");
  expect(["XAUUSD", "XAUEUR", "GC", "TESTGOLD"].map(currencyOf)).toEqual(["USD", "EUR", "USD", "USD"]);
});

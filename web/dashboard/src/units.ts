/** What a price is per, and of which purity: troy ounce, gram, kilogram, tola, tael; karat. */

export const GRAMS_PER_TROY_OUNCE = 31.1034768;

/** In grams. The tael is Hong Kong's, in which its gold exchange quotes. */
export const WEIGHTS = {
  ozt: { grams: GRAMS_PER_TROY_OUNCE, name: "troy ounce", short: "oz t" },
  g: { grams: 1, name: "gram", short: "g" },
  kg: { grams: 1000, name: "kilogram", short: "kg" },
  tola: { grams: 11.6638038, name: "tola", short: "tola" },
  tael: { grams: 37.429, name: "tael (Hong Kong)", short: "tael" },
} as const;

export type Weight = keyof typeof WEIGHTS;

export const KARATS = [24, 22, 21, 18, 14, 9] as const;

export type Karat = (typeof KARATS)[number];

export interface Unit {
  readonly weight: Weight;
  readonly karat: Karat;
}

export const OUNCE: Unit = { weight: "ozt", karat: 24 };

/** What a price per troy ounce of fine gold is multiplied with. */
export function factor(unit: Unit): number {
  if (unit.weight === "ozt" && unit.karat === 24) return 1;
  return (WEIGHTS[unit.weight].grams / GRAMS_PER_TROY_OUNCE) * (unit.karat / 24);
}

/** Digits after the point, so that the smallest step of the quoted price is about the smallest of the shown one. */
export function decimalsIn(unit: Unit, decimals: number): number {
  const digits = Math.round(-Math.log10(factor(unit)));
  return Math.min(Math.max(decimals + (digits > 0 ? 1 : Math.min(digits, 0)), 0), 6);
}

/** `USD / oz t`, `USD / g, 22 karat`. */
export function unitName(unit: Unit, currency = "USD"): string {
  const per = `${currency} / ${WEIGHTS[unit.weight].short}`;
  return unit.karat === 24 ? per : `${per}, ${unit.karat} karat`;
}

/** What a symbol is quoted in: its last three letters where these are a currency, else dollars. */
export function currencyOf(symbol: string): string {
  const last = symbol.slice(-3);
  return symbol.length > 3 && ["USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "AUD", "CAD"].includes(last)
    ? last
    : "USD";
}

export function isWeight(value: unknown): value is Weight {
  return typeof value === "string" && Object.hasOwn(WEIGHTS, value);
}

export function isKarat(value: unknown): value is Karat {
  return (KARATS as readonly unknown[]).includes(value);
}

/** How numbers, times and spans are written; no clock, no DOM. Time is an argument, in milliseconds since 1970. */

const MINUS = "\u2212";
const NOTHING = "\u2014";

const fixed = new Map<number, Intl.NumberFormat>();

function writer(decimals: number): Intl.NumberFormat {
  let known = fixed.get(decimals);
  if (!known) {
    known = new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    fixed.set(decimals, known);
  }
  return known;
}

/** `4,389.05`; a dash where there is no number. */
export function number(value: number | null | undefined, decimals = 0): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  const text = writer(decimals).format(Math.abs(value));
  return value < 0 && Number(text.replaceAll(",", "")) !== 0 ? MINUS + text : text;
}

/** `+5.20`, `−1.10`, `0.00`: never told by colour alone. */
export function signed(value: number | null | undefined, decimals = 0): string {
  const text = number(value, decimals);
  return value !== null && value !== undefined && value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

export type Move = "up" | "down" | "flat";

export function moveOf(value: number | null | undefined): Move {
  if (!value) return "flat";
  return value > 0 ? "up" : "down";
}

/** The price before its point and from there on, so that either can have a size of its own. */
export function priceParts(price: number, decimals: number): [whole: string, fraction: string] {
  const text = number(price, decimals);
  const point = text.lastIndexOf(".");
  return point < 0 ? [text, ""] : [text.slice(0, point), text.slice(point)];
}

const UNITS: readonly (readonly [seconds: number, name: string])[] = [
  [86_400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** `850 ms`, `4.2 s`, `38 s`, `12 min`, `3 h 20 min`, `2 d 1 h`: the two greatest units. */
export function span(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return NOTHING;
  const positive = Math.max(0, ms);
  if (positive < 1000) return `${Math.round(positive)} ms`;
  if (positive < 9950) return `${(positive / 1000).toFixed(1)} s`;
  const seconds = Math.round(positive / 1000);
  const first = UNITS.findIndex(([size]) => seconds >= size);
  const [size, name] = UNITS[first] ?? [1, "s"];
  const whole = Math.floor(seconds / size);
  const next = UNITS[first + 1];
  const rest = next === undefined || name === "min" ? 0 : Math.floor((seconds % size) / next[0]);
  return rest > 0 && next ? `${whole} ${name} ${rest} ${next[1]}` : `${whole} ${name}`;
}

/** How old a price is: whole seconds, which do not flicker; `just now` below two. */
export function age(ms: number): string {
  if (ms < 2000) return "just now";
  return `${ms < 10_000 ? `${Math.floor(ms / 1000)} s` : span(ms)} ago`;
}

const day = (ms: number) => new Date(ms).toDateString();
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** `14:03:07`, and with the day before it when that is another than today's. */
export function time(ms: number, now: number): string {
  const text = clock.format(ms);
  return day(ms) === day(now) ? text : `${date.format(ms)} ${text}`;
}

/** `1,234`, `56.1 k`, `3.4 M`. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  if (value < 10_000) return number(value);
  if (value < 999_950) return `${(value / 1000).toFixed(1)} k`;
  return `${(value / 1_000_000).toFixed(1)} M`;
}

/** A price as a person types it, with comma or point as they please; null when it is none. */
export function readNumber(text: string): number | null {
  const plain = text.trim().replace(/[\s'\u00a0\u202f]/g, "");
  const western = /^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$/.test(plain) ? plain.replaceAll(",", "") : plain.replace(",", ".");
  if (!/^[+-]?(\d+\.?\d*|\.\d+)$/.test(western)) return null;
  return Number(western);
}

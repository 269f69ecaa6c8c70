/** The form of an alert rule: what a person types, what is wrong with it, and the rule that it makes. */

import type { AlertCreateData, AlertRule, Condition } from "./daemon";
import { number, readNumber, span } from "./format";

export type ConditionKind = Condition["kind"];

interface KindWords {
  /** As in a list to choose from. */
  readonly label: string;
  /** What has to be filled in. */
  readonly fields: readonly FormField[];
}

export type FormField = "level" | "low" | "high" | "amount" | "percent" | "window" | "direction";

export const CONDITIONS: Readonly<Record<ConditionKind, KindWords>> = {
  crosses_up: { label: "Price crosses upwards", fields: ["level"] },
  crosses_down: { label: "Price crosses downwards", fields: ["level"] },
  above: { label: "Price is above", fields: ["level"] },
  below: { label: "Price is below", fields: ["level"] },
  leaves_range: { label: "Price leaves a range", fields: ["low", "high"] },
  moves: { label: "Price moves by an amount", fields: ["amount", "window", "direction"] },
  moves_percent: { label: "Price moves by percent", fields: ["percent", "window", "direction"] },
  new_high: { label: "New high", fields: ["window"] },
  new_low: { label: "New low", fields: ["window"] },
  becomes_stale: { label: "Price becomes stale", fields: [] },
  market_opens: { label: "Market opens", fields: [] },
  market_closes: { label: "Market closes", fields: [] },
};

export const CONDITION_KINDS = Object.keys(CONDITIONS) as ConditionKind[];

export const WINDOWS_S: readonly (readonly [seconds: number, label: string])[] = [
  [60, "1 minute"],
  [300, "5 minutes"],
  [900, "15 minutes"],
  [3600, "1 hour"],
  [14_400, "4 hours"],
  [86_400, "1 day"],
  [604_800, "1 week"],
];

export const MAX_NOTE = 200;

export interface AlertForm {
  readonly symbol: string;
  readonly kind: ConditionKind;
  readonly level: string;
  readonly low: string;
  readonly high: string;
  readonly amount: string;
  readonly percent: string;
  readonly window: number;
  readonly direction: "up" | "down" | "either";
  readonly repeat: AlertRule["repeat"];
  readonly hysteresis: string;
  readonly cooldownMinutes: string;
  /** As `<input type="datetime-local">` has it, in local time; empty: never. */
  readonly expires: string;
  readonly note: string;
}

/** A new form; from the chart it comes with the level that was pointed at. */
export function blank(symbol: string, decimals: number, level?: number, price?: number | null): AlertForm {
  const below = level !== undefined && price !== null && price !== undefined && level < price;
  return {
    symbol,
    kind: below ? "crosses_down" : "crosses_up",
    level: level === undefined ? "" : level.toFixed(decimals),
    low: "",
    high: "",
    amount: "",
    percent: "",
    window: 3600,
    direction: "either",
    repeat: "once",
    hysteresis: "",
    cooldownMinutes: "",
    expires: "",
    note: "",
  };
}

/** A rule that exists, to be edited. */
export function formOf(rule: AlertRule, decimals: number): AlertForm {
  const condition = rule.condition;
  const text = (value: number | null | undefined) => (value === null || value === undefined ? "" : String(value));
  const price = (value: number) => value.toFixed(decimals);
  return {
    ...blank(rule.symbol, decimals),
    kind: condition.kind,
    ...("level" in condition ? { level: price(condition.level) } : {}),
    ...("low" in condition ? { low: price(condition.low), high: price(condition.high) } : {}),
    ...("amount" in condition ? { amount: text(condition.amount) } : {}),
    ...("percent" in condition ? { percent: text(condition.percent) } : {}),
    ...("window_s" in condition ? { window: condition.window_s } : {}),
    ...("direction" in condition ? { direction: condition.direction ?? "either" } : {}),
    repeat: rule.repeat,
    hysteresis: text(rule.hysteresis),
    cooldownMinutes: rule.cooldown_s ? String(rule.cooldown_s / 60) : "",
    expires: rule.expires ? localInput(Date.parse(rule.expires)) : "",
    note: rule.note,
  };
}

/** `2025-10-27T12:00`, in local time. */
export function localInput(ms: number): string {
  const at = new Date(ms);
  const two = (value: number) => String(value).padStart(2, "0");
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

export type Problems = Partial<Record<keyof AlertForm, string>>;

export type Checked =
  { readonly rule: AlertCreateData; readonly problems: null } | { readonly rule: null; readonly problems: Problems };

/** What the form says, or all that is wrong with it. `now` is in milliseconds since 1970. */
export function check(form: AlertForm, decimals: number, now: number): Checked {
  const problems: Problems = {};
  const positive = (field: "level" | "low" | "high" | "amount" | "percent", example: string): number => {
    const value = readNumber(form[field]);
    if (value === null)
      problems[field] = form[field].trim() ? `not a number; write it as ${example}` : `write a number, as ${example}`;
    else if (value <= 0) problems[field] = "must be more than 0";
    return value ?? 0;
  };
  const price = (field: "level" | "low" | "high" | "amount"): number =>
    Number(positive(field, (2050.5).toFixed(decimals)).toFixed(decimals));
  const moving = { window_s: form.window, direction: form.direction };
  let condition: Condition;
  switch (form.kind) {
    case "above":
    case "below":
    case "crosses_up":
    case "crosses_down":
      condition = { kind: form.kind, level: price("level") };
      break;
    case "leaves_range":
      condition = { kind: form.kind, low: price("low"), high: price("high") };
      if (!problems.low && !problems.high && condition.low >= condition.high)
        problems.high = "must be above the lower end";
      break;
    case "moves":
      condition = { kind: form.kind, amount: price("amount"), ...moving };
      break;
    case "moves_percent":
      condition = { kind: form.kind, percent: positive("percent", "0.5"), ...moving };
      break;
    case "new_high":
    case "new_low":
      condition = { kind: form.kind, window_s: form.window };
      break;
    case "becomes_stale":
    case "market_opens":
    case "market_closes":
      condition = { kind: form.kind };
      break;
  }
  const optional = (field: "hysteresis" | "cooldownMinutes", what: string): number | null => {
    if (!form[field].trim()) return null;
    const value = readNumber(form[field]);
    if (value === null || value < 0) problems[field] = `${what}: a number of 0 or more, or nothing`;
    return value;
  };
  const hysteresis = optional("hysteresis", "a distance in price");
  const cooldown = optional("cooldownMinutes", "minutes");
  let expires: string | null = null;
  if (form.expires) {
    const at = Date.parse(form.expires);
    if (Number.isNaN(at)) problems.expires = "not a time";
    else if (at <= now) problems.expires = "is over already; choose a later time, or none";
    else expires = new Date(at).toISOString();
  }
  if (form.note.length > MAX_NOTE) problems.note = `at most ${MAX_NOTE} characters`;
  if (!form.symbol) problems.symbol = "choose one";
  if (Object.keys(problems).length > 0) return { rule: null, problems };
  return {
    rule: {
      symbol: form.symbol,
      condition,
      repeat: form.repeat,
      hysteresis,
      cooldown_s: (cooldown ?? 0) * 60,
      expires,
      note: form.note.trim(),
    },
    problems: null,
  };
}

/** A condition in words: `crosses 2,050.00 upwards`. */
export function describe(condition: Condition, decimals: number): string {
  const price = (value: number) => number(value, decimals);
  switch (condition.kind) {
    case "above":
      return `above ${price(condition.level)}`;
    case "below":
      return `below ${price(condition.level)}`;
    case "crosses_up":
      return `crosses ${price(condition.level)} upwards`;
    case "crosses_down":
      return `crosses ${price(condition.level)} downwards`;
    case "leaves_range":
      return `leaves ${price(condition.low)} \u2013 ${price(condition.high)}`;
    case "moves":
      return `moves ${ways(condition.direction)}${price(condition.amount)} within ${span(condition.window_s * 1000)}`;
    case "moves_percent":
      return `moves ${ways(condition.direction)}${condition.percent} % within ${span(condition.window_s * 1000)}`;
    case "new_high":
      return `new high of ${span(condition.window_s * 1000)}`;
    case "new_low":
      return `new low of ${span(condition.window_s * 1000)}`;
    case "becomes_stale":
      return "price becomes stale";
    case "market_opens":
      return "market opens";
    case "market_closes":
      return "market closes";
    default:
      return "a condition that this page does not know";
  }
}

function ways(direction: "up" | "down" | "either" | undefined): string {
  return direction === "up" || direction === "down" ? `${direction} ` : "";
}

/** The levels of a condition, which can be drawn as lines; `field` is what a drag changes. */
export function levelsOf(condition: Condition): readonly { field: "level" | "low" | "high"; price: number }[] {
  if ("level" in condition) return [{ field: "level", price: condition.level }];
  if ("low" in condition) {
    return [
      { field: "low", price: condition.low },
      { field: "high", price: condition.high },
    ];
  }
  return [];
}

/** The condition with one of its levels moved; null where that would turn a range over. */
export function moved(condition: Condition, field: "level" | "low" | "high", price: number): Condition | null {
  if ("level" in condition && field === "level") return { ...condition, level: price };
  if ("low" in condition && field !== "level") {
    const next = { ...condition, [field]: price };
    return next.low < next.high ? next : null;
  }
  return null;
}

/** What the user has arranged, kept in this browser: one store, read with `useSettings`. */

import { useSyncExternalStore } from "react";
import { DEFAULT_LAYOUT, type Layout, readLayout } from "./layout";
import { isKarat, isWeight, OUNCE, type Unit } from "./units";

export const INTERVALS = ["1s", "1m", "5m", "15m", "1h", "4h", "1d"] as const;

export type Interval = (typeof INTERVALS)[number];

export interface Settings {
  readonly layout: Layout;
  readonly theme: "auto" | "dark" | "light";
  /** Null: the daemon's first default symbol. */
  readonly symbol: string | null;
  readonly unit: Unit;
  readonly interval: Interval;
  readonly sound: boolean;
  readonly notifications: boolean;
}

export const DEFAULTS: Settings = {
  layout: DEFAULT_LAYOUT,
  theme: "auto",
  symbol: null,
  unit: OUNCE,
  interval: "1m",
  sound: false,
  notifications: false,
};

const VERSION = 1;

/** What is stored, or in a file that somebody exported; what is not understood is as by default. */
export function readSettings(value: unknown): Settings {
  if (typeof value !== "object" || value === null) return DEFAULTS;
  const { layout, theme, symbol, unit, interval, sound, notifications } = value as Record<string, unknown>;
  const { weight, karat } = (typeof unit === "object" && unit !== null ? unit : {}) as Record<string, unknown>;
  return {
    layout: readLayout(layout) ?? DEFAULTS.layout,
    theme: theme === "dark" || theme === "light" ? theme : "auto",
    symbol: typeof symbol === "string" && /^[A-Z0-9.]{1,16}$/.test(symbol) ? symbol : null,
    unit: isWeight(weight) && isKarat(karat) ? { weight, karat } : OUNCE,
    interval: INTERVALS.find((one) => one === interval) ?? DEFAULTS.interval,
    sound: sound === true,
    notifications: notifications === true,
  };
}

/** A file for another browser. */
export function exported(settings: Settings): string {
  return `${JSON.stringify({ aurex_dashboard: VERSION, ...settings }, null, 2)}\n`;
}

/**
 * The file read back.
 *
 * @throws Error when it is none of ours; its message is for people.
 */
export function imported(text: string): Settings {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("This file is not a layout: it is no JSON. Choose one that was exported here.");
  }
  if (typeof value !== "object" || value === null || !("aurex_dashboard" in value)) {
    throw new Error("This file is not a layout of this dashboard. Choose one that was exported here.");
  }
  if (value.aurex_dashboard !== VERSION) {
    throw new Error("This layout was exported by another release of the dashboard, which writes it differently.");
  }
  return readSettings(value);
}

/** The part of `Storage` that is needed; a browser may forbid it, then nothing is kept. */
export type Keep = Pick<Storage, "getItem" | "setItem">;

export class SettingsStore {
  readonly #keep: Keep | null;
  readonly #key: string;
  readonly #listeners = new Set<() => void>();
  #settings: Settings;

  constructor(keep: Keep | null, key = "aurex-dashboard") {
    this.#keep = keep;
    this.#key = key;
    this.#settings = this.#read();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly get = (): Settings => this.#settings;

  set(change: Partial<Settings>): void {
    this.#settings = { ...this.#settings, ...change };
    try {
      this.#keep?.setItem(this.#key, JSON.stringify(this.#settings));
    } catch {
      // Full, or forbidden: it holds until the page is closed.
    }
    for (const listener of this.#listeners) listener();
  }

  #read(): Settings {
    try {
      return readSettings(JSON.parse(this.#keep?.getItem(this.#key) ?? "null"));
    } catch {
      return DEFAULTS;
    }
  }
}

export function useSettings(store: SettingsStore): Settings {
  return useSyncExternalStore(store.subscribe, store.get);
}

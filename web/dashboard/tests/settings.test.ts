import { describe, expect, test } from "vitest";
import { add, DEFAULT_LAYOUT } from "../src/layout";
import { DEFAULTS, exported, imported, readSettings, type Settings, SettingsStore } from "../src/settings";

const CHANGED: Settings = {
  ...DEFAULTS,
  layout: add(DEFAULT_LAYOUT, "chart"),
  theme: "light",
  symbol: "GC",
  unit: { weight: "tola", karat: 22 },
  interval: "4h",
  sound: true,
};

class Keep {
  text: string | null;
  constructor(text: string | null = null) {
    this.text = text;
  }
  getItem(): string | null {
    return this.text;
  }
  setItem(_key: string, text: string): void {
    this.text = text;
  }
}

test("what is set is there the next time", () => {
  const keep = new Keep();
  new SettingsStore(keep).set(CHANGED);
  expect(new SettingsStore(keep).get()).toEqual(CHANGED);
});

test("listeners hear of a change until they go", () => {
  const store = new SettingsStore(null);
  let heard = 0;
  const stop = store.subscribe(() => {
    heard += 1;
  });
  store.set({ sound: true });
  stop();
  store.set({ sound: false });
  expect(heard).toBe(1);
});

test.each([
  [null],
  ["no JSON"],
  ["[]"],
  ['{"layout": 3, "theme": "pink", "unit": {"weight": "stone"}, "interval": "2m"}'],
])("a store with %j in it is as good as none", (text) => {
  expect(new SettingsStore(new Keep(text)).get()).toEqual(DEFAULTS);
});

test("a browser that keeps nothing is no trouble", () => {
  const store = new SettingsStore({
    getItem: () => {
      throw new Error("forbidden");
    },
    setItem: () => {
      throw new Error("full");
    },
  });
  store.set({ sound: true });
  expect(store.get().sound).toBe(true);
});

describe("a file", () => {
  test("takes everything along", () => {
    expect(imported(exported(CHANGED))).toEqual(CHANGED);
    expect(readSettings(JSON.parse(exported(CHANGED)))).toEqual(CHANGED);
  });

  test.each([
    ["hello", /no JSON/],
    ["{}", /not a layout of this dashboard/],
    ['{"aurex_dashboard": 99}', /another release/],
  ])("that is %j is refused in words", (text, words) => {
    expect(() => imported(text)).toThrow(words);
  });
});

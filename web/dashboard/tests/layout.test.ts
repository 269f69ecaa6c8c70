import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  add,
  COLUMNS,
  compact,
  DEFAULT_LAYOUT,
  type Direction,
  inOrder,
  KIND,
  KINDS,
  type Layout,
  move,
  overlap,
  readLayout,
  remove,
  resize,
  withSymbol,
} from "../src/layout";

const kinds = fc.constantFrom(...KINDS);
const directions = fc.constantFrom<Direction>("left", "right", "up", "down");
const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant("add" as const), kind: kinds }),
    fc.record({ do: fc.constantFrom("move" as const, "resize" as const), at: fc.nat(20), direction: directions }),
    fc.record({ do: fc.constant("remove" as const), at: fc.nat(20) }),
  ),
  { maxLength: 25 },
);

function sound(layout: Layout): void {
  for (const panel of layout) {
    expect(panel.x).toBeGreaterThanOrEqual(0);
    expect(panel.x + panel.w).toBeLessThanOrEqual(COLUMNS);
    expect(panel.w).toBeGreaterThanOrEqual(KIND[panel.kind].least.w);
    expect(panel.h).toBeGreaterThanOrEqual(KIND[panel.kind].least.h);
    expect(layout.some((other) => overlap(panel, other))).toBe(false);
  }
  expect(new Set(layout.map(({ id }) => id)).size).toBe(layout.length);
  expect(compact(layout)).toEqual(layout);
}

test("the one to begin with is sound", () => {
  sound(DEFAULT_LAYOUT);
});

test("whatever is done to a layout, it stays sound, and survives being stored", () => {
  fc.assert(
    fc.property(steps, (done) => {
      let layout: Layout = DEFAULT_LAYOUT;
      for (const step of done) {
        if (step.do === "add") {
          layout = add(layout, step.kind);
        } else {
          const id = layout[step.at % Math.max(1, layout.length)]?.id ?? "";
          if (step.do === "remove") layout = remove(layout, id);
          else layout = (step.do === "move" ? move : resize)(layout, id, step.direction);
        }
        sound(layout);
      }
      expect(readLayout(JSON.parse(JSON.stringify(layout)))).toEqual(layout);
    }),
    { numRuns: 60 },
  );
});

describe("by the keyboard", () => {
  const place = (layout: Layout, id: string) => layout.find((panel) => panel.id === id);

  test("a panel goes a column sideways, and not out of the page", () => {
    expect(place(move(DEFAULT_LAYOUT, "price-1", "left"), "price-1")?.x).toBe(0);
    expect(place(move(DEFAULT_LAYOUT, "system-1", "left"), "system-1")?.x).toBe(8);
  });

  test("upwards it changes places with what is above", () => {
    const after = move(DEFAULT_LAYOUT, "alerts-1", "up");
    expect(place(after, "alerts-1")?.y).toBe(0);
    expect(place(after, "price-1")?.y).toBeGreaterThan(0);
    expect(move(after, "alerts-1", "down")).toEqual(DEFAULT_LAYOUT);
  });

  test("it does not become smaller than what it shows", () => {
    let layout: Layout = DEFAULT_LAYOUT;
    for (let step = 0; step < 20; step += 1) layout = resize(resize(layout, "chart-1", "left"), "chart-1", "up");
    expect(place(layout, "chart-1")).toMatchObject(KIND.chart.least);
  });
});

test("panels are read from top to bottom, then from left to right", () => {
  expect(inOrder(DEFAULT_LAYOUT).map(({ kind }) => kind)).toEqual(["price", "chart", "alerts", "sources", "system"]);
});

test("a panel keeps to its symbol", () => {
  expect(withSymbol(DEFAULT_LAYOUT, "price-1", "GC")[0]?.symbol).toBe("GC");
});

test.each([[null], [{}], ["text"], [[{ id: "x" }]], [[1, 2]], [Array.from({ length: 99 }, () => ({}))]])(
  "%j is no layout",
  (value) => {
    expect(readLayout(value)).toBeNull();
  },
);

test("what is not ours in a stored layout is left out, and the rest put right", () => {
  const stored = [
    { id: "price-1", kind: "price", x: 11, y: 3, w: 1, h: 1, symbol: "<b>" },
    { id: "price-1", kind: "price", x: 0, y: 0, w: 4, h: 7, symbol: null },
    { id: "game-1", kind: "game", x: 0, y: 0, w: 4, h: 7, symbol: null },
  ];
  expect(readLayout(stored)).toEqual([{ id: "price-1", kind: "price", x: 9, y: 0, w: 3, h: 5, symbol: null }]);
  expect(readLayout([])).toEqual([]);
});

/** Which panels there are, and where: a grid of twelve columns, kept as plain data that a user can take along. */

export const COLUMNS = 12;

export const KINDS = ["price", "chart", "alerts", "sources", "system", "news", "sentiment", "signals"] as const;

export type Kind = (typeof KINDS)[number];

export interface KindFacts {
  readonly title: string;
  readonly size: { readonly w: number; readonly h: number };
  readonly least: { readonly w: number; readonly h: number };
  /** Whether it shows one symbol, which can be chosen for this panel alone. */
  readonly perSymbol: boolean;
  /** What the daemon must have. */
  readonly needs?: "news" | "sentiment" | "signal";
}

export const KIND: Readonly<Record<Kind, KindFacts>> = {
  price: { title: "Price", size: { w: 4, h: 7 }, least: { w: 3, h: 5 }, perSymbol: true },
  chart: { title: "Chart", size: { w: 8, h: 14 }, least: { w: 4, h: 7 }, perSymbol: true },
  alerts: { title: "Alerts", size: { w: 4, h: 9 }, least: { w: 3, h: 6 }, perSymbol: false },
  sources: { title: "Sources", size: { w: 8, h: 8 }, least: { w: 4, h: 5 }, perSymbol: false },
  system: { title: "System", size: { w: 4, h: 6 }, least: { w: 3, h: 4 }, perSymbol: false },
  news: { title: "News", size: { w: 4, h: 8 }, least: { w: 3, h: 4 }, perSymbol: false, needs: "news" },
  sentiment: { title: "Sentiment", size: { w: 4, h: 5 }, least: { w: 3, h: 4 }, perSymbol: true, needs: "sentiment" },
  signals: { title: "Signals", size: { w: 4, h: 6 }, least: { w: 3, h: 4 }, perSymbol: true, needs: "signal" },
};

export interface Panel {
  readonly id: string;
  readonly kind: Kind;
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
  /** The symbol that it keeps to; null: the one chosen above. */
  readonly symbol: string | null;
}

export type Layout = readonly Panel[];

/** Fits a screen of 1440 × 900. */
export const DEFAULT_LAYOUT: Layout = [
  { id: "price-1", kind: "price", x: 0, y: 0, w: 4, h: 8, symbol: null },
  { id: "chart-1", kind: "chart", x: 4, y: 0, w: 8, h: 12, symbol: null },
  { id: "alerts-1", kind: "alerts", x: 0, y: 8, w: 4, h: 11, symbol: null },
  { id: "sources-1", kind: "sources", x: 4, y: 12, w: 5, h: 7, symbol: null },
  { id: "system-1", kind: "system", x: 9, y: 12, w: 3, h: 7, symbol: null },
];

export function overlap(a: Panel, b: Panel): boolean {
  return a.id !== b.id && a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/** As read on a page: from top to bottom, then from left to right. */
export function inOrder(layout: Layout): Layout {
  return [...layout].sort((a, b) => a.y - b.y || a.x - b.x || a.id.localeCompare(b.id));
}

/** Each panel as far up as it goes; `first` keeps its place against the others. */
export function compact(layout: Layout, first?: string): Layout {
  const placed: Panel[] = [];
  const waiting = [...layout].sort(
    (a, b) => a.y - b.y || Number(b.id === first) - Number(a.id === first) || a.x - b.x || a.id.localeCompare(b.id),
  );
  for (const panel of waiting) {
    let moved = { ...panel, y: 0 };
    // The lowest floor that carries it: directly under one that is already placed, or at the top.
    const floors = [0, ...placed.map((other) => other.y + other.h)].sort((a, b) => a - b);
    for (const y of floors) {
      moved = { ...panel, y };
      if (!placed.some((other) => overlap(moved, other))) break;
    }
    placed.push(moved);
  }
  return layout.map((panel) => placed.find((other) => other.id === panel.id) ?? panel);
}

export function add(layout: Layout, kind: Kind): Layout {
  const used = new Set(layout.map((panel) => panel.id));
  let number = 1;
  while (used.has(`${kind}-${number}`)) number += 1;
  const bottom = Math.max(0, ...layout.map((panel) => panel.y + panel.h));
  const { w, h } = KIND[kind].size;
  return compact([...layout, { id: `${kind}-${number}`, kind, x: 0, y: bottom, w, h, symbol: null }]);
}

export function remove(layout: Layout, id: string): Layout {
  return compact(layout.filter((panel) => panel.id !== id));
}

export function withSymbol(layout: Layout, id: string, symbol: string | null): Layout {
  return layout.map((panel) => (panel.id === id ? { ...panel, symbol } : panel));
}

export type Direction = "left" | "right" | "up" | "down";

/** One step by the keyboard. Sideways it is a column; up and down it changes places with what is there. */
export function move(layout: Layout, id: string, direction: Direction): Layout {
  const panel = layout.find((one) => one.id === id);
  if (!panel) return layout;
  if (direction === "left" || direction === "right") {
    const x = Math.min(Math.max(panel.x + (direction === "left" ? -1 : 1), 0), COLUMNS - panel.w);
    return compact(
      layout.map((one) => (one.id === id ? { ...one, x } : one)),
      id,
    );
  }
  const beside = layout.filter((one) => one.id !== id && one.x < panel.x + panel.w && panel.x < one.x + one.w);
  if (direction === "up") {
    const above = beside.filter((one) => one.y < panel.y).sort((a, b) => b.y - a.y)[0];
    if (!above) return layout;
    return compact(
      layout.map((one) => (one.id === id ? { ...one, y: above.y } : one)),
      id,
    );
  }
  const below = beside.filter((one) => one.y > panel.y).sort((a, b) => a.y - b.y)[0];
  if (!below) return layout;
  return move(layout, below.id, "up");
}

/** One step by the keyboard of its lower right corner. */
export function resize(layout: Layout, id: string, direction: Direction): Layout {
  return compact(
    layout.map((panel) => {
      if (panel.id !== id) return panel;
      const { least } = KIND[panel.kind];
      const w = panel.w + (direction === "right" ? 1 : direction === "left" ? -1 : 0);
      const h = panel.h + (direction === "down" ? 1 : direction === "up" ? -1 : 0);
      return { ...panel, w: Math.min(Math.max(w, least.w), COLUMNS - panel.x), h: Math.max(h, least.h) };
    }),
    id,
  );
}

export const MAX_PANELS = 40;

const whole = (value: unknown, least: number, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most;

function readPanel(value: unknown): Panel | null {
  if (typeof value !== "object" || value === null) return null;
  const { id, kind, x, y, w, h, symbol } = value as Record<string, unknown>;
  if (typeof id !== "string" || !/^[\w-]{1,40}$/.test(id)) return null;
  if (!(KINDS as readonly unknown[]).includes(kind)) return null;
  if (!whole(x, 0, COLUMNS - 1) || !whole(y, 0, 10_000) || !whole(w, 1, COLUMNS) || !whole(h, 1, 100)) return null;
  const { least } = KIND[kind as Kind];
  const wide = Math.min(Math.max(w, least.w), COLUMNS);
  return {
    id,
    kind: kind as Kind,
    x: Math.min(x, COLUMNS - wide),
    y,
    w: wide,
    h: Math.max(h, least.h),
    symbol: typeof symbol === "string" && /^[A-Z0-9.]{1,16}$/.test(symbol) ? symbol : null,
  };
}

/** A layout out of a store or a file; what is not one of ours is left out. Null: nothing of it is. */
export function readLayout(value: unknown): Layout | null {
  if (!Array.isArray(value) || value.length > MAX_PANELS) return null;
  const panels: Panel[] = [];
  for (const one of value) {
    const panel = readPanel(one);
    if (panel && !panels.some((other) => other.id === panel.id)) panels.push(panel);
  }
  if (panels.length === 0 && value.length > 0) return null;
  return compact(panels);
}

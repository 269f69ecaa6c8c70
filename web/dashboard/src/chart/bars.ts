/** The candles of one chart, the times between them that have none, and where they stand on its scale. Pure. */

export interface Bar {
  /** Milliseconds since 1970, inclusive. */
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly open: number;
  readonly high: number;
  readonly low: number;
  readonly close: number;
  readonly ticks: number;
  readonly final: boolean;
  /** Taken from a provider's history. */
  readonly filled: boolean;
}

/** A time without prices, between two bars. */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

/** Either a bar, or a place on the time scale that stays empty. */
export interface Slot {
  readonly time: number;
  readonly bar: Bar | null;
}

/** A gap of up to so many intervals is drawn as long as it was; a longer one is drawn this short, and says its length. */
export const MOST_EMPTY = 6;

const DAY_MS = 86_400_000;
/** Between daily candles a weekend is no gap, and neither is one with a holiday. */
const DAILY_PAUSE_MS = 4.5 * DAY_MS;

/** The price moves within the newest bar, between two messages about it. Null: it is of another interval. */
export function ticked(bar: Bar, close: number, time: number): Bar | null {
  if (time < bar.start || time >= bar.end || bar.final) return null;
  if (close === bar.close) return bar;
  return { ...bar, close, high: Math.max(bar.high, close), low: Math.min(bar.low, close) };
}

/** The times between the bars in which there was no price. */
export function gapsOf(bars: readonly Bar[], intervalMs: number): readonly Gap[] {
  const gaps: Gap[] = [];
  const least = intervalMs >= DAY_MS ? DAILY_PAUSE_MS : 1;
  let from = Number.POSITIVE_INFINITY;
  for (const { start: to, end } of bars) {
    if (to - from >= least) gaps.push({ from, to });
    from = end;
  }
  return gaps;
}

/** The time scale: each bar, and between them the empty places of the gaps. */
export function slotsOf(bars: readonly Bar[], intervalMs: number): readonly Slot[] {
  const slots: Slot[] = [];
  const gaps = gapsOf(bars, intervalMs);
  let next = 0;
  for (const bar of bars) {
    const gap = gaps[next];
    if (gap && gap.to <= bar.start) {
      next += 1;
      const missing = Math.max(1, Math.round((gap.to - gap.from) / intervalMs));
      const empty = Math.min(missing, MOST_EMPTY);
      const step = Math.min(intervalMs, (gap.to - gap.from) / empty);
      for (let place = 0; place < empty; place += 1) slots.push({ time: gap.from + place * step, bar: null });
    }
    slots.push({ time: bar.start, bar });
  }
  return slots;
}

/** For each session, the first bar that belongs to it; without the very first, which may lie in its middle. */
export function sessionStarts(bars: readonly Bar[], sessions: readonly number[]): readonly number[] {
  const starts: number[] = [];
  let next = 0;
  for (const [at, { start }] of bars.entries()) {
    let begins = false;
    for (let session = sessions[next]; session !== undefined && session <= start; session = sessions[next]) {
      begins = true;
      next += 1;
    }
    if (begins && at > 0) starts.push(start);
  }
  return starts;
}

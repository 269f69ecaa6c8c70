/** Candles from the history and from the live channel, in one series. Pure. */
import type { HistoryCandle } from "./http.gen.js";

/** One candle; `start` names it within its series. */
export type Candle = Readonly<HistoryCandle>;

/** Whether `one` tells more of its interval than `other`: later revisions, then the final one, then more prices. */
function isNewer(one: Candle, other: Candle): boolean {
  if (one.final !== other.final) return one.final;
  if (one.revision !== other.revision) return one.revision > other.revision;
  return one.ticks >= other.ticks;
}

/**
 * Both in one series, by time; of one interval the candle that tells more. `known` is in order and stays as it is.
 *
 * @returns `known` itself where nothing has changed
 */
export function mergeCandles(known: readonly Candle[], more: readonly Candle[]): readonly Candle[] {
  if (more.length === 1 && more[0] !== undefined) return mergeOne(known, more[0]);
  const byStart = new Map(known.map((candle) => [candle.start, candle]));
  let changed = false;
  for (const candle of more) {
    const there = byStart.get(candle.start);
    if (there !== undefined && (isSame(there, candle) || !isNewer(candle, there))) continue;
    byStart.set(candle.start, candle);
    changed = true;
  }
  return changed ? [...byStart.values()].sort((a, b) => Date.parse(a.start) - Date.parse(b.start)) : known;
}

/** The usual case: the last candle changes, or a new one begins. */
function mergeOne(known: readonly Candle[], candle: Candle): readonly Candle[] {
  const time = Date.parse(candle.start);
  let at = known.length;
  while (at > 0 && Date.parse(known[at - 1]?.start ?? "") > time) at -= 1;
  const there = known[at - 1];
  if (there?.start !== candle.start) return [...known.slice(0, at), candle, ...known.slice(at)];
  if (isSame(there, candle) || !isNewer(candle, there)) return known;
  const merged = known.slice();
  merged[at - 1] = candle;
  return merged;
}

function isSame(one: Candle, other: Candle): boolean {
  return (
    one.final === other.final &&
    one.revision === other.revision &&
    one.ticks === other.ticks &&
    one.close === other.close &&
    one.high === other.high &&
    one.low === other.low
  );
}

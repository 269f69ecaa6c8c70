/** One symbol's candles of one interval: history, loaded page by page, with the live ones at its end. */
import { mergeCandles, type Candle } from "./candles.js";
import type { Interval } from "./channels.js";
import type { CandleHistory, Gap } from "./http.gen.js";
import { words, type Http } from "./http.js";
import type { Candle as CandleMessage } from "./protocol.gen.js";
import { Store, type ReadableStore, type Unsubscribe } from "./store.js";

/** What there is of a series now; another object whenever something in it has changed. */
export interface CandlesView {
  /** Oldest first. */
  readonly candles: readonly Candle[];
  /** Times between them in which there was no price. */
  readonly gaps: readonly Gap[];
  /** A page of history is on its way. */
  readonly loading: boolean;
  /** Why the last page could not be had; null: it could. */
  readonly error: string | null;
  /** There are older ones; see `loadMore`. */
  readonly hasMore: boolean;
}

export const NO_CANDLES: CandlesView = { candles: [], gaps: [], loading: false, error: null, hasMore: true };

/** Of a page: what a screen shows of candles, twice. */
const PAGE = 500;

export class CandleSeries {
  readonly symbol: string;
  readonly interval: Interval;
  readonly #http: Http;
  readonly #store = new Store(NO_CANDLES);
  readonly #watch: () => Unsubscribe;
  #watchers = 0;
  #stop: Unsubscribe | null = null;
  #busy: Promise<void> | null = null;
  #stale = true;

  /** @param watch begins the live candles */
  constructor(symbol: string, interval: Interval, http: Http, watch: () => Unsubscribe) {
    this.symbol = symbol;
    this.interval = interval;
    this.#http = http;
    this.#watch = watch;
  }

  get view(): ReadableStore<CandlesView> {
    return this.#store;
  }

  /** Begin: load the newest page, and follow the live candles until the returned function is called. */
  open(): Unsubscribe {
    this.#watchers += 1;
    this.#stop ??= this.#watch();
    if (this.#stale) void this.refresh();
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      this.#watchers -= 1;
      if (this.#watchers > 0) return;
      this.#stop?.();
      this.#stop = null;
      this.#stale = true; // nobody tells it what happens now
    };
  }

  /** A live candle. */
  put({ data, conflated }: CandleMessage): void {
    const { symbol: _s, interval: _i, instrument: _n, ...candle } = data;
    const { candles } = this.#store.get();
    const last = candles.at(-1);
    // A slow reader is sent only the newest: how the one before it ended is in the history.
    if (conflated !== undefined && last?.final === false && last.start !== candle.start) this.catchUp();
    this.#change({ candles: mergeCandles(candles, [candle]) });
  }

  /** Load the newest page: at the beginning, and when live candles were missed. */
  async refresh(): Promise<void> {
    this.#stale = false;
    const newest = this.#store.get().candles.at(-1)?.start;
    // From the last that is known on, where there is one: so that no hole is left, however long it was.
    await this.#load(newest === undefined ? {} : { from: newest, limit: 10_000 }, newest === undefined);
    if (this.#store.get().error !== null) this.#stale = true;
  }

  /** Load the page before the oldest candle. Does nothing while one is on its way, or where there are none. */
  async loadMore(): Promise<void> {
    const { candles, hasMore } = this.#store.get();
    const oldest = candles[0]?.start;
    if (oldest === undefined || !hasMore || this.#busy !== null) return this.#busy ?? undefined;
    await this.#load({ to: oldest }, true);
  }

  /** The connection is back, or messages were missed. */
  catchUp(): void {
    this.#stale = true;
    if (this.#watchers > 0) void this.refresh();
  }

  async #load(range: { from?: string; to?: string; limit?: number }, older: boolean): Promise<void> {
    this.#change({ loading: true });
    const before = this.#busy ?? Promise.resolve();
    const load = before.then(async () => {
      try {
        const query = { symbol: this.symbol, interval: this.interval, limit: PAGE, ...range };
        const page = (await this.#http.get("api/v1/prices/history", query)) as CandleHistory;
        const { candles, gaps, hasMore } = this.#store.get();
        this.#change({
          candles: mergeCandles(candles, page.candles),
          gaps: mergeGaps(gaps, page.gaps),
          hasMore: older ? page.next !== null : hasMore,
          error: null,
        });
      } catch (error) {
        this.#change({ error: words(error) });
      }
    });
    this.#busy = load;
    await load;
    if (this.#busy === load) {
      this.#busy = null;
      this.#change({ loading: false });
    }
  }

  #change(part: Partial<CandlesView>): void {
    const before = this.#store.get();
    const keys = Object.keys(part) as (keyof CandlesView)[];
    if (keys.some((key) => !Object.is(before[key], part[key]))) this.#store.set({ ...before, ...part });
  }
}

function mergeGaps(known: readonly Gap[], more: readonly Gap[]): readonly Gap[] {
  if (more.length === 0) return known;
  const byStart = new Map([...known, ...more].map((gap) => [gap.from, gap]));
  return [...byStart.values()].sort((a, b) => Date.parse(a.from) - Date.parse(b.from));
}

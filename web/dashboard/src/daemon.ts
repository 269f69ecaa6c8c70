/** The one seam to the client: what the panels know of the daemon, and how they ask it. */

import type {
  AlertData,
  AurexWebSocketClient,
  Candle,
  CandleSeries,
  Interval,
  PriceData,
  Quality,
  SourceHistory,
  Sources,
  Stats,
  SymbolInfo,
} from "@aurexd/client";
import {
  useAlerts as useClientAlerts,
  useAurexClient,
  useCandles,
  useConnection,
  useFramed,
  useRealtimePrice,
  useSources as useClientSources,
  useStats as useClientStats,
  useStatus,
  useSymbols as useClientSymbols,
} from "@aurexd/client/react";
import { useCallback, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { useApp } from "./app-context";
import type { Bar } from "./chart/bars";
import { codeOf, failureWords } from "./words";

export type {
  AlertCreateData,
  AlertData,
  AlertRule,
  Condition,
  ConnectionInfo as Connection,
  Instrument,
  PriceData,
  Quality,
  RuleView,
  SourceInfo,
  StatusData,
  SymbolInfo,
} from "@aurexd/client";
export { useConnection, useStatus };

/** What is asked over HTTP beside what the client asks by itself. */
export interface Daemon {
  /**
   * The JSON answer of a GET; null where this daemon has no such route.
   *
   * @throws Error whose message is for people
   */
  get(path: string, query?: Readonly<Record<string, string>>): Promise<unknown>;
}

export function daemonOf(client: AurexWebSocketClient): Daemon {
  return {
    async get(path, query) {
      try {
        return await client.get(path, query);
      } catch (error) {
        if (codeOf(error) === "http_404") return null;
        throw error;
      }
    },
  };
}

// --- symbols and prices ---

const NO_SYMBOLS: readonly SymbolInfo[] = [];

export function useSymbols(): readonly SymbolInfo[] {
  return useClientSymbols() ?? NO_SYMBOLS;
}

export function useSymbol(symbol: string): SymbolInfo | null {
  return useSymbols().find((one) => one.symbol === symbol) ?? null;
}

/** Whether the daemon has this symbol, as far as it is known. */
export function useServes(symbol: string | null): boolean {
  const symbols = useClientSymbols();
  return symbols === null || symbols.some((one) => one.symbol === symbol);
}

/** The one that is shown unless the user chose another; null while unknown. */
export function useDefaultSymbol(): string | null {
  const symbols = useSymbols();
  return (symbols.find((one) => one.default) ?? symbols[0])?.symbol ?? null;
}

export function usePrice(symbol: string): PriceData | null {
  return useRealtimePrice(symbol).price;
}

/** What a symbol costs at the moment when it is asked: for who shows no price, and need not be rendered with each. */
export function usePriceNow(symbol: string): () => PriceData | null {
  const client = useAurexClient();
  return useCallback(() => client.getPrice(symbol), [client, symbol]);
}

/** Be told of each price, outside of React. */
export function useEachPrice(symbol: string, told: (price: PriceData) => void): void {
  const client = useAurexClient();
  useEffect(() => client.onPriceUpdate(told, symbol), [client, symbol, told]);
}

/** One thing that changed: a symbol's source or quality. */
export interface StatusEntry {
  readonly symbol: string;
  readonly quality: Quality;
  readonly source: string | null;
  readonly reason: string;
  readonly since: string;
}

const MOST_ENTRIES = 100;

/** What changed and when, the newest first: as it comes, whatever panels there are, and what the daemon remembers. */
export class StatusLog {
  readonly #listeners = new Set<() => void>();
  #entries: readonly StatusEntry[] = [];

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly get = (): readonly StatusEntry[] => this.#entries;

  put(statuses: readonly StatusEntry[]): void {
    const known = new Map(this.#entries.map((entry) => [keyOf(entry), entry]));
    for (const { symbol, quality, source, reason, since } of statuses) {
      const entry = { symbol, quality, source, reason, since };
      if (!known.has(keyOf(entry))) known.set(keyOf(entry), entry);
    }
    if (known.size === this.#entries.length) return;
    this.#entries = [...known.values()]
      .sort((a, b) => Date.parse(b.since) - Date.parse(a.since))
      .slice(0, MOST_ENTRIES);
    for (const listener of this.#listeners) listener();
  }
}

const keyOf = ({ symbol, quality, source, reason, since }: StatusEntry): string =>
  [symbol, since, quality, source, reason].join("\n");

/** The log, with what was before this page was opened, and what was missed while it was not connected. */
export function useStatusLog(): readonly StatusEntry[] {
  const { daemon, log } = useApp();
  const { session } = useConnection();
  useEffect(() => {
    daemon
      .get("api/v1/sources/history", { limit: String(MOST_ENTRIES) })
      .then((answer) => log.put((answer as SourceHistory | null)?.statuses ?? []))
      .catch(() => undefined); // the store is not to be read now: what has come since then is there
  }, [daemon, log, session]);
  return useSyncExternalStore(log.subscribe, log.get);
}

// --- candles ---

export interface CandleFeed {
  readonly decimals: number;
  get(): readonly Bar[];
  /** Also begins: history is loaded, and live candles come. */
  subscribe(listener: () => void): () => void;
  loadOlder(): void;
  readonly series: CandleSeries;
}

export function useCandleFeed(symbol: string, interval: Interval, decimals: number): CandleFeed {
  const client = useAurexClient();
  return useMemo(() => feedOf(client.candles(symbol, interval), decimals), [client, symbol, interval, decimals]);
}

function feedOf(series: CandleSeries, decimals: number): CandleFeed {
  const known = new WeakMap<Candle, Bar>();
  let candles: readonly Candle[] = [];
  let bars: readonly Bar[] = [];
  return {
    decimals,
    series,
    get() {
      const now = series.view.get().candles;
      if (now !== candles) {
        candles = now;
        // The same candle stays the same bar, so that a chart sees at once what has changed.
        bars = now.map((candle) => {
          const bar = known.get(candle) ?? barOf(candle);
          known.set(candle, bar);
          return bar;
        });
      }
      return bars;
    },
    subscribe(listener) {
      const stop = series.view.subscribe(listener);
      const close = series.open();
      return () => {
        stop();
        close();
      };
    },
    loadOlder() {
      void series.loadMore();
    },
  };
}

function barOf({ start, end, open, high, low, close, ticks, final, filled }: Candle): Bar {
  return { start: Date.parse(start), end: Date.parse(end), open, high, low, close, ticks, final, filled };
}

/** What is to be said of a chart that shows nothing. */
export function useFeedState(feed: CandleFeed): { loading: boolean; error: string | null; empty: boolean } {
  const { loading, error, candles } = useFramed(feed.series.view);
  return { loading, error, empty: candles.length === 0 };
}

/** When the sessions began, in milliseconds since 1970: a daily candle is one session's. */
export function useSessions(symbol: string): readonly number[] {
  const { candles } = useCandles(symbol, "1d");
  const starts = candles.map((candle) => candle.start).join();
  return useMemo(() => starts.split(",").filter(Boolean).map(Date.parse), [starts]);
}

export function useLatestCandle(symbol: string, interval: Interval): Candle | null {
  return useCandles(symbol, interval).candles.at(-1) ?? null;
}

// --- what is asked from time to time ---

interface Asked<T> {
  readonly data: T | null;
  /** In words; null: all is well. */
  readonly error: string | null;
  readonly loading: boolean;
}

const asked = <T>({ data, error }: { data: T | null; error: Error | null }): Asked<T> => ({
  data,
  error: error && failureWords(error),
  loading: data === null && error === null,
});

export function useSources(): Asked<Sources> {
  return asked(useClientSources(SOURCES_MS));
}

const SOURCES_MS = 4000;
const STATS_MS = 4000;
const WHY_MS = 4000;

/** What part a source has in one symbol's price now. */
export interface Part {
  readonly symbol: string;
  readonly source: string;
  /** `counts`, or why it does not. */
  readonly standing: string;
  readonly close: number | null;
}

interface WhySource {
  readonly source: string;
  readonly standing: string;
  readonly tick: { readonly bid: number | null; readonly ask: number | null; readonly last: number | null } | null;
}

/** Who makes the price of this symbol, and who does not; empty where the daemon does not tell. */
export function useParts(symbol: string | null): readonly Part[] {
  const { daemon } = useApp();
  const [parts, setParts] = useState<readonly Part[]>([]);
  useEffect(() => {
    if (symbol === null) return;
    return every(WHY_MS, async () => {
      const why = (await daemon.get("api/v1/prices/why", { symbol })) as {
        sources?: readonly WhySource[];
      } | null;
      if (why === null) return false;
      setParts((why.sources ?? []).map((part) => partOf(symbol, part)));
      return true;
    });
  }, [daemon, symbol]);
  return useMemo(() => parts.filter((part) => part.symbol === symbol), [parts, symbol]);
}

function partOf(symbol: string, { source, standing, tick }: WhySource): Part {
  const { bid = null, ask = null, last = null } = tick ?? {};
  return { symbol, source, standing, close: bid !== null && ask !== null ? (bid + ask) / 2 : last };
}

/** Ask now and every so often while somebody looks, until it is told to stop or `ask` says false. */
function every(ms: number, ask: () => Promise<boolean>): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  const again = async (): Promise<void> => {
    let more = true;
    if (document.visibilityState === "visible") more = await ask().catch(() => true);
    if (more && !stopped) timer = setTimeout(() => void again(), ms);
  };
  void again();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

export function useStats(): Asked<Stats> {
  return asked(useClientStats(STATS_MS));
}

// --- alerts ---

export const useAlerts = useClientAlerts;

/** An alert that fired. */
export type FiredAlert = AlertData;

interface AlertHistory {
  readonly entries: readonly FiredAlert[];
  readonly error: string | null;
  readonly loading: boolean;
}

/** What has fired, also before this page was opened; the newest first. */
export function useAlertHistory(): AlertHistory {
  const { daemon } = useApp();
  const { fired, error } = useClientAlerts();
  const [stored, setStored] = useState<readonly FiredAlert[] | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  useEffect(() => {
    let wanted = true;
    daemon
      .get("api/v1/alerts/history")
      .then((answer) => {
        const { alerts = [] } = (answer ?? {}) as { alerts?: readonly { readonly alert: FiredAlert }[] };
        if (wanted) setStored(alerts.map(({ alert }) => alert));
      })
      .catch((failed: unknown) => {
        if (wanted) setFailure(failureWords(failed));
      });
    return () => {
      wanted = false;
    };
  }, [daemon]);
  const entries = useMemo(() => {
    const all = new Map([...(stored ?? []), ...fired].map((alert) => [alert.alert_id, alert]));
    return [...all.values()].sort((a, b) => Date.parse(b.fired) - Date.parse(a.fired));
  }, [stored, fired]);
  return { entries, error: failure ?? (error && failureWords(error)), loading: stored === null && failure === null };
}

/** Why an alert fired, in the daemon's words; null where it does not say. */
export async function whyFired(daemon: Daemon, alertId: string): Promise<string | null> {
  const answer = (await daemon.get(`api/v1/alerts/${encodeURIComponent(alertId)}/why`)) as { reason?: unknown } | null;
  return typeof answer?.reason === "string" ? answer.reason : null;
}

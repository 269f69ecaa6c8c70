/**
 * React hooks. Each subscribes to what it shows while it is mounted, and renders at most once per frame, however much
 * comes in between. Safe in StrictMode: mounting twice costs nothing, and what is unmounted is let go of.
 */
import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useState,
  useSyncExternalStore,
  type ReactNode,
} from "react";
import {
  getWebSocketClient,
  priceChannel,
  statusChannel,
  type Alerts,
  type AlertsView,
  type AurexWebSocketClient,
  type CandlesView,
  type ConnectionInfo,
  type ConnectionState,
  type Interval,
  type PriceData,
  type ReadableStore,
  type Sources,
  type Stats,
  type StatusData,
  type SymbolInfo,
  type Unsubscribe,
} from "../index.js";
import { inFrames } from "./frames.js";

const Context = createContext<AurexWebSocketClient | null>(null);

/** Gives the hooks below it a client other than `getWebSocketClient()`. */
export function AurexProvider(props: {
  readonly client: AurexWebSocketClient;
  readonly children?: ReactNode;
}): ReactNode {
  return createElement(Context.Provider, { value: props.client }, props.children);
}

/** The client that the hooks use. */
export function useAurexClient(): AurexWebSocketClient {
  return useContext(Context) ?? getWebSocketClient();
}

/** A store's value; `begin` has what it needs sent while the component is mounted. */
export function useFramed<T>(store: ReadableStore<T>, begin?: () => Unsubscribe): T {
  const twin = inFrames(store);
  const subscribe = useCallback(
    (listener: () => void) => {
      const stop = twin.subscribe(listener);
      const leave = begin?.();
      return () => {
        stop();
        leave?.();
      };
    },
    [twin, begin],
  );
  return useSyncExternalStore(subscribe, twin.get, twin.get);
}

/** `disconnected`, `connecting`, `connected` or `degraded`. Renders only when it changes. */
export function useConnectionState(): ConnectionState {
  const store = inFrames(useAurexClient().connectionStore);
  const state = (): ConnectionState => store.get().state;
  return useSyncExternalStore(store.subscribe, state, state);
}

/** Everything about the connection: how, since when, why not, how fast. */
export function useConnection(): ConnectionInfo {
  return useFramed(useAurexClient().connectionStore);
}

/** A symbol's price and the state of the connection. */
export interface RealtimePrice {
  /** Null before there is one. */
  readonly price: PriceData | null;
  readonly connectionState: ConnectionState;
}

/** The newest price of a symbol; without one, of the server's first default symbol. An empty one: of none, yet. */
export function useRealtimePrice(symbol?: string): RealtimePrice {
  const client = useAurexClient();
  const shown = useSymbol(symbol);
  const begin = useCallback(
    () => (shown ? client.subscribe(priceChannel(shown), statusChannel(shown)) : client.subscribe()),
    [client, shown],
  );
  const price = useFramed(client.priceStore(shown ?? ""), begin);
  const connectionState = useConnectionState();
  return useMemo(() => ({ price, connectionState }), [price, connectionState]);
}

/** A symbol's quality, source and market; null before it is known. */
export function useStatus(symbol?: string): StatusData | null {
  const client = useAurexClient();
  const shown = useSymbol(symbol);
  const begin = useCallback(
    () => (shown ? client.subscribe(statusChannel(shown)) : client.subscribe()),
    [client, shown],
  );
  return useFramed(client.statusStore(shown ?? ""), begin);
}

/** A symbol's candles; older ones with `loadMore`. */
export interface Candles extends CandlesView {
  /** Load the page before the oldest. Does nothing while one is on its way. */
  readonly loadMore: () => Promise<void>;
}

/** Candles: history, and the live ones at its end. */
export function useCandles(symbol: string, interval: Interval): Candles {
  const client = useAurexClient();
  const series = client.candles(symbol, interval);
  const begin = useCallback(() => series.open(), [series]);
  const view = useFramed(series.view, begin);
  return useMemo(() => ({ ...view, loadMore: () => series.loadMore() }), [view, series]);
}

/** The user's alerts: what there is, and what can be done. */
export interface UserAlerts extends AlertsView {
  readonly create: Alerts["create"];
  readonly update: Alerts["update"];
  readonly snooze: Alerts["snooze"];
  readonly remove: Alerts["delete"];
  readonly acknowledge: Alerts["acknowledge"];
}

/** The user's alert rules, and what has fired. */
export function useAlerts(): UserAlerts {
  const { alerts } = useAurexClient();
  const begin = useCallback(() => alerts.open(), [alerts]);
  const view = useFramed(alerts.view, begin);
  return useMemo(
    () => ({
      ...view,
      create: (data) => alerts.create(data),
      update: (data) => alerts.update(data),
      snooze: (ruleId, until) => alerts.snooze(ruleId, until),
      remove: (ruleId) => alerts.delete(ruleId),
      acknowledge: (alertIds) => alerts.acknowledge(alertIds),
    }),
    [view, alerts],
  );
}

/** The server's symbols with their decimals; null before they are known. */
export function useSymbols(): readonly SymbolInfo[] | null {
  const client = useAurexClient();
  const begin = useCallback(() => {
    void client.learnSymbols();
    return client.subscribe(); // with a connection, it is tried again where it failed
  }, [client]);
  return useFramed(client.symbols, begin);
}

/** What is asked for over HTTP from time to time. */
export interface Asked<T> {
  /** Null before the first answer; after a failure, the last one that came. */
  readonly data: T | null;
  /** Why the last try failed; null: it did not. */
  readonly error: Error | null;
}

/** The sources, asked for every so often. */
export function useSources(everyMs = 5000): Asked<Sources> {
  const client = useAurexClient();
  return useAsked(
    useCallback(() => client.fetchSources(), [client]),
    everyMs,
  );
}

/** Counts of clients and messages, asked for every so often. */
export function useStats(everyMs = 5000): Asked<Stats> {
  const client = useAurexClient();
  return useAsked(
    useCallback(() => client.fetchStats(), [client]),
    everyMs,
  );
}

function useAsked<T>(ask: () => Promise<T>, everyMs: number): Asked<T> {
  const [asked, setAsked] = useState<Asked<T>>({ data: null, error: null });
  useEffect(() => {
    let mounted = true;
    let timer: ReturnType<typeof setTimeout>;
    const again = async (): Promise<void> => {
      if (typeof document === "undefined" || document.visibilityState !== "hidden") {
        try {
          const data = await ask();
          if (mounted) setAsked({ data, error: null });
        } catch (error) {
          if (mounted) setAsked(({ data }) => ({ data, error: error as Error }));
        }
      }
      if (mounted) timer = setTimeout(() => void again(), everyMs);
    };
    void again();
    return () => {
      mounted = false;
      clearTimeout(timer);
    };
  }, [ask, everyMs]);
  return asked;
}

/** The symbol that is meant: the one named, or the first default one; undefined while that is unknown. */
function useSymbol(symbol: string | undefined): string | undefined {
  const client = useAurexClient();
  const begin = useCallback(() => {
    if (symbol === undefined && client.defaultSymbols.get() === null) void client.learnSymbols();
    return () => undefined;
  }, [client, symbol]);
  const defaults = useFramed(client.defaultSymbols, begin);
  return symbol ?? defaults?.[0];
}

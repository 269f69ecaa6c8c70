/** Live candles of one symbol: the frame around the chart, its legend, and where alerts are made from it. */

import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { blank, moved } from "../alert-form";
import { useApp } from "../app-context";
import type { Bar } from "../chart/bars";
import { ChartController, type ChartEvents, wholeTime } from "../chart/controller";
import {
  useAlerts,
  useCandleFeed,
  useEachPrice,
  useFeedState,
  usePriceNow,
  useSessions,
  useStatus,
  useSymbol,
} from "../daemon";
import { count, moveOf, number, signed } from "../format";
import { Bell, Plus } from "../icons";
import { type Interval, INTERVALS, useSettings } from "../settings";
import { useThemeName } from "../theme";
import { decimalsIn, factor } from "../units";
import { failureWords, qualityWords } from "../words";

export const INTERVAL_MS: Readonly<Record<Interval, number>> = {
  "1s": 1000,
  "1m": 60_000,
  "5m": 300_000,
  "15m": 900_000,
  "1h": 3_600_000,
  "4h": 14_400_000,
  "1d": 86_400_000,
};

export function ChartPanel({ symbol }: { symbol: string }) {
  const { settings } = useApp();
  const { interval } = useSettings(settings);
  return (
    <div className="chart" data-testid={`chart-${symbol}`}>
      <div className="chart-head">
        <div className="segments" role="group" aria-label="Interval">
          {INTERVALS.map((one) => (
            <button
              key={one}
              type="button"
              aria-pressed={one === interval}
              onClick={() => settings.set({ interval: one })}
            >
              {one}
            </button>
          ))}
        </div>
        <NewAlert symbol={symbol} />
      </div>
      <Plot key={`${symbol} ${interval}`} symbol={symbol} interval={interval} />
    </div>
  );
}

function NewAlert({ symbol }: { symbol: string }) {
  const { editAlert } = useApp();
  const priceNow = usePriceNow(symbol);
  const decimals = useSymbol(symbol)?.decimals ?? 2;
  return (
    <button
      type="button"
      className="quiet-button"
      onClick={() => editAlert(blank(symbol, decimals, priceNow()?.close, priceNow()?.close))}
    >
      <Bell /> <span className="wide-only">Alert</span>
      <span className="hidden">: new, for {symbol}</span>
    </button>
  );
}

function Plot({ symbol, interval }: { symbol: string; interval: Interval }) {
  const { settings, editAlert, toasts } = useApp();
  const { unit } = useSettings(settings);
  const facts = useSymbol(symbol);
  const decimals = facts?.decimals ?? 2;
  const feed = useCandleFeed(symbol, interval, decimals);
  const sessions = useSessions(symbol);
  const alerts = useAlerts();
  const priceNow = usePriceNow(symbol);
  const status = useStatus(symbol);
  const theme = useThemeName();
  const holder = useRef<HTMLDivElement>(null);
  const controller = useRef<ChartController | null>(null);
  const [legend, setLegend] = useState<Bar | null>(null);
  const [pointer, setPointer] = useState<Parameters<ChartEvents["onPointer"]>[0]>(null);
  const scale = useMemo(() => ({ by: factor(unit), decimals: decimalsIn(unit, decimals) }), [unit, decimals]);
  const rules = useMemo(
    () => alerts.rules.filter(({ symbol: of, state }) => of === symbol && (state === "armed" || state === "snoozed")),
    [alerts.rules, symbol],
  );
  const update = alerts.update;

  // What the chart calls is what was rendered last, without the chart being made anew.
  const calls = useRef<ChartEvents | null>(null);
  useLayoutEffect(() => {
    calls.current = {
      onLegend: setLegend,
      onPointer: setPointer,
      onMoveLine: (rule, field, level) => {
        const condition = moved(rule.condition, field, level);
        const undo = () => controller.current?.setRules(rules);
        if (!condition) {
          undo();
          toasts.show({
            tone: "warn",
            title: "Not moved",
            detail: "The lower end of a range must stay below the upper.",
          });
          return;
        }
        update({ rule_id: rule.rule_id, condition }).catch((error: unknown) => {
          undo();
          toasts.show({ tone: "bad", title: "The alert was not moved", detail: failureWords(error) });
        });
      },
    };
  }, [rules, toasts, update]);

  useLayoutEffect(() => {
    if (!holder.current) return;
    const chart = new ChartController(holder.current, feed, INTERVAL_MS[interval], scale, {
      onLegend: (bar) => calls.current?.onLegend(bar),
      onMoveLine: (...line) => calls.current?.onMoveLine(...line),
      onPointer: (at) => calls.current?.onPointer(at),
    });
    controller.current = chart;
    return () => {
      controller.current = null;
      chart.destroy();
    };
    // The scale is set below when it changes; the chart keeps its place then.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [feed, interval]);

  useEffect(() => controller.current?.setScale(scale), [feed, scale]);
  useEffect(() => controller.current?.setRules(rules), [feed, rules]);
  useEffect(() => controller.current?.setSessions(sessions), [feed, sessions]);
  useEffect(() => controller.current?.paint(), [feed, theme]);
  useEachPrice(
    symbol,
    useCallback(({ close, timestamp }) => controller.current?.tick(close, Date.parse(timestamp)), []),
  );

  const quality = status?.quality;
  const doubt = quality && quality !== "live" ? qualityWords(quality).label : null;
  return (
    <>
      <Legend bar={legend} by={scale.by} decimals={scale.decimals} intervalMs={INTERVAL_MS[interval]} />
      {/* The button counts as the plot: it must not go away under the pointer that comes for it. */}
      <div className="plot" onPointerLeave={() => setPointer(null)}>
        {doubt ? (
          <div className="watermark" data-tone={qualityWords(quality ?? "").tone} aria-hidden="true">
            {doubt}
          </div>
        ) : null}
        <div
          className="plot-canvas"
          ref={holder}
          role="img"
          aria-label={`Candles of ${symbol}, ${interval}. The newest closes at ${
            legend ? number(legend.close * scale.by, scale.decimals) : "nothing yet"
          }.`}
        />
        {pointer ? (
          <button
            type="button"
            className="plot-add"
            tabIndex={-1}
            style={{ top: `${pointer.y}px`, right: `${pointer.right}px` }}
            title={`New alert at ${number(pointer.price * scale.by, scale.decimals)}`}
            aria-label={`New alert at ${number(pointer.price * scale.by, scale.decimals)}`}
            onClick={() => editAlert(blank(symbol, decimals, pointer.price, priceNow()?.close))}
          >
            <Plus />
          </button>
        ) : null}
        <PlotNotice feed={feed} />
      </div>
    </>
  );
}

function PlotNotice({ feed }: { feed: ReturnType<typeof useCandleFeed> }) {
  const { loading, error, empty } = useFeedState(feed);
  if (error) return <p className="plot-notice">History cannot be loaded: {error}</p>;
  if (!empty) return null;
  return (
    <p className="plot-notice">
      {loading ? "Loading\u2026" : "There are no candles yet; they begin with the first price."}
    </p>
  );
}

function Legend({
  bar,
  by,
  decimals,
  intervalMs,
}: {
  bar: Bar | null;
  by: number;
  decimals: number;
  intervalMs: number;
}) {
  if (!bar) return <p className="legend">{"\u00a0"}</p>;
  const move = moveOf(bar.close - bar.open);
  const price = (value: number) => number(value * by, decimals);
  return (
    <p className="legend" data-testid="legend">
      <span className="muted">{wholeTime(bar.start, intervalMs)}</span>
      <span>
        <span className="muted">O</span> {price(bar.open)}
      </span>
      <span>
        <span className="muted">H</span> {price(bar.high)}
      </span>
      <span>
        <span className="muted">L</span> {price(bar.low)}
      </span>
      <span>
        <span className="muted">C</span> {price(bar.close)}
      </span>
      <span className="move" data-move={move}>
        {signed((bar.close - bar.open) * by, decimals)}
      </span>
      <span className="muted wide-only">
        {bar.filled ? "from the provider's history" : `${count(bar.ticks)} prices`}
      </span>
    </p>
  );
}

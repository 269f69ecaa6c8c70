/** One chart: its candles, what lies over them, and what a pointer does to it. It lives outside of React. */

import {
  CandlestickSeries,
  ColorType,
  createChart,
  CrosshairMode,
  type CandlestickData,
  type IChartApi,
  type IPriceLine,
  type ISeriesApi,
  LineStyle,
  type MouseEventParams,
  TickMarkType,
  type Time,
  type UTCTimestamp,
  type WhitespaceData,
} from "lightweight-charts";
import { levelsOf } from "../alert-form";
import type { AlertRule, CandleFeed } from "../daemon";
import { number } from "../format";
import { type Bar, gapsOf, sessionStarts, slotsOf, ticked } from "./bars";
import { chartTime, Overlay } from "./overlay";

export type LevelField = "level" | "low" | "high";

export interface ChartEvents {
  /** The bar under the crosshair, else the newest one; null while there is none. */
  readonly onLegend: (bar: Bar | null) => void;
  /** A line was dragged to there, in the symbol's own unit. */
  readonly onMoveLine: (rule: AlertRule, field: LevelField, price: number) => void;
  /** Where the pointer is, for the button beside the price scale; null: nowhere. */
  readonly onPointer: (at: { y: number; right: number; price: number } | null) => void;
}

export interface ChartScale {
  /** Prices are multiplied with this before they are drawn. */
  readonly by: number;
  readonly decimals: number;
}

interface Line {
  readonly rule: AlertRule;
  readonly field: LevelField;
  readonly line: IPriceLine;
  price: number;
}

type Drawn = CandlestickData<UTCTimestamp> | WhitespaceData<UTCTimestamp>;

/** How near a pointer has to be to take a line. */
const REACH_PX = 6;
const REACH_TOUCH_PX = 14;
/** Bars left of what is seen, below which older ones are asked for. */
const AHEAD_BARS = 60;
const FIRST_BARS = 120;
/** Where there is little room, fewer bars are shown at first, so that each is to be seen. */
const LEAST_BAR_PX = 6;

export class ChartController {
  readonly #container: HTMLElement;
  readonly #events: ChartEvents;
  readonly #feed: CandleFeed;
  readonly #intervalMs: number;
  readonly #chart: IChartApi;
  readonly #series: ISeriesApi<"Candlestick">;
  readonly #overlay = new Overlay();
  readonly #end: (() => void)[] = [];
  #scale: ChartScale;
  #bars: readonly Bar[] = [];
  #sessions: readonly number[] = [];
  #lines: Line[] = [];
  #live: Bar | null = null;
  #hovered: Bar | null = null;
  #dragged: Line | null = null;
  #frame = 0;
  #alertColor = "";

  constructor(container: HTMLElement, feed: CandleFeed, intervalMs: number, scale: ChartScale, events: ChartEvents) {
    this.#container = container;
    this.#feed = feed;
    this.#intervalMs = intervalMs;
    this.#scale = scale;
    this.#events = events;
    this.#chart = createChart(container, {
      autoSize: true,
      // The page's policy forbids the style sheet that comes with it; the page names TradingView itself.
      layout: { attributionLogo: false, fontSize: 11 },
      crosshair: { mode: CrosshairMode.Normal },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.12, bottom: 0.1 } },
      timeScale: {
        borderVisible: false,
        timeVisible: intervalMs < 86_400_000,
        secondsVisible: intervalMs < 60_000,
        rightOffset: 6,
        tickMarkFormatter: tickMark,
      },
      localization: { timeFormatter: (time: Time) => wholeTime(Number(time) * 1000, intervalMs) },
    });
    this.#series = this.#chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.#series.attachPrimitive(this.#overlay);
    this.setScale(scale);
    this.paint();
    this.#chart.subscribeCrosshairMove(this.#crosshair);
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange(this.#scrolled);
    this.#listen();
    this.#end.push(feed.subscribe(this.#fed));
    this.#fed();
    const shown = Math.min(FIRST_BARS, Math.max(20, Math.round(container.clientWidth / LEAST_BAR_PX)));
    this.#chart.timeScale().setVisibleLogicalRange({ from: this.#slots - shown, to: this.#slots + 6 });
  }

  destroy(): void {
    cancelAnimationFrame(this.#frame);
    for (const end of this.#end) end();
    this.#chart.remove();
  }

  // --- what it is told ---

  setScale(scale: ChartScale): void {
    const changed = scale.by !== this.#scale.by;
    this.#scale = scale;
    this.#series.applyOptions({
      priceFormat: {
        type: "custom",
        minMove: 10 ** -scale.decimals,
        formatter: (price: number) => number(price, scale.decimals),
      },
    });
    if (changed) {
      this.#redraw();
      const rules = this.#lines.map(({ rule }) => rule);
      this.setRules(rules.filter((rule, index) => rules.indexOf(rule) === index));
    }
  }

  /** Take the colours from the style sheet (again). */
  paint(): void {
    const style = getComputedStyle(this.#container);
    const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
    this.#alertColor = color("accent");
    this.#chart.applyOptions({
      layout: {
        background: { type: ColorType.Solid, color: color("panel") },
        textColor: color("muted"),
        fontFamily: style.fontFamily,
      },
      grid: { vertLines: { visible: false }, horzLines: { color: color("grid") } },
      crosshair: {
        vertLine: { color: color("muted"), labelBackgroundColor: color("raised") },
        horzLine: { color: color("muted"), labelBackgroundColor: color("raised") },
      },
    });
    const [up, down] = [color("up"), color("down")];
    this.#series.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    this.#overlay.paint({
      line: color("line"),
      hatch: color("hatch"),
      text: color("muted"),
      font: style.fontFamily,
    });
    for (const { line } of this.#lines) line.applyOptions({ color: this.#alertColor });
  }

  /** Where sessions begin, in milliseconds since 1970, ascending. */
  setSessions(sessions: readonly number[]): void {
    this.#sessions = sessions;
    this.#overlaid();
  }

  /** The alert rules of this symbol. */
  setRules(rules: readonly AlertRule[]): void {
    const dragged = this.#dragged;
    for (const { line } of this.#lines) if (line !== dragged?.line) this.#series.removePriceLine(line);
    this.#lines = rules.flatMap((rule) =>
      levelsOf(rule.condition).map(({ field, price }) => {
        if (dragged?.rule.rule_id === rule.rule_id && dragged.field === field) return dragged;
        const line = this.#series.createPriceLine({
          price: price * this.#scale.by,
          color: this.#alertColor,
          lineWidth: 1,
          lineStyle: rule.state === "armed" ? LineStyle.Solid : LineStyle.Dotted,
          axisLabelVisible: true,
          title: rule.state === "armed" ? "alert" : rule.state,
        });
        return { rule, field, line, price };
      }),
    );
    if (dragged && !this.#lines.includes(dragged)) {
      this.#series.removePriceLine(dragged.line);
      this.#dragged = null;
    }
  }

  /** The price, which moves within the newest bar between two messages about it. */
  tick(close: number, time: number): void {
    const newest = this.#live ?? this.#bars[this.#bars.length - 1];
    if (!newest) return;
    const bar = ticked(newest, close, time);
    if (!bar || bar === newest) return;
    this.#live = bar;
    if (this.#frame === 0) this.#frame = requestAnimationFrame(this.#drawLive);
  }

  /** The newest bars come into view. */
  scrollToNow(): void {
    this.#chart.timeScale().scrollToRealTime();
  }

  // --- bars ---

  get #slots(): number {
    return slotsOf(this.#bars, this.#intervalMs).length;
  }

  readonly #fed = (): void => {
    const before = this.#bars;
    const bars = this.#feed.get();
    if (bars === before) return;
    this.#bars = bars;
    this.#live = null;
    const newest = bars.at(-1);
    const second = bars.at(-2);
    const last = before.at(-1);
    const same = bars[0] === before[0] && bars[before.length - 2] === before[before.length - 2];
    if (last && newest && same && bars.length === before.length && newest.start === last.start) {
      this.#series.update(this.#drawn(newest));
    } else if (newest && second?.end === newest.start && same && bars.length === before.length + 1) {
      // The one before has come to its end, and a new one begins.
      this.#series.update(this.#drawn(second));
      this.#series.update(this.#drawn(newest));
      this.#overlaid();
    } else {
      this.#redraw();
    }
    this.#legend();
  };

  readonly #drawLive = (): void => {
    this.#frame = 0;
    if (!this.#live) return;
    this.#series.update(this.#drawn(this.#live));
    this.#legend();
  };

  #redraw(): void {
    this.#series.setData(
      slotsOf(this.#bars, this.#intervalMs).map(({ time, bar }): Drawn =>
        bar ? this.#drawn(bar) : { time: chartTime(time) },
      ),
    );
    this.#overlaid();
  }

  #drawn({ start, open, high, low, close }: Bar): CandlestickData<UTCTimestamp> {
    const { by } = this.#scale;
    return { time: chartTime(start), open: open * by, high: high * by, low: low * by, close: close * by };
  }

  #overlaid(): void {
    const ends = new Map(this.#bars.map((bar) => [bar.end, bar.start]));
    const gaps = gapsOf(this.#bars, this.#intervalMs)
      .filter((gap) => gap.to - gap.from > this.#intervalMs)
      .map((gap) => ({ gap, before: ends.get(gap.from) ?? gap.from, after: gap.to }));
    const sessions = this.#intervalMs < 86_400_000 ? sessionStarts(this.#bars, this.#sessions) : [];
    this.#overlay.set(gaps, sessions);
  }

  #legend(): void {
    const newest = this.#live ?? this.#bars[this.#bars.length - 1] ?? null;
    const hovered = this.#hovered;
    if (hovered && newest && hovered.start !== newest.start) this.#events.onLegend(hovered);
    else this.#events.onLegend(newest);
  }

  // --- the pointer ---

  readonly #crosshair = (event: MouseEventParams): void => {
    const time = event.time === undefined ? null : Number(event.time);
    this.#hovered = time === null ? null : (this.#bars.find((bar) => chartTime(bar.start) === time) ?? null);
    this.#legend();
  };

  readonly #scrolled = (range: { from: number } | null): void => {
    if (range && range.from < AHEAD_BARS) this.#feed.loadOlder();
  };

  #listen(): void {
    const on = <K extends keyof HTMLElementEventMap>(
      name: K,
      handler: (event: HTMLElementEventMap[K]) => void,
    ): void => {
      this.#container.addEventListener(name, handler, { capture: true });
      this.#end.push(() => this.#container.removeEventListener(name, handler, { capture: true }));
    };
    on("pointermove", this.#pointerMoved);
    on("pointerdown", this.#pointerDown);
    on("pointerup", this.#pointerUp);
    on("pointercancel", this.#pointerUp);
  }

  #near(y: number, reach: number): Line | null {
    let nearest: Line | null = null;
    let least = reach;
    for (const one of this.#lines) {
      const at = this.#series.priceToCoordinate(one.price * this.#scale.by);
      if (at !== null && Math.abs(at - y) <= least) {
        least = Math.abs(at - y);
        nearest = one;
      }
    }
    return nearest;
  }

  #free(free: boolean): void {
    this.#chart.applyOptions({ handleScroll: free, handleScale: free });
  }

  #at(event: PointerEvent): { y: number; price: number | null } {
    const y = event.clientY - this.#container.getBoundingClientRect().top;
    return { y, price: this.#series.coordinateToPrice(y) };
  }

  readonly #pointerMoved = (event: PointerEvent): void => {
    const { y, price } = this.#at(event);
    if (this.#dragged) {
      if (price === null || price <= 0) return;
      this.#dragged.price = this.#rounded(price);
      this.#dragged.line.applyOptions({ price: this.#dragged.price * this.#scale.by });
      return;
    }
    if (event.pointerType === "mouse") {
      const over = this.#near(y, REACH_PX) !== null;
      if (over !== (this.#container.dataset["over"] === "line")) {
        this.#container.dataset["over"] = over ? "line" : "";
        this.#free(!over);
      }
    }
    const plot = this.#chart.paneSize();
    if (price === null || y > plot.height) this.#events.onPointer(null);
    else this.#events.onPointer({ y, right: this.#chart.priceScale("right").width(), price: this.#rounded(price) });
  };

  readonly #pointerDown = (event: PointerEvent): void => {
    if (event.button !== 0 || !(event.target instanceof HTMLCanvasElement)) return;
    const line = this.#near(this.#at(event).y, event.pointerType === "mouse" ? REACH_PX : REACH_TOUCH_PX);
    if (!line) return;
    this.#dragged = line;
    this.#free(false);
    this.#container.setPointerCapture(event.pointerId);
    this.#events.onPointer(null);
  };

  readonly #pointerUp = (event: PointerEvent): void => {
    const line = this.#dragged;
    if (!line) return;
    this.#dragged = null;
    this.#free(true);
    this.#container.releasePointerCapture(event.pointerId);
    this.#container.dataset["over"] = "";
    const before = levelsOf(line.rule.condition).find(({ field }) => field === line.field)?.price;
    if (event.type === "pointercancel" || before === line.price) {
      line.price = before ?? line.price;
      line.line.applyOptions({ price: line.price * this.#scale.by });
    } else {
      this.#events.onMoveLine(line.rule, line.field, line.price);
    }
  };

  /** A drawn price in the symbol's own unit and decimals. */
  #rounded(drawn: number): number {
    return Number((drawn / this.#scale.by).toFixed(this.#feed.decimals));
  }
}

// --- times, in the user's zone ---

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const weekday = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric" });

function tickMark(time: Time, type: TickMarkType): string {
  const ms = Number(time) * 1000;
  switch (type) {
    case TickMarkType.Year:
      return String(new Date(ms).getFullYear());
    case TickMarkType.Month:
    case TickMarkType.DayOfMonth:
      return day.format(ms);
    case TickMarkType.Time:
      return clock.format(ms);
    case TickMarkType.TimeWithSeconds:
      return seconds.format(ms);
  }
}

export function wholeTime(ms: number, intervalMs: number): string {
  if (intervalMs >= 86_400_000) return weekday.format(ms);
  return `${day.format(ms)} ${(intervalMs < 60_000 ? seconds : clock).format(ms)}`;
}

/** What is drawn beneath the candles: hatched gaps that say how long they were, and where sessions begin. */

import type {
  IChartApi,
  IPrimitivePaneRenderer,
  IPrimitivePaneView,
  ISeriesPrimitive,
  PrimitivePaneViewZOrder,
  SeriesAttachedParameter,
  UTCTimestamp,
} from "lightweight-charts";
import { span } from "../format";
import type { Gap } from "./bars";

type Target = Parameters<IPrimitivePaneRenderer["draw"]>[0];

export interface OverlayColors {
  readonly line: string;
  readonly hatch: string;
  readonly text: string;
  readonly font: string;
}

/** A session's line is drawn only where the next one is at least this far. */
const LEAST_SESSION_PX = 56;
const LEAST_LABEL_PX = 48;
const HATCH_PX = 7;

const date = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });

/** Milliseconds since 1970 as the chart has them. */
export const chartTime = (ms: number): UTCTimestamp => Math.floor(ms / 1000) as UTCTimestamp;

export class Overlay implements ISeriesPrimitive, IPrimitivePaneView, IPrimitivePaneRenderer {
  #chart: IChartApi | null = null;
  #requestUpdate: (() => void) | null = null;
  #gaps: readonly { gap: Gap; before: number; after: number }[] = [];
  #sessions: readonly number[] = [];
  #colors: OverlayColors | null = null;

  attached(parameter: SeriesAttachedParameter): void {
    this.#chart = parameter.chart;
    this.#requestUpdate = parameter.requestUpdate;
  }

  detached(): void {
    this.#chart = null;
    this.#requestUpdate = null;
  }

  /** `before` and `after` are the starts of the bars on both sides of a gap. */
  set(gaps: readonly { gap: Gap; before: number; after: number }[], sessions: readonly number[]): void {
    this.#gaps = gaps;
    this.#sessions = sessions;
    this.#requestUpdate?.();
  }

  paint(colors: OverlayColors): void {
    this.#colors = colors;
    this.#requestUpdate?.();
  }

  paneViews(): readonly IPrimitivePaneView[] {
    return [this];
  }

  zOrder(): PrimitivePaneViewZOrder {
    return "bottom";
  }

  renderer(): IPrimitivePaneRenderer {
    return this;
  }

  draw(target: Target): void {
    const scale = this.#chart?.timeScale();
    const colors = this.#colors;
    if (!scale || !colors) return;
    const visible = scale.getVisibleRange();
    if (!visible) return;
    const half = scale.options().barSpacing / 2;
    target.useMediaCoordinateSpace(({ context, mediaSize: { height, width } }) => {
      context.font = `11px ${colors.font}`;
      context.textBaseline = "top";
      let drawn = Number.NEGATIVE_INFINITY;
      for (const start of this.#sessions) {
        const middle = scale.timeToCoordinate(chartTime(start));
        if (middle === null || middle < 0 || middle > width) continue;
        const x = Math.round(middle - half) + 0.5;
        if (x - drawn < LEAST_SESSION_PX) continue;
        drawn = x;
        context.strokeStyle = colors.line;
        context.setLineDash([2, 3]);
        context.beginPath();
        context.moveTo(x, 0);
        context.lineTo(x, height);
        context.stroke();
        context.setLineDash([]);
        context.fillStyle = colors.text;
        context.textAlign = "left";
        context.fillText(date.format(start), x + 4, height - 16);
      }
      for (const { gap, before, after } of this.#gaps) {
        const left = scale.timeToCoordinate(chartTime(before));
        const right = scale.timeToCoordinate(chartTime(after));
        if (left === null || right === null || right < 0 || left > width) continue;
        hatch(context, left + half, right - half, height, colors.hatch);
        if (right - left < LEAST_LABEL_PX) continue;
        context.save();
        context.fillStyle = colors.text;
        context.textAlign = "center";
        context.fillText(`no prices ${span(gap.to - gap.from)}`, (left + right) / 2, 8);
        context.restore();
      }
    });
  }
}

function hatch(context: CanvasRenderingContext2D, left: number, right: number, height: number, color: string): void {
  if (right <= left) return;
  context.save();
  context.beginPath();
  context.rect(left, 0, right - left, height);
  context.clip();
  context.strokeStyle = color;
  context.lineWidth = 1;
  context.beginPath();
  for (let x = left - height; x < right; x += HATCH_PX) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.stroke();
  context.restore();
}

/** The panels where the user put them: moved and resized by pointer or by keyboard; one below the other on a phone. */

import { lazy, memo, Suspense, useEffect, useMemo, useRef, useState } from "react";
import ReactGridLayout, { type Layout as GridItems, verticalCompactor } from "react-grid-layout";
import { useApp } from "./app-context";
import { useDefaultSymbol, useServes, useSymbols } from "./daemon";
import { Cross, Grip } from "./icons";
import {
  COLUMNS,
  compact,
  type Direction,
  inOrder,
  KIND,
  type Layout,
  move,
  type Panel,
  remove,
  resize,
  withSymbol,
} from "./layout";
import { AlertsPanel } from "./panels/Alerts";
import { NewsPanel, SentimentPanel, SignalsPanel } from "./panels/Extras";
import { PricePanel } from "./panels/Price";
import { SourcesPanel } from "./panels/Sources";
import { SystemPanel } from "./panels/System";
import { useServed } from "./served";
import { useSettings } from "./settings";

/** The chart's library is the largest part of the page; the price does not wait for it. */
const ChartPanel = lazy(() => import("./panels/Chart").then(({ ChartPanel: Chart }) => ({ default: Chart })));

/** Below this a grid makes no sense: the panels stand one below the other. */
const NARROW_PX = 760;
const ROW_PX = 34;
const GAP_PX = 10;

/** react-draggable would write a style element, which the page's policy forbids; it does not where there is one. */
function forestallStyles(): void {
  const id = "react-draggable-style-el";
  if (document.getElementById(id)) return;
  const place = document.createElement("meta");
  place.id = id;
  document.head.append(place);
}

export function Grid() {
  const { settings } = useApp();
  const { layout } = useSettings(settings);
  const served = useServed();
  const holder = useRef<HTMLElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(forestallStyles, []);
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const shown = useMemo(
    () =>
      layout.filter(({ kind }) => {
        const { needs } = KIND[kind];
        return needs === undefined || served.has(needs);
      }),
    [layout, served],
  );
  return (
    <main className="panels" ref={holder}>
      {width === 0 ? null : width < NARROW_PX ? (
        <div className="column">
          {inOrder(shown).map((panel) => (
            <PanelFrame key={panel.id} panel={panel} fixed />
          ))}
        </div>
      ) : (
        <Movable layout={layout} shown={shown} width={width} />
      )}
      {layout.length === 0 ? (
        <p className="empty">
          There are no panels. Add some with &ldquo;Panels&rdquo; above, or reset the layout there.
        </p>
      ) : null}
    </main>
  );
}

function Movable({ layout, shown, width }: { layout: Layout; shown: Layout; width: number }) {
  const { settings } = useApp();
  const items = useMemo(
    () =>
      shown.map(({ id, kind, x, y, w, h }) => ({
        i: id,
        x,
        y,
        w,
        h,
        minW: KIND[kind].least.w,
        minH: KIND[kind].least.h,
      })),
    [shown],
  );
  const arranged = (after: GridItems) => {
    const places = new Map(after.map((item) => [item.i, item]));
    const next = layout.map((panel) => {
      const place = places.get(panel.id);
      return place ? { ...panel, x: place.x, y: place.y, w: place.w, h: place.h } : panel;
    });
    if (JSON.stringify(next) !== JSON.stringify(layout)) settings.set({ layout: compact(next) });
  };
  return (
    <ReactGridLayout
      width={width}
      layout={items}
      gridConfig={{ cols: COLUMNS, rowHeight: ROW_PX, margin: [GAP_PX, GAP_PX], containerPadding: [0, 0] }}
      dragConfig={{ handle: ".panel-grip" }}
      resizeConfig={{ handles: ["se"] }}
      compactor={verticalCompactor}
      onDragStop={arranged}
      onResizeStop={arranged}
    >
      {shown.map((panel) => (
        <div key={panel.id} className="cell">
          <PanelFrame panel={panel} />
        </div>
      ))}
    </ReactGridLayout>
  );
}

const KEYS: Readonly<Record<string, Direction>> = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
};

/** They are scrolled by the keyboard themselves where they are larger than their place. */
const NOTHING_TO_FOCUS: readonly Panel["kind"][] = ["price", "system", "sentiment", "signals"];

const PanelFrame = memo(function PanelFrame({ panel, fixed = false }: { panel: Panel; fixed?: boolean }) {
  const { settings } = useApp();
  const { symbol: chosen } = useSettings(settings);
  const fallback = useDefaultSymbol();
  const { title, perSymbol } = KIND[panel.kind];
  const symbol = panel.symbol ?? chosen ?? fallback;
  const served = useServes(symbol);
  const name = perSymbol && symbol ? `${title} ${symbol}` : title;
  return (
    <section className="panel" data-kind={panel.kind} aria-label={name}>
      <div className="panel-head">
        {fixed ? null : (
          <button
            type="button"
            className="panel-grip"
            title="Drag to move. With the keyboard: arrows move, with Shift they resize"
            aria-label={`Move or resize ${name}: arrow keys move it, with Shift they resize it`}
            onKeyDown={(event) => {
              const direction = KEYS[event.key];
              if (!direction) return;
              event.preventDefault();
              const change = event.shiftKey ? resize : move;
              settings.set({ layout: change(settings.get().layout, panel.id, direction) });
            }}
          >
            <Grip />
          </button>
        )}
        <h2>
          {title}
          {perSymbol && symbol ? <span className="panel-of"> {symbol}</span> : null}
        </h2>
        {perSymbol ? <PanelSymbol panel={panel} /> : null}
        <button
          type="button"
          className="icon-button panel-close"
          aria-label={`Remove ${name}`}
          title="Remove this panel"
          onClick={({ currentTarget }) => {
            focusNext(currentTarget);
            settings.set({ layout: remove(settings.get().layout, panel.id) });
          }}
        >
          <Cross />
        </button>
      </div>
      <div className="panel-body" {...(NOTHING_TO_FOCUS.includes(panel.kind) && { tabIndex: 0 })}>
        {perSymbol && symbol === null ? (
          <p className="empty">No symbol is known yet.</p>
        ) : perSymbol && !served ? (
          <p className="empty">This server has no {symbol}, or no more. Choose another symbol.</p>
        ) : (
          <Body panel={panel} symbol={symbol ?? ""} />
        )}
      </div>
    </section>
  );
});

/** The focus goes on to the next panel before its own goes away; after the last one, to where panels are added. */
function focusNext(button: HTMLElement): void {
  const all = [...(button.closest(".aurex")?.querySelectorAll<HTMLElement>(".panel-close") ?? [])];
  const at = all.indexOf(button);
  const next = all[at + 1] ?? all[at - 1] ?? button.closest(".aurex")?.querySelector<HTMLElement>("[data-add-panel]");
  next?.focus();
}

/** Which symbol this panel keeps to. */
function PanelSymbol({ panel }: { panel: Panel }) {
  const { settings } = useApp();
  const symbols = useSymbols();
  if (symbols.length < 2 && panel.symbol === null) return null;
  return (
    <select
      className="panel-symbol"
      aria-label={`Symbol of this ${KIND[panel.kind].title.toLowerCase()}`}
      value={panel.symbol ?? ""}
      onChange={({ target }) =>
        settings.set({ layout: withSymbol(settings.get().layout, panel.id, target.value === "" ? null : target.value) })
      }
    >
      <option value="">as chosen above</option>
      {panel.symbol === null || symbols.some(({ symbol }) => symbol === panel.symbol) ? null : (
        <option disabled>{panel.symbol}</option>
      )}
      {symbols.map(({ symbol }) => (
        <option key={symbol}>{symbol}</option>
      ))}
    </select>
  );
}

function Body({ panel, symbol }: { panel: Panel; symbol: string }) {
  switch (panel.kind) {
    case "price":
      return <PricePanel symbol={symbol} />;
    case "chart":
      return (
        <Suspense fallback={<p className="empty">Loading&hellip;</p>}>
          <ChartPanel symbol={symbol} />
        </Suspense>
      );
    case "alerts":
      return <AlertsPanel />;
    case "sources":
      return <SourcesPanel />;
    case "system":
      return <SystemPanel />;
    case "news":
      return <NewsPanel />;
    case "sentiment":
      return <SentimentPanel symbol={symbol} />;
    case "signals":
      return <SignalsPanel symbol={symbol} />;
  }
}

/** Always in view: which symbol, how the connection is and how fast, and what can be set. */

import { memo, useEffect, useRef, useState } from "react";
import { useApp } from "./app-context";
import { useConnection, useDefaultSymbol, usePrice, useStatus, useSymbols } from "./daemon";
import { moveOf, number, span } from "./format";
import { Auto, Down, Flat, Moon, Panels, Sun, Up } from "./icons";
import { add, DEFAULT_LAYOUT, KIND, KINDS, MAX_PANELS } from "./layout";
import { useNow } from "./now";
import { Sign } from "./panels/Quality";
import { exported, imported, type Settings, useSettings } from "./settings";
import { isKarat, isWeight, KARATS, WEIGHTS } from "./units";
import { useServed } from "./served";
import { connectionLabel, failureWords, qualityWords } from "./words";

export function TopBar() {
  return (
    <header className="bar">
      <h1 className="brand">
        <span className="brand-mark" aria-hidden="true" />
        aurexd
      </h1>
      <SymbolTabs />
      <ConnectionChip />
      <div className="bar-tools">
        <UnitChoice />
        <LayoutMenu />
        <ThemeChoice />
      </div>
    </header>
  );
}

function SymbolTabs() {
  const { settings } = useApp();
  const { symbol } = useSettings(settings);
  const fallback = useDefaultSymbol();
  const symbols = useSymbols();
  const chosen = symbol ?? fallback;
  return (
    <nav className="symbols" aria-label="Symbols">
      {symbols.map((one) => (
        <SymbolTab key={one.symbol} symbol={one.symbol} decimals={one.decimals} chosen={one.symbol === chosen} />
      ))}
    </nav>
  );
}

const ARROWS = { up: Up, down: Down, flat: Flat } as const;

const SymbolTab = memo(function SymbolTab(props: { symbol: string; decimals: number; chosen: boolean }) {
  const { symbol, decimals, chosen } = props;
  const { settings } = useApp();
  const price = usePrice(symbol);
  const status = useStatus(symbol);
  const quality = status?.quality ?? price?.quality ?? null;
  const move = moveOf(price?.change);
  const Arrow = ARROWS[move];
  return (
    <button type="button" className="symbol-tab" aria-pressed={chosen} onClick={() => settings.set({ symbol })}>
      <span className="symbol-name">
        {symbol}
        {quality && quality !== "live" ? (
          <span className="symbol-doubt" data-tone={qualityWords(quality).tone}>
            {qualityWords(quality).label}
          </span>
        ) : null}
      </span>
      <span className="symbol-price" data-move={move}>
        {price && price.change !== null ? <Arrow /> : null}
        {number(price?.close, decimals)}
      </span>
    </button>
  );
});

function ConnectionChip() {
  const connection = useConnection();
  const now = useNow();
  const { tone, text } = connectionLabel(connection, now);
  const latency = connection.latencyMs === null ? null : span(connection.latencyMs);
  return (
    <p className="chip-connection" data-tone={tone} data-testid="connection" data-state={connection.state}>
      <Sign tone={tone} /> <span>{text}</span>
      {latency !== null && connection.state !== "disconnected" ? (
        <span className="latency" title="There and back, as measured last">
          {latency}
        </span>
      ) : null}
    </p>
  );
}

function UnitChoice() {
  const { settings } = useApp();
  const { unit } = useSettings(settings);
  return (
    <div className="row">
      <select
        aria-label="Price per"
        value={unit.weight}
        onChange={({ target: { value } }) => isWeight(value) && settings.set({ unit: { ...unit, weight: value } })}
      >
        {Object.entries(WEIGHTS).map(([weight, { name }]) => (
          <option key={weight} value={weight}>
            {name}
          </option>
        ))}
      </select>
      <select
        aria-label="Purity"
        value={unit.karat}
        onChange={({ target }) => {
          const karat = Number(target.value);
          if (isKarat(karat)) settings.set({ unit: { ...unit, karat } });
        }}
      >
        {KARATS.map((karat) => (
          <option key={karat} value={karat}>
            {karat} karat
          </option>
        ))}
      </select>
    </div>
  );
}

const THEMES = { auto: "dark", dark: "light", light: "auto" } as const satisfies Record<
  Settings["theme"],
  Settings["theme"]
>;
const THEME_WORDS = { auto: "as the device", dark: "dark", light: "light" } as const;
const THEME_SIGNS = { auto: Auto, dark: Moon, light: Sun } as const;

function ThemeChoice() {
  const { settings } = useApp();
  const { theme } = useSettings(settings);
  const Shape = THEME_SIGNS[theme];
  const words = `Colours: ${THEME_WORDS[theme]}. Change to ${THEME_WORDS[THEMES[theme]]}`;
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={words}
      title={words}
      onClick={() => settings.set({ theme: THEMES[theme] })}
    >
      <Shape />
    </button>
  );
}

/** Panels are added here, and the whole arrangement is reset, taken along, or brought. */
function LayoutMenu() {
  const { settings, toasts } = useApp();
  const current = useSettings(settings);
  const served = useServed();
  const [open, setOpen] = useState(false);
  const holder = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  // Not by the focus: some browsers give none to a button that is clicked, and the menu would go before the click came.
  useEffect(() => {
    if (!open) return;
    const elsewhere = ({ target }: Event) => {
      if (target instanceof Node && !holder.current?.contains(target)) setOpen(false);
    };
    document.addEventListener("pointerdown", elsewhere);
    document.addEventListener("focusin", elsewhere);
    return () => {
      document.removeEventListener("pointerdown", elsewhere);
      document.removeEventListener("focusin", elsewhere);
    };
  }, [open]);
  const bring = async (chosen: File) => {
    try {
      settings.set(imported(await chosen.text()));
      toasts.show({ tone: "good", title: "Layout imported", detail: "" });
    } catch (error) {
      toasts.show({ tone: "bad", title: "Not imported", detail: failureWords(error) });
    }
  };
  const item = (label: string, act: () => void, disabled = false) => (
    <button
      type="button"
      disabled={disabled}
      onClick={() => {
        act();
        close();
      }}
    >
      {label}
    </button>
  );
  const kinds = KINDS.filter((kind) => {
    const { needs } = KIND[kind];
    return needs === undefined || served.has(needs);
  });
  return (
    <div
      ref={holder}
      className="menu-holder"
      onKeyDown={(event) => {
        if (event.key === "Escape" && open) close();
      }}
    >
      <button
        ref={button}
        type="button"
        className="quiet-button"
        aria-expanded={open}
        aria-controls="aurex-layout-menu"
        data-add-panel
        onClick={() => setOpen(!open)}
      >
        <Panels /> <span className="wide-only">Panels</span>
        <span className="narrow-only hidden">Panels</span>
      </button>
      {open ? (
        <div className="menu" id="aurex-layout-menu" role="group" aria-label="Panels">
          <h2>Add</h2>
          {kinds.map((kind) => (
            <div key={kind}>
              {item(
                KIND[kind].title,
                () => settings.set({ layout: add(current.layout, kind) }),
                current.layout.length >= MAX_PANELS,
              )}
            </div>
          ))}
          <h2>Layout</h2>
          {item("Export to a file", () => save(exported(settings.get())))}
          <label className="menu-file">
            Import a file&hellip;
            <input
              type="file"
              accept="application/json,.json"
              onChange={({ target }) => {
                const chosen = target.files?.[0];
                if (chosen) void bring(chosen);
                close();
              }}
            />
          </label>
          {item("Reset", () => settings.set({ layout: DEFAULT_LAYOUT }))}
        </div>
      ) : null}
    </div>
  );
}

function save(text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "aurexd-layout.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

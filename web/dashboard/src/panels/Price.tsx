/** The price, large, with all that it is worth: move, spread, source, instrument, age, quality. */

import { memo, useLayoutEffect, useRef, useState } from "react";
import { useApp } from "../app-context";
import { type PriceData, useConnection, useLatestCandle, usePrice, useStatus, useSymbol } from "../daemon";
import { age, type Move, moveOf, number, priceParts, signed, time } from "../format";
import { Down, Flat, Up } from "../icons";
import { useNow } from "../now";
import { useSettings } from "../settings";
import { currencyOf, decimalsIn, factor, type Unit, unitName } from "../units";
import { instrumentWords } from "../words";
import { QualityBadge, Strip } from "./Quality";

const ARROWS = { up: Up, down: Down, flat: Flat } as const;
const FLASH_MS = 450;

export function PricePanel({ symbol }: { symbol: string }) {
  const { settings } = useApp();
  const price = usePrice(symbol);
  const status = useStatus(symbol);
  const facts = useSymbol(symbol);
  const { unit } = useSettings(settings);
  const connection = useConnection();
  const lost = connection.state === "connecting" || connection.state === "disconnected";
  const quality = status?.quality ?? price?.quality ?? null;
  return (
    <div className="price" data-quality={lost ? "lost" : quality} data-testid={`price-${symbol}`}>
      <div className="price-head">
        <span className="muted">{facts ? instrumentWords(facts.instrument) : ""}</span>
        <QualityBadge quality={quality} lost={lost} />
      </div>
      <Strip symbol={symbol} quality={quality} status={status} lost={lost} priceTime={price?.timestamp ?? null} />
      {price ? (
        <>
          <Figures price={price} decimals={facts?.decimals ?? 2} unit={unit} />
          <Details price={price} decimals={facts?.decimals ?? 2} unit={unit} />
        </>
      ) : (
        <Nothing reason={status?.reason ?? facts?.reason ?? ""} lost={lost} />
      )}
    </div>
  );
}

function Nothing({ reason, lost }: { reason: string; lost: boolean }) {
  return (
    <div className="price-nothing">
      <p className="price-figure muted" aria-label="no price yet">
        {"\u2014"}
      </p>
      <p>{lost ? "Not connected yet." : "No price yet."}</p>
      {reason ? <p className="muted">{reason}</p> : null}
    </div>
  );
}

/** The move against the price before; flat only until there was another. */
function useTick(close: number): Move {
  const [tick, setTick] = useState<{ close: number; move: Move }>({ close, move: "flat" });
  if (close === tick.close) return tick.move;
  const move = close > tick.close ? "up" : "down";
  setTick({ close, move });
  return move;
}

const Figures = memo(function Figures({ price, decimals, unit }: { price: PriceData; decimals: number; unit: Unit }) {
  const figure = useRef<HTMLParagraphElement>(null);
  const tick = useTick(price.close);
  const Arrow = ARROWS[tick];
  const by = factor(unit);
  const shown = decimalsIn(unit, decimals);
  const [whole, fraction] = priceParts(price.close * by, shown);
  const move = moveOf(price.change);
  const MoveArrow = ARROWS[move];

  useLayoutEffect(() => {
    const element = figure.current;
    if (!element || tick === "flat" || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const animation = element.animate(
      [{ backgroundColor: `var(--flash-${tick})` }, { backgroundColor: "transparent" }],
      { duration: FLASH_MS, easing: "ease-out" },
    );
    return () => animation.cancel();
  }, [price.close, tick]);

  return (
    <>
      <p className="price-figure" data-move={tick} ref={figure}>
        <span className="price-arrow">
          <Arrow />
          <span className="hidden">{tick === "flat" ? "" : tick}</span>
        </span>
        <span data-testid="close">
          {whole}
          <span className="fraction">{fraction}</span>
        </span>
      </p>
      <p className="price-move">
        <span className="unit">{unitName(unit, currencyOf(price.symbol))}</span>
        {price.change === null ? (
          <span className="muted small">change not known yet</span>
        ) : (
          <span className="move" data-move={move} title="Against the previous session's close">
            <MoveArrow /> {signed(price.change * by, shown)} ({signed(price.change_pct, 2)} %)
          </span>
        )}
      </p>
    </>
  );
});

function Details({ price, decimals, unit }: { price: PriceData; decimals: number; unit: Unit }) {
  const now = useNow();
  const by = factor(unit);
  const shown = decimalsIn(unit, decimals);
  const at = Date.parse(price.timestamp);
  const quoted = price.bid !== null && price.ask !== null;
  const spread = quoted ? (price.ask ?? 0) - (price.bid ?? 0) : null;
  return (
    <div className="price-details">
      <SessionRange symbol={price.symbol} close={price.close} by={by} decimals={shown} />
      <dl className="facts">
        <div>
          <dt>Bid</dt>
          <dd>{number(price.bid === null ? null : price.bid * by, shown)}</dd>
        </div>
        <div>
          <dt>Ask</dt>
          <dd>{number(price.ask === null ? null : price.ask * by, shown)}</dd>
        </div>
        <div>
          <dt>Spread</dt>
          <dd>{quoted ? number((spread ?? 0) * by, shown) : <span className="muted">not quoted</span>}</dd>
        </div>
        <div>
          <dt>Source</dt>
          <dd data-testid="source">{price.source}</dd>
        </div>
        <div>
          <dt>Instrument</dt>
          <dd>{instrumentWords(price.instrument)}</dd>
        </div>
        <div>
          <dt>Age</dt>
          <dd title={`The source's time: ${price.timestamp}`} data-testid="age">
            {age(now - at)} <span className="muted nowrap">{time(at, now)}</span>
          </dd>
        </div>
      </dl>
    </div>
  );
}

/** Where the price stands between the session's lowest and highest. */
function SessionRange({
  symbol,
  close,
  by,
  decimals,
}: {
  symbol: string;
  close: number;
  by: number;
  decimals: number;
}) {
  const day = useLatestCandle(symbol, "1d");
  if (!day) return null;
  const low = Math.min(day.low, close);
  const high = Math.max(day.high, close);
  const share = high > low ? (close - low) / (high - low) : 0.5;
  return (
    <div className="range" role="group" aria-label="Session's range">
      <span>
        <span className="muted">Low</span> {number(low * by, decimals)}
      </span>
      <span className="range-bar" aria-hidden="true">
        <span className="range-mark" style={{ insetInlineStart: `${share * 100}%` }} />
      </span>
      <span>
        {number(high * by, decimals)} <span className="muted">High</span>
      </span>
    </div>
  );
}

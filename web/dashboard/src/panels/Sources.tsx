/** Where prices come from: who carries and who votes, how late each is, what failed, and what changed when. */

import { useState } from "react";
import { useApp } from "../app-context";
import {
  type Part,
  type SourceInfo,
  useDefaultSymbol,
  useParts,
  useSources,
  useStatusLog,
  useSymbols,
} from "../daemon";
import { age, count, number, span, time } from "../format";
import { useNow } from "../now";
import { useSettings } from "../settings";
import { qualityWords, sentence, type Tone } from "../words";
import { Badge, Sign } from "./Quality";

const STATES: Readonly<Record<string, { tone: Tone; label: string }>> = {
  connected: { tone: "good", label: "Connected" },
  connecting: { tone: "warn", label: "Connecting" },
  waiting: { tone: "bad", label: "Waiting" },
  failed: { tone: "bad", label: "Failed" },
  parked: { tone: "bad", label: "Parked" },
  paused: { tone: "quiet", label: "Paused" },
  finished: { tone: "quiet", label: "Finished" },
};

export function SourcesPanel() {
  const { data, error, loading } = useSources();
  const { settings } = useApp();
  const chosen = useSettings(settings).symbol;
  const fallback = useDefaultSymbol();
  const symbol = chosen ?? fallback;
  const parts = useParts(symbol);
  const decimals = useSymbols().find((one) => one.symbol === symbol)?.decimals ?? 2;
  const now = useNow();
  if (!data)
    return <p className="empty">{error ?? (loading ? "Loading\u2026" : "Nothing is known of the sources.")}</p>;
  const sources = [...data.sources].sort((a, b) => first(a).localeCompare(first(b)) || a.priority - b.priority);
  return (
    <div className="stack">
      {error ? (
        <p className="note" data-tone="warn">
          As of a while ago: {error}
        </p>
      ) : null}
      <div className="table-scroll" tabIndex={0} role="region" aria-label="Table of the sources">
        <table className="table">
          <thead>
            <tr>
              <th scope="col">Source</th>
              <th scope="col">State</th>
              <th scope="col">Symbols</th>
              {parts.length > 0 ? (
                <th scope="col" className="table-part">
                  {symbol} price
                </th>
              ) : null}
              <th scope="col" className="right">
                Last price
              </th>
              <th scope="col" className="right">
                Lag
              </th>
              <th scope="col" className="right">
                Fails
              </th>
            </tr>
          </thead>
          <tbody>
            {sources.map((source) => (
              <SourceRow
                key={source.name}
                source={source}
                carries={data.symbols.filter((symbol) => symbol.source === source.name).map((symbol) => symbol.symbol)}
                part={parts.length > 0 ? (parts.find((one) => one.source === source.name) ?? "none") : null}
                decimals={decimals}
                now={now}
              />
            ))}
          </tbody>
        </table>
      </div>
      <Failovers />
    </div>
  );
}

const first = (source: SourceInfo): string => Object.keys(source.symbols)[0] ?? "";

interface RowProps {
  source: SourceInfo;
  carries: readonly string[];
  /** Null where the daemon does not tell. */
  part: Part | "none" | null;
  decimals: number;
  now: number;
}

function SourceRow({ source, carries, part, decimals, now }: RowProps) {
  const state = STATES[source.state] ?? { tone: "warn" as const, label: source.state };
  const refused = Object.values(source.rejected).reduce((sum, one) => sum + one, 0);
  const trouble = source.state !== "connected" && source.last_error;
  const columns = part === null ? 6 : 7;
  return (
    <>
      <tr data-carries={carries.length > 0} data-testid={`source-${source.name}`}>
        <th scope="row">
          {source.name} <span className="muted">#{source.priority}</span>
        </th>
        <td>
          <span className="state" data-tone={state.tone}>
            <Sign tone={state.tone} /> <span className="state-label">{state.label}</span>
          </span>
        </td>
        <td>
          {Object.keys(source.symbols).map((symbol) => (
            <span key={symbol} className="chip" data-on={carries.includes(symbol)}>
              {symbol}
              {carries.includes(symbol) ? <span className="chip-note">carries</span> : null}
            </span>
          ))}
        </td>
        {part === null ? null : (
          <td className="nowrap table-part">
            {part === "none" ? (
              <span className="muted">{"\u2014"}</span>
            ) : (
              <>
                {number(part.close, decimals)}{" "}
                <span className="muted">{STANDINGS[part.standing] ?? part.standing}</span>
              </>
            )}
          </td>
        )}
        <td className="right nowrap">{source.last_tick ? age(now - Date.parse(source.last_tick)) : "never"}</td>
        <td className="right nowrap">{span(source.lag_ms)}</td>
        <td className="right nowrap">
          {count(source.failures)}
          {refused > 0 ? <span className="muted"> ({count(refused)} refused)</span> : null}
        </td>
      </tr>
      {trouble ? (
        <tr className="trouble">
          <td colSpan={columns}>
            {sentence(source.last_error ?? "")}
            {source.next_attempt ? ` Next try ${until(Date.parse(source.next_attempt) - now)}.` : ""}
          </td>
        </tr>
      ) : null}
    </>
  );
}

const STANDINGS: Readonly<Record<string, string>> = {
  counts: "counts",
  no_price: "no price yet",
  stale: "too old",
  returning: "returning",
  outranked: "in reserve",
  worse_quality: "worse quality",
  market_closed: "market closed",
};

function until(ms: number): string {
  return ms <= 0 ? "now" : `in ${span(Math.ceil(ms / 1000) * 1000).replace(".0", "")}`;
}

/** Where there is only one column, more of them would push everything else away. */
const SHOWN_CHANGES = 12;

/** What changed, also before this page was opened; the newest first. */
function Failovers() {
  const log = useStatusLog();
  const [all, setAll] = useState(false);
  const symbols = useSymbols();
  const now = useNow();
  return (
    <section aria-label="Changes of source and quality">
      <h3>Changes</h3>
      {log.length === 0 ? (
        <p className="empty small">No source or quality has changed yet.</p>
      ) : (
        <ol className="log" data-testid="failovers">
          {(all ? log : log.slice(0, SHOWN_CHANGES)).map((entry) => (
            <li key={`${entry.symbol} ${entry.since} ${entry.quality} ${entry.reason}`}>
              <time dateTime={entry.since}>{time(Date.parse(entry.since), now)}</time>
              <span className="log-symbol">{symbols.length > 1 ? entry.symbol : ""}</span>
              <Badge tone={qualityWords(entry.quality).tone} label={qualityWords(entry.quality).label} />
              <span>{sentence(entry.reason)}</span>
            </li>
          ))}
        </ol>
      )}
      {!all && log.length > SHOWN_CHANGES ? (
        <button type="button" className="link" onClick={() => setAll(true)}>
          Show all {log.length} changes
        </button>
      ) : null}
    </section>
  );
}

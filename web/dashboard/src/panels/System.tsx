/** How the daemon is: clients, rates, latencies, and this page's own connection. */

import type { ReactNode } from "react";
import { useConnection, useRates, useStats } from "../daemon";
import { count, number, span } from "../format";

const LATENCIES = [
  {
    hop: "delivery",
    name: "In aurexd",
    note: "From receiving a price until it was written to a client: median / 99 of 100",
  },
  { hop: "source", name: "From source", note: "From the source's time until aurexd had it: median / 99 of 100" },
] as const;

export function SystemPanel() {
  const { data, error, loading } = useStats();
  const rates = useRates(data);
  const connection = useConnection();
  if (!data)
    return <p className="empty">{error ?? (loading ? "Loading\u2026" : "The daemon says nothing of itself.")}</p>;
  return (
    <div className="stack">
      {error ? (
        <p className="note" data-tone="warn">
          As of a while ago: {error}
        </p>
      ) : null}
      <dl className="tiles">
        <Tile name="Clients" value={count(data.active_connections)} />
        <Tile name="Sent" value={rates ? `${number(rates.sent, rates.sent < 10 ? 1 : 0)} / s` : "\u2026"} />
        <Tile
          name="Published"
          value={rates ? `${number(rates.published, rates.published < 10 ? 1 : 0)} / s` : "\u2026"}
        />
        <Tile name="Round trip" value={span(connection.latencyMs)} />
        {LATENCIES.map(({ hop, name, note }) => {
          const latency = data.latencies?.[hop];
          if (!latency) return null;
          return <Tile key={hop} name={name} value={`${span(latency.p50_ms)} / ${span(latency.p99_ms)}`} note={note} />;
        })}
        <Tile name="Messages" value={count(data.update_count)} />
        {data.slow_connections === undefined ? null : <Tile name="Slow clients" value={count(data.slow_connections)} />}
        {data.uptime_s === undefined ? null : <Tile name="Up for" value={span(data.uptime_s * 1000)} />}
        <Tile name="Version" value={connection.version ?? "\u2014"} />
      </dl>
    </div>
  );
}

function Tile({ name, value, note }: { name: string; value: ReactNode; note?: string }) {
  return (
    <div className="tile" title={note}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** How the daemon is: clients, rates, latencies, and this page's own connection. */

import type { ReactNode } from "react";
import { useConnection, useStats } from "../daemon";
import { count, number, span } from "../format";

const LATENCIES = [
  {
    hop: "delivery",
    name: "In aurexd, p50 / p99",
    note: "From receiving a price until it was written to a client: median / 99 of 100",
  },
  {
    hop: "source",
    name: "From source, p50 / p99",
    note: "From the source's time until aurexd had it: median / 99 of 100",
  },
] as const;

export function SystemPanel() {
  const { data, error, loading } = useStats();
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
        <Tile
          name="Sent"
          value={perSecond(data.rates.messages_per_s)}
          note="Messages to clients, over the last minute"
        />
        <Tile
          name="Published"
          value={perSecond(data.rates.updates_per_s)}
          note="On all channels, over the last minute"
        />
        <Tile name="Round trip" value={span(connection.latencyMs)} />
        {LATENCIES.map(({ hop, name, note }) => {
          const { p50_ms, p99_ms } = data.latencies[hop];
          const value = p50_ms === null ? "\u2014" : `${span(p50_ms)} / ${span(p99_ms)}`;
          return <Tile key={hop} name={name} value={value} note={note} />;
        })}
        <Tile name="Messages" value={count(data.update_count)} />
        <Tile name="Slow clients" value={count(data.slow_connections)} />
        <Tile name="Up for" value={span(data.uptime_s * 1000)} />
        <Tile name="Version" value={data.version} />
      </dl>
    </div>
  );
}

const perSecond = (rate: number): string => `${number(rate, rate < 10 ? 1 : 0)} / s`;

function Tile({ name, value, note }: { name: string; value: ReactNode; note?: string }) {
  return (
    <div className="tile" title={note}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

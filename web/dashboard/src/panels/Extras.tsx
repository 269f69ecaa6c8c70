/** News, sentiment and signals, where the daemon has them. */

import type { NewsData, SentimentData, SignalData } from "@aurexd/client";
import { useAurexClient } from "@aurexd/client/react";
import { useEffect, useState } from "react";
import { signed, time } from "../format";
import { Down, Flat, Up } from "../icons";
import { useNow } from "../now";
import { sentence } from "../words";

const MOST = 50;

export function NewsPanel() {
  const client = useAurexClient();
  const [news, setNews] = useState<readonly NewsData[]>([]);
  const now = useNow();
  useEffect(
    () =>
      client.onNews((piece) => {
        // The same piece may come again, put right.
        setNews((before) => [piece, ...before.filter(({ news_id }) => news_id !== piece.news_id)].slice(0, MOST));
      }),
    [client],
  );
  if (news.length === 0) return <p className="empty">No news yet.</p>;
  return (
    <ol className="log news">
      {news.map((piece) => (
        <li key={piece.news_id}>
          <time dateTime={piece.timestamp}>{time(Date.parse(piece.timestamp), now)}</time>
          <span>
            {piece.url && /^https?:/.test(piece.url) ? (
              <a href={piece.url} target="_blank" rel="noreferrer">
                {piece.headline}
              </a>
            ) : (
              piece.headline
            )}{" "}
            <span className="muted small">{piece.publisher}</span>
          </span>
        </li>
      ))}
    </ol>
  );
}

export function SentimentPanel({ symbol }: { symbol: string }) {
  const client = useAurexClient();
  const [sentiment, setSentiment] = useState<SentimentData | null>(null);
  const now = useNow();
  useEffect(() => client.onSentiment(symbol, setSentiment), [client, symbol]);
  if (sentiment?.symbol !== symbol) return <p className="empty">Nothing yet for {symbol}.</p>;
  return (
    <div className="stack">
      <p className="figure">{signed(sentiment.score, 2)}</p>
      <div className="range-bar wide" aria-hidden="true">
        <span className="range-mark" style={{ insetInlineStart: `${(sentiment.score + 1) * 50}%` }} />
      </div>
      <p className="muted small">
        From {"\u2212"}1, all negative, to 1, all positive; {sentiment.samples} texts, {sentiment.source},{" "}
        {time(Date.parse(sentiment.timestamp), now)}
      </p>
    </div>
  );
}

const ARROWS = { up: Up, down: Down, neutral: Flat } as const;

export function SignalsPanel({ symbol }: { symbol: string }) {
  const client = useAurexClient();
  const [signals, setSignals] = useState<readonly SignalData[]>([]);
  const now = useNow();
  useEffect(
    () =>
      client.onSignal(symbol, (signal) => {
        setSignals((before) => [signal, ...before.filter(({ name }) => name !== signal.name)].slice(0, MOST));
      }),
    [client, symbol],
  );
  const mine = signals.filter((signal) => signal.symbol === symbol);
  if (mine.length === 0) return <p className="empty">No signals yet for {symbol}.</p>;
  return (
    <ol className="log">
      {mine.map((signal) => {
        const Arrow = ARROWS[signal.direction];
        return (
          <li key={signal.name}>
            <time dateTime={signal.timestamp}>{time(Date.parse(signal.timestamp), now)}</time>
            <span>
              <span className="move" data-move={signal.direction}>
                <Arrow /> {signal.direction}
              </span>{" "}
              <strong>{signal.name}</strong> {sentence(signal.reason)}{" "}
              <span className="muted small">confidence {Math.round(signal.confidence * 100)} %</span>
            </span>
          </li>
        );
      })}
    </ol>
  );
}

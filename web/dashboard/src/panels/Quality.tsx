/** How far a price can be trusted, so that nobody misses it: a badge, and a strip across the panel. */

import type { Quality, StatusData } from "../daemon";
import { time } from "../format";
import { Cross, Dot, Ring, Warn } from "../icons";
import { useNow } from "../now";
import { type Notice, qualityNotice, qualityWords, type Tone } from "../words";

const SIGNS: Readonly<Record<Tone, () => React.JSX.Element>> = {
  good: Dot,
  info: Ring,
  warn: Warn,
  bad: Cross,
  "made-up": Ring,
  quiet: Ring,
};

export function Sign({ tone }: { tone: Tone }) {
  const Shape = SIGNS[tone];
  return <Shape />;
}

export function QualityBadge({ quality, lost = false }: { quality: Quality | null; lost?: boolean }) {
  if (lost) return <Badge tone="bad" label="Not connected" />;
  if (quality === null) return null;
  const { tone, label } = qualityWords(quality);
  return <Badge tone={tone} label={label} />;
}

export function Badge({ tone, label }: { tone: Tone; label: string }) {
  return (
    <span className="badge" data-tone={tone}>
      <Sign tone={tone} /> {label}
    </span>
  );
}

interface StripProps {
  symbol: string;
  quality: Quality | null;
  status: StatusData | null;
  lost: boolean;
  priceTime: string | null;
}

export function Strip({ quality, status, lost, priceTime }: StripProps) {
  const now = useNow();
  let notice: Notice | null = null;
  if (lost) {
    if (priceTime !== null) {
      notice = {
        tone: "bad",
        title: "Not connected",
        detail: `The last price that was received, of ${time(Date.parse(priceTime), now)}. It is not current.`,
      };
    }
  } else if (quality !== null) {
    notice = qualityNotice(quality, status, now);
  }
  if (!notice) return null;
  return (
    <p className="strip" data-tone={notice.tone} data-testid="strip">
      <Sign tone={notice.tone} />
      <span>
        <strong>{notice.title}.</strong> {notice.detail}
      </span>
    </p>
  );
}

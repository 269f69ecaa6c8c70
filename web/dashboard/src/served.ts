/** Which of the channels that may come later this daemon has: their panels are offered only then. */

import { useAurexClient } from "@aurexd/client/react";
import { useEffect, useState } from "react";
import { useDefaultSymbol } from "./daemon";

export type Extra = "news" | "sentiment" | "signal";

const NONE: ReadonlySet<Extra> = new Set();

/** Asks once per connection and symbol, for a snapshot: that subscribes to nothing. */
export function useServed(): ReadonlySet<Extra> {
  const client = useAurexClient();
  const symbol = useDefaultSymbol();
  const [served, setServed] = useState(NONE);
  useEffect(() => {
    if (symbol === null) return;
    let wanted = true;
    let session: string | null = null;
    const ask = () => {
      const { state, session: now } = client.connection;
      if (state !== "connected" || now === session) return;
      session = now;
      const channels: readonly (readonly [Extra, string])[] = [
        ["news", "news"],
        ["sentiment", `sentiment:${symbol}`],
        ["signal", `signal:${symbol}`],
      ];
      for (const [extra, channel] of channels) {
        client.request({ type: "snapshot", data: { channels: [channel] } }).then(
          () => {
            if (wanted) setServed((before) => new Set([...before, extra]));
          },
          () => undefined, // not available, or not now
        );
      }
    };
    ask();
    const stop = client.onConnectionChange(ask);
    return () => {
      wanted = false;
      stop();
    };
  }, [client, symbol]);
  return served;
}

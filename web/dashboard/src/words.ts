/** What is said to people: of the connection, of a price's quality, of what went wrong, and what to do. */

import type { Connection, StatusData } from "./daemon";
import { span, time } from "./format";

export type Tone = "good" | "info" | "warn" | "bad" | "made-up" | "quiet";

export interface Notice {
  readonly tone: Tone;
  readonly title: string;
  readonly detail: string;
}

const QUALITIES: Readonly<Record<string, { tone: Tone; label: string }>> = {
  live: { tone: "good", label: "Live" },
  delayed: { tone: "warn", label: "Delayed" },
  stale: { tone: "bad", label: "Stale" },
  closed: { tone: "quiet", label: "Closed" },
  simulated: { tone: "made-up", label: "Simulated" },
};

export function qualityWords(quality: string): { tone: Tone; label: string } {
  return QUALITIES[quality] ?? { tone: "warn", label: quality };
}

/** What has to be said above a price that is not live; null where nothing has. */
export function qualityNotice(quality: string, status: StatusData | null, now: number): Notice | null {
  const since = status ? Date.parse(status.since) : Number.NaN;
  const when = Number.isNaN(since) ? "" : ` since ${time(since, now)} (${span(now - since)})`;
  const reason = status?.reason ? sentence(status.reason) : "";
  switch (quality) {
    case "live":
      return null;
    case "delayed":
      return {
        tone: "warn",
        title: "Delayed",
        detail: `The source passes its prices on late, by design. ${reason}`.trim(),
      };
    case "stale":
      return {
        tone: "bad",
        title: `Stale${when}`,
        detail: `Not a current price: no source has a fresh one. ${reason}`.trim(),
      };
    case "closed":
      return {
        tone: "quiet",
        title: `Market closed${when}`,
        detail: `The last price of the session that has ended. ${reason}`.trim(),
      };
    case "simulated":
      return { tone: "made-up", title: "Simulated", detail: "Made-up or recorded prices, not the market's." };
    default:
      return { tone: "warn", title: quality, detail: reason };
  }
}

const INSTRUMENTS: Readonly<Record<string, string>> = {
  spot: "Spot",
  future: "Future",
  token: "Token",
  fix: "Fix",
  test: "Test instrument",
};

export function instrumentWords(instrument: string): string {
  return INSTRUMENTS[instrument] ?? instrument;
}

/** The state of the line in two or three words, for a place that is always in view. */
export function connectionLabel(connection: Connection, now: number): { tone: Tone; text: string } {
  switch (connection.state) {
    case "connected":
      return { tone: "good", text: "Connected" };
    case "degraded":
      return { tone: "warn", text: connection.transport === "polling" ? "Polling" : "Event stream" };
    case "connecting": {
      const wait = connection.retryAt === null ? 0 : connection.retryAt - now;
      return { tone: "warn", text: wait > 500 ? `Retry in ${Math.ceil(wait / 1000)} s` : "Connecting\u2026" };
    }
    case "disconnected":
      return { tone: "bad", text: "Disconnected" };
  }
}

const ENDINGS: Readonly<Record<string, string>> = {
  going_away: "The server restarts.",
  slow_consumer: "This page read too slowly, and was cut off to keep the others quick.",
  heartbeat_timeout: "The line went silent.",
  rate_limited: "Too many requests came from this page or this address.",
  too_many_connections:
    "Too many connections are open from this address or of this user. Close other tabs or programs.",
  over_capacity: "The server has as many clients as it may have.",
  token_expired: "The token has expired. Enter a new one.",
  auth_timeout: "No token was shown in time. Enter one.",
  bad_token: "The token is not valid here. Ask the operator for a new one.",
  forbidden: "The server does not let this page connect. The operator can allow its address in limits.allowed_origins.",
  kicked: "An operator ended this connection. Load the page anew to come back.",
  rollout_closed: "WebSockets are not open to this client; the page reads prices in another way.",
  idle_timeout: "Nothing was subscribed to for a while.",
  internal_error: "The server failed; its log says why.",
  message_too_big: "A message was too large.",
};

/** What has to be said about the line, and what to do; null while all is well. */
export function connectionNotice(connection: Connection, now: number): Notice | null {
  const why = connection.cause === null ? "" : (ENDINGS[connection.cause] ?? sentence(connection.reason ?? ""));
  switch (connection.state) {
    case "connected":
      return null;
    case "degraded":
      return {
        tone: "warn",
        title:
          connection.transport === "polling"
            ? "Prices are asked for every few seconds"
            : "Prices come as an event stream",
        detail: `${why || "No WebSocket gets through."} ${
          connection.transport === "polling"
            ? "They are right, but come late, and so do alerts."
            : "All is as it should be, but for the way."
        }`,
      };
    case "connecting": {
      const wait = connection.retryAt === null ? 0 : connection.retryAt - now;
      const next = wait > 500 ? `Trying again in ${Math.ceil(wait / 1000)} s.` : "Connecting\u2026";
      if (connection.attempts > 0 || connection.cause !== null) {
        const what = navigatorSaysOffline() ? "This device is offline." : why || "The server cannot be reached.";
        return { tone: "bad", title: "Not connected", detail: `${what} What is shown is not current. ${next}` };
      }
      return null;
    }
    case "disconnected":
      return {
        tone: "bad",
        title: "Disconnected",
        detail: `${why || "The page has given up."} What is shown is not current.`,
      };
  }
}

function navigatorSaysOffline(): boolean {
  return typeof navigator !== "undefined" && !navigator.onLine;
}

/** A reason of the daemon's, as a sentence. */
export function sentence(text: string): string {
  const clean = text.trim();
  if (!clean) return "";
  const upper = clean.charAt(0).toUpperCase() + clean.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}

/** The word for programs that an error of the client's has; empty for others. */
export function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" ? code : "";
}

/** What failed when the daemon was asked something, and what to do. */
export function failureWords(error: unknown): string {
  switch (codeOf(error)) {
    case "http_401":
      return "The server asks for a token first.";
    case "http_403":
      return "The token does not allow this. Ask the operator for one that does.";
    case "http_429":
    case "rate_limited":
      return "Too many requests from here. Wait a moment, and try again.";
    case "not_connected":
      return "There is no connection that could carry this. Try again when the page is connected.";
    case "connection_lost":
      return "The connection was lost before there was an answer. Look whether it was done, and try again.";
    case "timeout":
      return "The server did not answer in time. Look whether it was done, and try again.";
    case "unavailable":
      return "The server cannot store this now. Try again in a moment.";
    default:
      return error instanceof Error && error.message ? sentence(error.message) : "The server did not answer.";
  }
}

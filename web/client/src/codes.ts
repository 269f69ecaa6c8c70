/** Close codes: what they are called, and whether to come back after one; the ranges hold for unknown ones, too. */

/** Close codes that aurexd sends, by number. */
export const CLOSE_CODES: Readonly<Record<number, string>> = {
  1002: "websocket_error",
  1003: "unsupported_data",
  1007: "invalid_text",
  1009: "message_too_big",
  1011: "internal_error",
  4000: "going_away",
  4001: "slow_consumer",
  4002: "heartbeat_timeout",
  4003: "rate_limited",
  4004: "too_many_connections",
  4005: "over_capacity",
  4006: "token_expired",
  4007: "idle_timeout",
  4008: "auth_timeout",
  4500: "bad_token",
  4502: "protocol_error",
  4503: "forbidden",
  4504: "kicked",
  4505: "rollout_closed",
};

const FINAL_STANDARD_CODES: readonly number[] = [1002, 1003, 1007, 1009];

/** Whether a client that was closed with `code` should come back. */
export function shouldReconnect(code: number): boolean {
  return !FINAL_STANDARD_CODES.includes(code) && !(code >= 4500 && code <= 4999);
}

/** How a line ended, whichever kind it was. */
export interface Closing {
  /** A word for programs: a close code's name, an error's code, or `lost`, `silent`, `timeout`, `unauthenticated`. */
  readonly cause: string;
  /** For people: what happened. */
  readonly message: string;
  /** The WebSocket's close code, or the HTTP status; null where there was none. */
  readonly code: number | null;
  /** When the server asks to be left alone for some time. */
  readonly retryAfterMs: number | null;
  /** The same client would be turned away again. */
  readonly final: boolean;
}

/** What a WebSocket's close says; `message` is what the server said before it, if it said why. */
export function closing(code: number, reason: string, message?: string): Closing {
  let retryAfterMs: number | null = null;
  let cause = CLOSE_CODES[code] ?? (code >= 4000 ? `code_${String(code)}` : "lost");
  try {
    const said: unknown = JSON.parse(reason);
    if (typeof said === "object" && said !== null) {
      if ("retry_after_ms" in said) retryAfterMs = milliseconds(said.retry_after_ms);
      if ("code" in said && typeof said.code === "string") cause = said.code;
    }
  } catch {
    // A proxy's close has no reason of aurexd's.
  }
  return {
    cause,
    code,
    retryAfterMs,
    final: !shouldReconnect(code),
    message: message ?? WORDS[cause] ?? `the connection was closed (${String(code)})`,
  };
}

/** A time to wait, as somebody else states it; null for what is none. At most an hour, lest a mistake be for ever. */
export function milliseconds(value: unknown): number | null {
  return typeof value === "number" && value >= 0 ? Math.min(value, 3_600_000) : null;
}

const WORDS: Readonly<Record<string, string>> = {
  lost: "the connection was lost",
  going_away: "the server restarts",
  slow_consumer: "this page read too slowly",
  heartbeat_timeout: "the server did not hear from this page",
  rate_limited: "too many messages or connections from here",
  too_many_connections: "too many connections from this address or of this user",
  over_capacity: "the server is full",
  token_expired: "the token has expired",
  auth_timeout: "no token was shown in time",
  idle_timeout: "nothing was subscribed to",
  internal_error: "the server failed",
  bad_token: "the token is not valid here",
  forbidden: "this page may not connect here",
  kicked: "an operator ended the session",
  rollout_closed: "WebSockets are not open to this client",
};

/** What brings a client its messages: this tab's own connection, or another tab's. */
import type { AurexError } from "./errors.js";
import type { Nudge, Transport } from "./machine.js";
import type { ClientMessage, ServerMessage } from "./protocol.gen.js";

/** `degraded`: prices come, but not over the WebSocket. */
export type ConnectionState = "disconnected" | "connecting" | "connected" | "degraded";

/** Everything about the connection; another object whenever something in it has changed. */
export interface ConnectionInfo {
  readonly state: ConnectionState;
  /** How messages come now; null while none come. */
  readonly transport: Transport | null;
  /** Why it is not `connected`, as a word: a close code's name, an error's code, `lost`, `silent`, `timeout`; else null. */
  readonly cause: string | null;
  /** The same for people. */
  readonly reason: string | null;
  /** It will not try again by itself: `connect()` does, and where only the attempts ran out, coming back to the page. */
  readonly stopped: boolean;
  /** Failed tries since messages came last. */
  readonly attempts: number;
  /** When it tries again, in milliseconds since 1970; null while it does not wait. */
  readonly retryAt: number | null;
  /** There and back, as measured last; null while unknown. */
  readonly latencyMs: number | null;
  /** The server's clock less this one; 0 while unknown. */
  readonly clockOffsetMs: number;
  /** The session's name in the server's log. */
  readonly session: string | null;
  /** The server's version. */
  readonly version: string | null;
  /** Whom the token names; null without one. */
  readonly user: string | null;
  /** What the token allows; null without one. */
  readonly scopes: readonly string[] | null;
  /** This tab holds the line for all: what is to be shown once (a notification, a sound) is shown here. */
  readonly leader: boolean;
}

export const DISCONNECTED: ConnectionInfo = {
  state: "disconnected",
  transport: null,
  cause: null,
  reason: null,
  stopped: false,
  attempts: 0,
  retryAt: null,
  latencyMs: null,
  clockOffsetMs: 0,
  session: null,
  version: null,
  user: null,
  scopes: null,
  leader: true,
};

/** What comes of a feed. */
export interface FeedEvents {
  /** A channel's message, each once and in order, or an answer about alert rules. */
  message(message: ServerMessage): void;
  changed(info: ConnectionInfo): void;
  /** Messages of a channel were missed for good; null: it cannot be told how many. What came after stands for them. */
  gap(channel: string, missed: number | null): void;
  /** A channel is not served to this client. */
  refused(channel: string, error: AurexError): void;
}

export interface Feed {
  readonly info: ConnectionInfo;
  /** Connect, and stay connected; `again`: also where it was told not to come back, or gave up. */
  start(again: boolean): void;
  stop(): void;
  /** Begin afresh, with another token. */
  restart(): void;
  nudge(why: Nudge): void;
  setChannels(channels: ReadonlySet<string>): void;
  /** Ask something; `id` is given here. @throws AurexError */
  request(message: ClientMessage): Promise<ServerMessage>;
}

/** One connection of whichever kind, from its beginning to its end. */
import type { Closing } from "./codes.js";
import type { Encoding } from "./codec.js";
import type { AurexError } from "./errors.js";
import type { Environment } from "./environment.js";
import type { Http } from "./http.js";
import type { Transport } from "./machine.js";
import type { ClientMessage, ServerMessage } from "./protocol.gen.js";

/** What a link needs to begin. */
export interface LinkContext {
  readonly environment: Environment;
  readonly http: Http;
  readonly encoding: Encoding;
  readonly pollMs: number;
  /** The token to show; null: none. May reject. */
  token(): Promise<string | null>;
  /** Those that are wanted, but for those that were refused. */
  channels(): ReadonlySet<string>;
  /** Where it was in them, whichever way that was; null: nowhere yet. */
  place(): Place | null;
}

/** Positions of one epoch. */
export interface Place {
  readonly epoch: string;
  /** `update_count` of the last message of each channel. */
  readonly counts: Readonly<Record<string, number>>;
}

/** What comes of it. Nothing more comes after `down`, or after `close` was called. */
export interface LinkEvents {
  message(message: ServerMessage): void;
  /** A channel is not served to this client; the link goes on without it. */
  refused(channel: string, error: AurexError): void;
  down(closing: Closing): void;
}

export interface Link {
  readonly transport: Transport;
  /** The token that it showed. */
  readonly token: string | null;
  /** @returns whether it went out; only a WebSocket takes messages */
  send(message: ClientMessage): boolean;
  /** The wanted channels have changed. A WebSocket is told by messages. */
  channelsChanged(): void;
  /** Bring a sign of life, if there is a way to ask for one. */
  poke(): void;
  /** End it. */
  close(): void;
}

/** Bytes ↔ messages. What comes in is `unknown` until it has been looked at here. */
import type { ClientMessage, ServerMessage } from "./protocol.gen.js";

/** Which of the two encodings of the same messages. */
export type Encoding = "json" | "msgpack";

/** One encoding. */
export interface Codec {
  readonly subprotocol: string;
  encode(message: ClientMessage): string | Uint8Array<ArrayBuffer>;
  /** @throws whatever the encoding's decoder throws for what it cannot read */
  decode(frame: string | ArrayBuffer): unknown;
}

export const JSON_CODEC: Codec = {
  subprotocol: "aurex.v1.json",
  encode: (message) => JSON.stringify(message),
  decode: (frame): unknown => JSON.parse(typeof frame === "string" ? frame : new TextDecoder().decode(frame)),
};

/** The codec; MessagePack's is loaded when it is first asked for. */
export async function loadCodec(encoding: Encoding): Promise<Codec> {
  return encoding === "json" ? JSON_CODEC : (await import("./msgpack.js")).MSGPACK_CODEC;
}

/**
 * What the server sent as a message, or null for what is none. Of a message it is only seen that it has the envelope:
 * the daemon's messages are of its published types, and a newer daemon may send others, which nobody listens to.
 */
export function asMessage(value: unknown): ServerMessage | null {
  if (typeof value !== "object" || value === null) return null;
  const { type, data } = value as { type?: unknown; data?: unknown };
  if (typeof type !== "string" || typeof data !== "object" || data === null) return null;
  return value as ServerMessage;
}

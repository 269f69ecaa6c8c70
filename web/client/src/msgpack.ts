/** The binary encoding; a module of its own, so that only those load it who use it. */
import { decode, encode } from "@msgpack/msgpack";
import type { Codec } from "./codec.js";

export const MSGPACK_CODEC: Codec = {
  subprotocol: "aurex.v1.msgpack",
  encode: (message) => encode(message, { ignoreUndefined: true }),
  decode: (frame) => decode(typeof frame === "string" ? new TextEncoder().encode(frame) : new Uint8Array(frame)),
};

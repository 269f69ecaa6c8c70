/** A link over the WebSocket. */
import { closing, type Closing } from "./codes.js";
import { asMessage, loadCodec, type Codec } from "./codec.js";
import { words } from "./http.js";
import type { Link, LinkContext, LinkEvents } from "./link.js";
import type { ClientMessage } from "./protocol.gen.js";

export class WebSocketLink implements Link {
  readonly transport = "websocket";
  token: string | null = null;
  readonly #events: LinkEvents;
  #socket: WebSocket | null = null;
  #codec: Codec | null = null;
  #ended = false;
  /** What the server said last of why it ends the session: the close itself has no room for it. */
  #lastWords: string | undefined;

  constructor(context: LinkContext, events: LinkEvents) {
    this.#events = events;
    void this.#open(context);
  }

  async #open(context: LinkContext): Promise<void> {
    const { environment, http } = context;
    try {
      const [codec, shown] = await Promise.all([loadCodec(context.encoding), context.token()]);
      if (this.#ended) return;
      if (environment.WebSocket === undefined) throw new Error("there are no WebSockets here");
      const url = http.url("api/v1/ws/stream");
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      const protocols = [codec.subprotocol];
      if (shown !== null) protocols.push(`aurex.token.${shown}`);
      const socket = new environment.WebSocket(url, protocols);
      socket.binaryType = "arraybuffer";
      socket.onmessage = (event): void => {
        this.#receive(event.data as string | ArrayBuffer);
      };
      socket.onclose = ({ code, reason }): void => {
        this.#down(closing(code, reason, this.#lastWords));
      };
      socket.onerror = (): void => undefined; // the close that follows says it
      this.#socket = socket;
      this.#codec = codec;
      this.token = shown;
    } catch (error) {
      const message = `cannot connect: ${words(error)}`;
      this.#down({ cause: "lost", message, code: null, retryAfterMs: null, final: false });
    }
  }

  send(message: ClientMessage): boolean {
    const socket = this.#socket;
    if (socket === null || this.#codec === null || socket.readyState !== 1) return false;
    socket.send(this.#codec.encode(message));
    return true;
  }

  channelsChanged(): void {
    // The connection says so with `subscribe` and `unsubscribe`.
  }

  poke(): void {
    this.send({ type: "ping", data: {} });
  }

  close(): void {
    this.#ended = true;
    const socket = this.#socket;
    if (socket === null) return;
    socket.onmessage = socket.onclose = null;
    socket.close(1000);
    this.#socket = null;
  }

  #receive(frame: string | ArrayBuffer): void {
    let message;
    try {
      message = asMessage(this.#codec?.decode(frame));
    } catch (error) {
      this.close();
      const text = `the server sent what cannot be read: ${words(error)}`;
      this.#events.down({ cause: "unreadable", message: text, code: null, retryAfterMs: null, final: false });
      return;
    }
    if (message === null) return;
    if (message.type === "error" && message.id == null) this.#lastWords = message.data.message;
    this.#events.message(message);
  }

  #down(closed: Closing): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket = null;
    this.#events.down(closed);
  }
}

/** A browser of one's own: sockets that do what they are told, on a time that goes when it is told to. */
import { vi } from "vitest";
import { AurexWebSocketClient, type ClientOptions } from "../src/index.js";
import type { Environment } from "../src/environment.js";
import type { Nudge } from "../src/machine.js";
import type { ClientMessage, ServerMessage, Welcome } from "../src/protocol.gen.js";
import { welcome } from "./messages.js";

/** A WebSocket as the client sees it; `say`, `end` and so on are the server's side. */
export class FakeSocket {
  readonly url: string;
  readonly protocols: readonly string[];
  readonly sent: ClientMessage[] = [];
  binaryType = "blob";
  readyState = 0;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;

  constructor(url: URL, protocols: string[]) {
    this.url = url.href;
    this.protocols = protocols;
  }

  send(frame: string): void {
    this.sent.push(JSON.parse(frame) as ClientMessage);
  }

  close(): void {
    this.readyState = 3;
  }

  /** The server lets the client in. */
  async greet(more: Partial<Welcome["data"]> = {}): Promise<void> {
    this.readyState = 1;
    await this.say(welcome(more));
  }

  async say(message: ServerMessage): Promise<void> {
    this.onmessage?.({ data: JSON.stringify(message) });
    await settle();
  }

  /** The server closes, or the line breaks. */
  async end(code = 1006, reason = ""): Promise<void> {
    this.readyState = 3;
    this.onclose?.({ code, reason });
    await settle();
  }

  /** What was asked last of that type. */
  asked<T extends ClientMessage["type"]>(type: T): (Extract<ClientMessage, { type: T }> & { id: number }) | undefined {
    return this.sent.findLast((message) => message.type === type) as never;
  }

  /** Answer the last `subscribe`: everything stands there, and nothing was missed. */
  async subscribed(count = 0, recovered = false): Promise<void> {
    const { id, data } = this.asked("subscribe") ?? { id: 0, data: { channels: [] } };
    const place = { epoch: "e1", count, recovered };
    const channels = Object.fromEntries(data.channels.map((channel) => [channel, place]));
    await this.say({ type: "subscribed", id, data: { channels }, timestamp: "" });
  }

  async refuse(type: ClientMessage["type"], code: string, retry_after_ms?: number): Promise<void> {
    const id = this.asked(type)?.id ?? 0;
    const data = { code, message: `${type}: ${code}`, ...(retry_after_ms !== undefined && { retry_after_ms }) };
    await this.say({ type: "error", id, data, timestamp: "" });
  }
}

/** Let everything that waits for nothing but its turn have it. */
export async function settle(): Promise<void> {
  for (let n = 0; n < 20; n += 1) await Promise.resolve();
}

/** A client in a browser that is made up. `vi.useFakeTimers()` first. */
export class Page {
  readonly sockets: FakeSocket[] = [];
  readonly client: AurexWebSocketClient;
  readonly requests: URL[] = [];
  answer: (url: URL) => unknown = () => {
    throw new TypeError("no network");
  };
  /** How far the wall clock is ahead: time that was slept. */
  slept = 0;
  random = 0.5;
  hidden = false;
  readonly #nudges = new Set<(why: Nudge) => void>();

  constructor(options: ClientOptions = {}) {
    const { sockets } = this;
    const environment: Partial<Environment> = {
      wall: () => Date.now() + this.slept,
      monotonic: () => performance.now(),
      random: () => this.random,
      setTimeout: (callback, ms) => setTimeout(callback, ms),
      clearTimeout: (timer) => {
        clearTimeout(timer as never);
      },
      WebSocket: class extends FakeSocket {
        constructor(url: URL, protocols: string[]) {
          super(url, protocols);
          sockets.push(this);
        }
      } as never,
      fetch: ((url: URL) =>
        new Promise((resolve) => {
          this.requests.push(url);
          resolve(Response.json(this.answer(url)));
        })) as typeof fetch,
      hidden: () => this.hidden,
      onNudge: (listener) => {
        this.#nudges.add(listener);
        return () => this.#nudges.delete(listener);
      },
      locks: undefined,
      ...options.environment,
    };
    this.client = new AurexWebSocketClient({
      url: "http://gold.test:8000",
      symbols: ["TESTGOLD"],
      transports: ["websocket"],
      ...options,
      environment,
    });
  }

  get listeners(): number {
    return this.#nudges.size;
  }

  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (socket === undefined) throw new Error("no socket was opened");
    return socket;
  }

  /** Until the client is connected, and its channels stand at `count`. */
  async connected(count = 0): Promise<FakeSocket> {
    await settle();
    await this.socket.greet();
    await this.socket.subscribed(count);
    return this.socket;
  }

  nudge(why: Nudge): void {
    for (const listener of this.#nudges) listener(why);
  }

  async pass(ms: number): Promise<void> {
    await vi.advanceTimersByTimeAsync(ms);
    await settle();
  }

  /** The lid is closed for so long: nothing runs, and the monotonic clock stands still. */
  sleep(ms: number): void {
    this.slept += ms;
  }
}

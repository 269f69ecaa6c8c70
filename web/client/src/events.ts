/** A link over server-sent events: for whom no WebSocket is open to. Read with `fetch`, since it can show a token. */
import { milliseconds, type Closing } from "./codes.js";
import { asMessage } from "./codec.js";
import { HttpFailure, words } from "./http.js";
import type { Link, LinkContext, LinkEvents } from "./link.js";
import { EventStreamParser } from "./sse.js";

/** Channels that are wanted one after the other, as a page is built up, are asked for together. */
const GATHER_MS = 50;

export class EventStreamLink implements Link {
  readonly transport = "events";
  token: string | null = null;
  readonly #context: LinkContext;
  readonly #events: LinkEvents;
  #aborts = new AbortController();
  #asked: ReadonlySet<string> = new Set();
  #gathering: unknown = null;
  #ended = false;

  constructor(context: LinkContext, events: LinkEvents) {
    this.#context = context;
    this.#events = events;
    void this.#read(context.lastEventId);
  }

  send(): boolean {
    return false;
  }

  channelsChanged(): void {
    // What is not wanted any more does no harm.
    if ([...this.#context.channels()].every((channel) => this.#asked.has(channel)) || this.#gathering !== null) return;
    this.#gathering = this.#context.environment.setTimeout(() => {
      this.#gathering = null;
      this.#aborts.abort();
      // With the last id, a new channel would begin with its next message instead of the current one.
      void this.#read(null);
    }, GATHER_MS);
  }

  poke(): void {
    // There is no asking on an event stream.
  }

  close(): void {
    this.#ended = true;
    this.#aborts.abort();
    this.#context.environment.clearTimeout(this.#gathering);
  }

  async #read(lastEventId: string | null): Promise<void> {
    const { http } = this.#context;
    const aborts = (this.#aborts = new AbortController());
    const over = (): boolean => aborts.signal.aborted;
    const parser = new EventStreamParser();
    let last: Pick<Closing, "cause" | "message"> = { cause: "lost", message: "the event stream ended" };
    let wait: number | null = null;
    try {
      this.token = await this.#context.token();
      this.#asked = new Set(this.#context.channels());
      const channels = [...this.#asked].join(",");
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (lastEventId !== null && http.sameOrigin) headers["Last-Event-ID"] = lastEventId;
      const url = http.url("api/v1/stream", { channels: channels === "" ? undefined : channels });
      const response = await http.open(url, headers, aborts.signal, this.token);
      const type = response.headers.get("Content-Type") ?? "nothing";
      if (!type.startsWith("text/event-stream") || response.body === null) {
        throw new HttpFailure(0, `what answers at ${url.pathname} is no event stream but ${type}`);
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || over()) break;
        for (const { data, id } of parser.feed(value)) {
          if (id !== null) this.#context.lastEventId = id;
          const message = asMessage(JSON.parse(data));
          if (message === null) continue;
          if (message.type === "error") {
            last = { cause: message.data.code, message: message.data.message };
            wait = milliseconds(message.data.retry_after_ms);
          }
          if (message.type === "going_away") last = { cause: "going_away", message: message.data.reason };
          this.#events.message(message);
          if (over()) return;
        }
      }
      this.#down(aborts, { ...last, code: null, retryAfterMs: wait ?? milliseconds(parser.retryMs), final: false });
    } catch (error) {
      const message = `the event stream broke: ${words(error)}`;
      const broken = { cause: "lost", message, code: null, retryAfterMs: null, final: false };
      this.#down(aborts, error instanceof HttpFailure ? error.closing : broken);
    }
  }

  #down(aborts: AbortController, closing: Closing): void {
    if (this.#ended || aborts !== this.#aborts || aborts.signal.aborted) return;
    this.close();
    this.#events.down(closing);
  }
}

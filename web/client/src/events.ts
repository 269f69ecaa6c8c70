/** A link over server-sent events: for whom no WebSocket is open to. Read with `fetch`, since it can show a token. */
import { milliseconds, type Closing } from "./codes.js";
import { asMessage } from "./codec.js";
import { HttpFailure, words } from "./http.js";
import type { Link, LinkContext, LinkEvents } from "./link.js";
import { EventStreamParser } from "./sse.js";

/** Channels that are wanted one after the other, as a page is built up, are asked for together. */
const GATHER_MS = 50;

const LOST: Pick<Closing, "cause" | "message"> = { cause: "lost", message: "the event stream ended" };

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
    void this.#read();
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
      void this.#read();
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

  async #read(): Promise<void> {
    const { http } = this.#context;
    const aborts = (this.#aborts = new AbortController());
    const over = (): boolean => aborts.signal.aborted;
    const parser = new EventStreamParser();
    let last = LOST;
    let wait: number | null = null;
    try {
      this.token = await this.#context.token();
      this.#asked = new Set(this.#context.channels());
      const response = await http.open(
        this.#url(),
        { headers: { Accept: "text/event-stream" }, signal: aborts.signal },
        this.token,
      );
      const type = response.headers.get("Content-Type") ?? "nothing";
      if (!type.startsWith("text/event-stream") || response.body === null) {
        throw new HttpFailure(0, `what answers at ${this.#url().pathname} is no event stream but ${type}`);
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || over()) break;
        for (const { data } of parser.feed(value)) {
          const message = asMessage(JSON.parse(data));
          if (message === null) continue;
          if (message.type === "error") {
            last = { cause: message.data.code, message: message.data.message };
            wait = milliseconds(message.data.retry_after_ms);
          }
          // It was said of channels that have ended; the line has not.
          if (message.type === "unsubscribed") last = LOST;
          if (message.type === "going_away") last = { cause: "going_away", message: message.data.reason };
          this.#events.message(message);
          if (over()) return;
        }
      }
      this.#down(aborts, { ...last, code: null, retryAfterMs: wait ?? milliseconds(parser.retryMs), final: false });
    } catch (error) {
      if (error instanceof HttpFailure && (await this.#sift(error, aborts.signal))) {
        void this.#read();
        return;
      }
      const message = `the event stream broke: ${words(error)}`;
      const broken = { cause: "lost", message, code: null, retryAfterMs: null, final: false };
      this.#down(aborts, error instanceof HttpFailure ? error.closing : broken);
    }
  }

  /** The channels, and where it was in them: by the counts, which hold whichever way the messages came. */
  #url(): URL {
    const list = (places: readonly string[]): string | undefined =>
      places.length === 0 ? undefined : places.join(",");
    const channels = [...this.#asked];
    const { epoch, counts = {} } = this.#context.place() ?? {};
    const resume = channels.flatMap((channel) => (channel in counts ? [`${channel}@${String(counts[channel])}`] : []));
    return this.#context.http.url("api/v1/stream", { channels: list(channels), epoch, resume: list(resume) });
  }

  /**
   * All or nothing, says the server: look which channels it is that are not served, and tell of them.
   *
   * @returns whether it may be worth while without them; with none, it is the default channels' turn
   */
  async #sift({ status }: HttpFailure, over: AbortSignal): Promise<boolean> {
    if (![400, 403].includes(status)) return false;
    const refused = new Map<string, HttpFailure>();
    for (const channel of this.#asked) {
      const aborts = new AbortController();
      const url = this.#context.http.url("api/v1/stream", { channels: channel });
      try {
        await this.#context.http.open(url, { signal: aborts.signal }, this.token);
      } catch (error) {
        if (error instanceof HttpFailure && [400, 403].includes(error.status)) refused.set(channel, error);
      }
      aborts.abort();
      if (over.aborted) return false;
    }
    for (const [channel, failure] of refused) this.#events.refused(channel, failure);
    return refused.size > 0;
  }

  #down(aborts: AbortController, closing: Closing): void {
    if (this.#ended || aborts !== this.#aborts || aborts.signal.aborted) return;
    this.close();
    this.#events.down(closing);
  }
}

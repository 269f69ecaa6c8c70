/** Reads server-sent events, however they are cut into pieces. Pure. https://html.spec.whatwg.org/#parsing-an-event-stream */

export interface ServerSentEvent {
  readonly data: string;
  /** Stands for all events up to this one. */
  readonly id: string | null;
}

export class EventStreamParser {
  #rest = "";
  #data: string[] = [];
  #id: string | null = null;
  /** The newest `retry`, in milliseconds. */
  retryMs: number | null = null;

  /** The events that are complete with this piece. */
  feed(piece: string): ServerSentEvent[] {
    // A lone CR ends a line as well, but the LF of a CR LF may be in the next piece.
    const text = this.#rest + piece;
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    const events: ServerSentEvent[] = [];
    for (const line of lines) {
      if (line !== "") {
        this.#field(line);
      } else if (this.#data.length > 0) {
        events.push({ data: this.#data.join("\n"), id: this.#id });
        this.#data = [];
      }
    }
    return events;
  }

  #field(line: string): void {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
  }
}

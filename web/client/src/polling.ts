/** The last way: asking for the current prices every few seconds, and saying what has changed in the same messages. */
import type { Interval } from "./channels.js";
import type { AlertHistory, CandleHistory, LatestPrice, Sources } from "./http.gen.js";
import { HttpFailure } from "./http.js";
import type { Link, LinkContext, LinkEvents } from "./link.js";
import type { ServerMessage } from "./protocol.gen.js";

export class PollingLink implements Link {
  readonly transport = "polling";
  readonly token = null; // `Http` shows it
  readonly #context: LinkContext;
  readonly #events: LinkEvents;
  readonly #aborts = new AbortController();
  #timer: unknown = null;
  #asking = false;
  /** Alerts that have been told: they are found again until they are acknowledged. Null: none has been looked for yet. */
  #told: ReadonlySet<string> | null = null;

  constructor(context: LinkContext, events: LinkEvents) {
    this.#context = context;
    this.#events = events;
    void this.#poll();
  }

  send(): boolean {
    return false;
  }

  channelsChanged(): void {
    this.poke();
  }

  poke(): void {
    if (this.#asking) return;
    this.#context.environment.clearTimeout(this.#timer);
    void this.#poll();
  }

  close(): void {
    this.#aborts.abort();
    this.#context.environment.clearTimeout(this.#timer);
  }

  async #poll(): Promise<void> {
    this.#asking = true;
    const channels = [...this.#context.channels()];
    try {
      const statuses = channels.some((channel) => channel.startsWith("status:"));
      const asked = channels.map((channel) => this.#ask(channel));
      if (statuses || channels.length === 0) asked.push(this.#statuses(new Set(channels)));
      const answers = (await Promise.all(asked)).flat();
      if (this.#over()) return;
      // A sign of life, also when nothing has changed.
      this.#events.message({ type: "heartbeat", data: {}, timestamp: this.#now() });
      for (const message of answers) this.#events.message(message);
    } catch (error) {
      if (this.#over()) return;
      this.close();
      this.#events.down((error instanceof HttpFailure ? error : new HttpFailure(0, String(error))).closing);
      return;
    } finally {
      this.#asking = false;
    }
    if (this.#over()) return;
    this.#timer = this.#context.environment.setTimeout(() => void this.#poll(), this.#context.pollMs);
  }

  #over(): boolean {
    return this.#aborts.signal.aborted;
  }

  async #ask(channel: string): Promise<ServerMessage[]> {
    const [kind, symbol = "", interval] = channel.split(":");
    const timestamp = this.#now();
    try {
      if (kind === "price") {
        const answer = (await this.#get("api/v1/prices/latest", { symbol })) as LatestPrice;
        const { received, age_ms: _, ...data } = answer;
        return [{ type: "price_update", data, timestamp: received, update_count: 0 }];
      }
      if (kind === "alert") return await this.#alerts(timestamp);
      if (kind === "candle") {
        const query = { symbol, interval, limit: 2 };
        const answer = (await this.#get("api/v1/prices/history", query)) as CandleHistory;
        return answer.candles.map((candle) => ({
          type: "candle",
          data: { ...candle, symbol, interval: interval as Interval, instrument: answer.instrument },
          timestamp,
          update_count: 0,
        }));
      }
    } catch (error) {
      if (!(error instanceof HttpFailure)) throw error;
      const { status, retryAfterMs } = error;
      if (kind === "alert" && [401, 403].includes(status)) return []; // not this user's
      // Without `Retry-After` it is the symbol's trouble (it has no price yet, it is not known), not the daemon's.
      if (![404, 503].includes(status) || retryAfterMs !== null) throw error;
      if (kind === "price" && status === 404) this.#events.refused(channel, error);
    }
    return [];
  }

  /** What has fired and waits to be acknowledged, the oldest first. */
  async #alerts(timestamp: string): Promise<ServerMessage[]> {
    const { alerts } = (await this.#get("api/v1/alerts/history")) as AlertHistory;
    const waiting = alerts.filter(({ acknowledged }) => acknowledged === null).map(({ alert }) => alert);
    const told = this.#told;
    this.#told = new Set(waiting.map(({ alert_id }) => alert_id));
    return waiting
      .filter(({ alert_id }) => told?.has(alert_id) !== true)
      .reverse()
      .map((alert) => ({
        type: "alert",
        data: told === null ? { ...alert, redelivered: true } : alert,
        timestamp,
        update_count: 0,
      }));
  }

  async #statuses(channels: ReadonlySet<string>): Promise<ServerMessage[]> {
    const { symbols } = (await this.#get("api/v1/sources")) as Sources;
    return symbols
      .filter(({ symbol }) => channels.has(`status:${symbol}`))
      .map(({ symbol, instrument, quality, source, reason, since, market }) => ({
        type: "status",
        data: { symbol, instrument, quality, source, reason, since, market },
        timestamp: this.#now(),
        update_count: 0,
      }));
  }

  #get(path: string, query: Record<string, string | number | undefined> = {}): Promise<unknown> {
    return this.#context.http.get(path, query, this.#aborts.signal);
  }

  #now(): string {
    return new Date(this.#context.environment.wall()).toISOString();
  }
}

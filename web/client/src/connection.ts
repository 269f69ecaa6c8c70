/**
 * This tab's own connection: carries out what the machine says, over sockets and timers, and keeps subscriptions,
 * positions and requests while lines come and go.
 */
import { channelOf, type ChannelMessage } from "./channels.js";
import { SleepClock } from "./clock.js";
import type { Closing } from "./codes.js";
import type { Encoding } from "./codec.js";
import type { Environment } from "./environment.js";
import { AurexError } from "./errors.js";
import { EventStreamLink } from "./events.js";
import { DISCONNECTED, type ConnectionInfo, type Feed, type FeedEvents } from "./feed.js";
import type { Http } from "./http.js";
import type { Link, LinkContext, LinkEvents } from "./link.js";
import type { Ledger } from "./ledger.js";
import { Machine, type Effect, type Nudge, type Rules } from "./machine.js";
import { PollingLink } from "./polling.js";
import { askOverHttp, isAlertMessage } from "./requests.js";
import type { ClientMessage, CurrentPosition, ErrorData, ServerMessage, Welcome } from "./protocol.gen.js";
import { WebSocketLink } from "./websocket.js";

/** Why a token is wanted: to connect, because the one in use expires soon or has expired, or because it was refused. */
export type TokenReason = "connect" | "expiring" | "expired" | "rejected";

export interface ConnectionSettings {
  readonly encoding: Encoding;
  readonly pollMs: number;
  readonly requestMs: number;
  readonly rules: Partial<Rules>;
  token(reason: TokenReason): Promise<string | null>;
}

/** How often the clock is read: a computer that wakes up is noticed within this. */
const LOOK_MS = 500;
/** How often the latency is measured, while somebody looks; and how soon again after the first time, when a page has
 * other things to do than to answer. */
const PING_MS = 10_000;
const FIRST_PING_MS = 2000;
/** A tab that asks for one new token after the other is doing something wrong. */
const MAX_REJECTED_TOKENS = 3;

interface Pending {
  readonly message: ClientMessage;
  readonly resolve: (answer: ServerMessage) => void;
  readonly reject: (error: AurexError) => void;
  readonly timer: unknown;
}

export class Connection implements Feed {
  readonly #environment: Environment;
  readonly #settings: ConnectionSettings;
  readonly #events: FeedEvents;
  readonly #ledger: Ledger;
  readonly #machine: Machine;
  readonly #clock: SleepClock;
  readonly #context: LinkContext;
  readonly #links = new Map<number, Link>();
  readonly #pending = new Map<number, Pending>();
  /** Channels that the server refused; asked for one by one over the WebSocket, lest they spoil the others. */
  readonly #refused = new Set<string>();
  /** Why channels are taken away, should they be: a symbol has gone, as is said before, or a new token allows less. */
  #why: ErrorData | typeof LESS = LESS;
  #active: Link | null = null;
  #activeId = 0;
  #channels: ReadonlySet<string> = new Set();
  /** What the line was asked for. */
  #sent = new Set<string>();
  #subscribed = false;
  #syncing = false;
  #welcome: Welcome["data"] | null = null;
  /** Of the counts that came last. */
  #epoch: string | null = null;
  #ids = 0;
  #timer: unknown = null;
  #pingAt = 0;
  #rejectedTokens = 0;
  #tokenReason: TokenReason = "connect";
  #info: ConnectionInfo = DISCONNECTED;
  #stopNudges: (() => void) | null = null;

  constructor(environment: Environment, settings: ConnectionSettings, http: Http, ledger: Ledger, events: FeedEvents) {
    this.#environment = environment;
    this.#settings = settings;
    this.#events = events;
    this.#ledger = ledger;
    this.#machine = new Machine(settings.rules, () => environment.random());
    this.#clock = new SleepClock(environment.monotonic(), environment.wall());
    this.#context = {
      environment,
      http,
      encoding: settings.encoding,
      pollMs: settings.pollMs,
      token: () => settings.token(this.#tokenReason),
      channels: () => new Set([...this.#channels].filter((channel) => !this.#refused.has(channel))),
      place: () => this.#ledger.positions.place(this.#channels, this.#epoch),
    };
  }

  get info(): ConnectionInfo {
    return this.#info;
  }

  start(again: boolean): void {
    this.#stopNudges ??= this.#environment.onNudge((why) => {
      this.nudge(why);
    });
    this.#perform(this.#machine.start(this.#now(), again));
  }

  stop(): void {
    this.#stopNudges?.();
    this.#stopNudges = null;
    this.#perform(this.#machine.stop());
  }

  restart(): void {
    this.#rejectedTokens = 0;
    this.#perform(this.#machine.restart(this.#now()));
  }

  nudge(why: Nudge): void {
    this.#perform(this.#machine.nudge(this.#now(), why));
  }

  setChannels(channels: ReadonlySet<string>): void {
    for (const channel of this.#channels) {
      if (channels.has(channel)) continue;
      this.#ledger.forget(channel);
      this.#refused.delete(channel);
    }
    this.#channels = new Set(channels);
    this.#active?.channelsChanged();
    this.#sync();
  }

  /** Of the line's counts; null where it does not count. */
  get epoch(): string | null {
    return this.#welcome?.epoch ?? null;
  }

  request(message: ClientMessage): Promise<ServerMessage> {
    return new Promise((resolve, reject) => {
      this.#ask(message, resolve, reject);
    });
  }

  #ask(message: ClientMessage, resolve: Pending["resolve"], reject: Pending["reject"]): void {
    const { http } = this.#context;
    const falls = this.#active !== null && this.#active.transport !== "websocket";
    if (falls && isAlertMessage(message)) {
      askOverHttp(http, message, this.#settings.requestMs).then((answer) => {
        this.#events.message(answer); // as it would come over the line: for all tabs
        resolve(answer);
      }, reject);
      return;
    }
    const id = ++this.#ids;
    const asked = { ...message, id };
    if (this.#active?.send(asked) !== true) {
      const why = this.#active === null ? "there is no connection" : "it needs the WebSocket, which is not open";
      reject(new AurexError("not_connected", `${message.type} was not sent: ${why}`));
      return;
    }
    const timer = this.#environment.setTimeout(() => {
      this.#pending.delete(id);
      reject(new AurexError("timeout", `${message.type} was not answered in time`));
    }, this.#settings.requestMs);
    this.#pending.set(id, { message, resolve, reject, timer });
  }

  // --- carrying out ---

  #now(): number {
    return this.#clock.read(this.#environment.monotonic(), this.#environment.wall()).now;
  }

  #perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      switch (effect.do) {
        case "open":
          this.#open(effect.link, effect.transport);
          break;
        case "close":
          this.#links.get(effect.link)?.close();
          this.#forget(effect.link);
          break;
        case "adopt":
          this.#adopt(effect.link);
          break;
        case "ping":
          this.#links.get(effect.link)?.poke();
          break;
      }
    }
    this.#report();
    this.#schedule();
  }

  #open(id: number, transport: Link["transport"]): void {
    const events: LinkEvents = {
      message: (message) => {
        this.#receive(id, message);
      },
      refused: (channel, error) => {
        this.#refuse([channel], error);
      },
      down: (closing) => {
        this.#down(id, closing);
      },
    };
    const kinds = { websocket: WebSocketLink, events: EventStreamLink, polling: PollingLink };
    this.#links.set(id, new kinds[transport](this.#context, events));
  }

  #adopt(id: number): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#active = link;
    this.#activeId = id;
    this.#sent = new Set();
    this.#subscribed = false;
    this.#subscribeAll();
    this.#measure(FIRST_PING_MS);
  }

  #forget(id: number): void {
    this.#links.delete(id);
    if (id !== this.#activeId) return;
    this.#active = null;
    this.#activeId = 0;
    for (const { reject, timer, message } of this.#pending.values()) {
      this.#environment.clearTimeout(timer);
      const text = `${message.type} was sent, and the connection was lost before the answer came`;
      reject(new AurexError("connection_lost", text));
    }
    this.#pending.clear();
  }

  #down(id: number, closing: Closing): void {
    const shown = this.#links.get(id)?.token ?? null;
    this.#forget(id);
    this.#tokenReason = closing.cause === "token_expired" ? "expired" : "connect";
    this.#perform(this.#machine.closed(id, this.#now(), closing));
    if (closing.cause === "bad_token") void this.#replaceToken(shown);
  }

  #schedule(): void {
    this.#environment.clearTimeout(this.#timer);
    this.#timer = null;
    const { deadline, view } = this.#machine;
    if (view.state === "disconnected" && deadline === null) return;
    const wait = deadline === null ? LOOK_MS : Math.min(LOOK_MS, Math.max(0, deadline - this.#now()));
    this.#timer = this.#environment.setTimeout(() => {
      this.look();
    }, wait);
  }

  /** See whether it is time for something. Called from outside where this tab's own timers are slowed down. */
  look(): void {
    const { now, jumpMs } = this.#clock.read(this.#environment.monotonic(), this.#environment.wall());
    const effects = jumpMs > 0 ? this.#machine.nudge(now, "wake") : [];
    this.#perform([...effects, ...this.#machine.tick(now)]);
    if (now >= this.#pingAt && !this.#environment.hidden()) this.#measure(PING_MS);
  }

  // --- what comes ---

  #receive(id: number, message: ServerMessage): void {
    const now = this.#now();
    this.#machine.heard(id, now);
    if (message.type === "going_away") this.#machine.goingAway(id, now, message.data.retry_after_ms);
    if (id !== this.#activeId) {
      this.#begin(id, now, message);
      if (id !== this.#activeId) return;
    }
    if (message.type === "heartbeat") this.#settle();
    const { id: answers } = message as { id?: unknown };
    if (typeof answers === "number") this.#answer(answers, message);
    else if (message.type === "error") this.#why = message.data;
    else if (message.type === "unsubscribed") {
      this.#refuse(message.data.channels, new AurexError(this.#why.code, this.#why.message));
    }
    if (message.type === "authenticated") this.#authenticated(message.data.user, message.data.scopes);
    if (message.type === "token_expiring") void this.#renewToken();
    if (message.type.startsWith("alert.")) this.#events.message(message);
    const channel = channelOf(message);
    if (channel !== null) this.#deliver(channel, message as ChannelMessage);
  }

  /** The first message of an attempt. */
  #begin(id: number, now: number, message: ServerMessage): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    if (message.type === "welcome") {
      if (message.data.auth === "token" && link.transport === "websocket" && link.token === null) {
        link.close();
        this.#down(id, NO_TOKEN);
        return;
      }
      this.#welcome = message.data;
      this.#epoch = message.data.epoch;
      this.#synchronize(message.data.server_time, 0);
      this.#perform(this.#machine.opened(id, now, 3000 * message.data.heartbeat.silence_s));
    } else if (link.transport === "polling") {
      this.#welcome = null;
      this.#perform(this.#machine.opened(id, now, Math.max(3 * this.#settings.pollMs, 45_000)));
    }
  }

  #deliver(channel: string, message: ChannelMessage): void {
    if (!this.#channels.has(channel)) return; // it was on its way when the channel was left
    const link = this.#active;
    if (link === null) return;
    if (link.transport !== "websocket" || this.#subscribed) this.#settle();
    const { deliver, missed, ask } = this.#ledger.judge(channel, message, this.epoch);
    if (missed !== 0) this.#events.gap(channel, missed);
    if (ask && link.transport === "websocket") this.#send({ type: "snapshot", data: { channels: [channel] } });
    if (deliver !== null) this.#events.message(deliver);
  }

  /** The line is worth something: what fails from now on begins to count anew. */
  #settle(): void {
    this.#machine.settled(this.#activeId);
    this.#rejectedTokens = 0;
    if (this.#info.attempts > 0) this.#report();
  }

  #answer(id: number, message: ServerMessage): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    this.#environment.clearTimeout(pending.timer);
    if (message.type !== "error") {
      pending.resolve(message);
      return;
    }
    const { code, message: text, retry_after_ms: wait } = message.data;
    if (code === "rate_limited") {
      // It was not acted on, so it may be said again.
      this.#environment.setTimeout(() => {
        this.#ask(pending.message, pending.resolve, pending.reject);
      }, wait ?? 1000);
      return;
    }
    pending.reject(new AurexError(code, text, wait ?? null));
  }

  // --- subscriptions ---

  /** Have the line's channels be those that are wanted; what is wanted in one go is asked for in one message. */
  #sync(): void {
    if (this.#syncing || this.#active?.transport !== "websocket") return;
    this.#syncing = true;
    queueMicrotask(() => {
      this.#syncing = false;
      this.#subscribeAll();
    });
  }

  #subscribeAll(): void {
    if (this.#active?.transport !== "websocket") return;
    const gone = [...this.#sent].filter((channel) => !this.#channels.has(channel));
    if (gone.length > 0) this.#send({ type: "unsubscribe", data: { channels: gone } });
    const fresh = [...this.#channels].filter((channel) => !this.#sent.has(channel));
    this.#sent = new Set(this.#channels);
    const doubtful = fresh.filter((channel) => this.#refused.has(channel));
    const good = fresh.filter((channel) => !this.#refused.has(channel));
    if (good.length > 0) void this.#subscribe(good);
    for (const channel of doubtful) void this.#subscribe([channel]);
  }

  async #subscribe(channels: readonly string[]): Promise<void> {
    const line = this.#activeId;
    const resume = this.#ledger.positions.resume(channels);
    const data = Object.keys(resume).length > 0 ? { channels: [...channels], resume } : { channels: [...channels] };
    try {
      // `subscribed` is looked at when it comes (`#taken`): what follows it must not overtake it.
      await new Promise<ServerMessage>((resolve, reject) => {
        this.#ask(
          { type: "subscribe", data },
          (answer) => {
            if (answer.type === "subscribed") this.#taken(answer.data.channels);
            resolve(answer);
          },
          reject,
        );
      });
    } catch (error) {
      if (!(error instanceof AurexError) || line !== this.#activeId) return;
      if (["connection_lost", "not_connected", "timeout"].includes(error.code)) return;
      // All or nothing: one channel that is not served, and none is.
      if (channels.length > 1) {
        for (const channel of channels) void this.#subscribe([channel]);
        return;
      }
      this.#refuse(channels, error);
    }
  }

  /** Channels are not served, or no more: the next line asks for each by itself. */
  #refuse(channels: readonly string[], error: AurexError): void {
    for (const channel of channels) {
      if (!this.#channels.has(channel)) continue;
      this.#refused.add(channel);
      this.#ledger.forget(channel);
      this.#events.refused(channel, error);
    }
  }

  #taken(channels: Readonly<Record<string, CurrentPosition>>): void {
    this.#subscribed = true;
    for (const [channel, place] of Object.entries(channels)) {
      this.#refused.delete(channel);
      this.#ledger.positions.announce(channel, place);
    }
  }

  #send(message: ClientMessage): void {
    this.request(message).catch(() => undefined); // the next line makes it good
  }

  // --- tokens ---

  async #renewToken(): Promise<void> {
    const line = this.#activeId;
    try {
      const token = await this.#settings.token("expiring");
      if (token === null || line !== this.#activeId || this.#active?.transport !== "websocket") return;
      await this.request({ type: "auth", data: { token } });
    } catch {
      // The old one holds until it expires; then the session is closed, and a new one is asked for.
    }
  }

  /** The server will not take the token. If there is another one, come with that. */
  async #replaceToken(shown: string | null): Promise<void> {
    this.#rejectedTokens += 1;
    if (this.#rejectedTokens > MAX_REJECTED_TOKENS) return;
    try {
      const token = await this.#settings.token("rejected");
      if (token !== null && token !== shown && this.#machine.view.stopped) {
        this.#perform(this.#machine.start(this.#now(), true));
      }
    } catch {
      // There is none: it stays as it is, and `info` says why.
    }
  }

  #authenticated(user: string, scopes: readonly string[]): void {
    this.#why = LESS;
    this.#change({ user, scopes });
  }

  // --- what is told ---

  /** Measure how long a message takes, there and back. */
  #measure(againMs: number): void {
    this.#pingAt = this.#now() + againMs;
    if (this.#active?.transport !== "websocket") return;
    const sent = this.#environment.monotonic();
    this.request({ type: "ping", data: {} }).then(
      (pong) => {
        const latencyMs = Math.round(this.#environment.monotonic() - sent);
        if ("timestamp" in pong) this.#synchronize(pong.timestamp, latencyMs);
        if (this.#subscribed) this.#settle();
        this.#change({ latencyMs });
      },
      () => undefined,
    );
  }

  #synchronize(serverTime: string, latencyMs: number): void {
    const offset = Date.parse(serverTime) + latencyMs / 2 - this.#environment.wall();
    if (Number.isFinite(offset)) this.#change({ clockOffsetMs: Math.round(offset) });
  }

  #report(): void {
    const { state, transport, failures, waitUntil, closing, stopped } = this.#machine.view;
    const lineless =
      transport === null ? { latencyMs: null, session: null } : { session: this.#welcome?.session ?? null };
    this.#change({
      state,
      transport,
      attempts: failures,
      stopped,
      cause: closing?.cause ?? null,
      reason: closing?.message ?? null,
      retryAt: waitUntil === null ? null : this.#environment.wall() + waitUntil - this.#now(),
      version: this.#welcome?.version ?? this.#info.version,
      ...lineless,
    });
  }

  #change(part: Partial<ConnectionInfo>): void {
    const before = this.#info;
    const after = { ...before, ...part };
    // The time of a wait is computed anew each time, and differs by what the clocks differ.
    if (before.retryAt !== null && after.retryAt !== null && Math.abs(after.retryAt - before.retryAt) < 50) {
      after.retryAt = before.retryAt;
    }
    const keys = Object.keys(after) as (keyof ConnectionInfo)[];
    if (keys.every((key) => Object.is(before[key], after[key]))) return;
    this.#info = after;
    this.#events.changed(after);
  }
}

const LESS = { code: "forbidden", message: "the token allows less" };

const NO_TOKEN: Closing = {
  cause: "unauthenticated",
  message: "the server asks for a token",
  code: null,
  retryAfterMs: null,
  final: true,
};

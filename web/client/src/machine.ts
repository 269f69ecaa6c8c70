/**
 * When to connect, how, and when to stop trying: the state machine of the connection. Pure: it is told what happened
 * and at what time, and says what is to be done; sockets and timers are somebody else's (`connection.ts`).
 *
 * A *line* is a connection that brings messages, an *attempt* one that has not yet. There is at most one of each: an
 * attempt beside a line is to replace it, by a better kind (`upgrade`) or because nothing is heard of it (`rescue`), and
 * the line goes on until the attempt has succeeded. All times are in milliseconds of a clock that never goes back and
 * goes on while the machine sleeps (`clock.ts`).
 */
import { delayMs, RECONNECT, type Backoff } from "./backoff.js";
import type { Closing } from "./codes.js";

/** The ways to the same messages, the best first: WebSocket, server-sent events, asking every few seconds. */
export type Transport = "websocket" | "events" | "polling";

/** What can be set. */
export interface Rules {
  /** Those that may be used, the best first. */
  readonly transports: readonly Transport[];
  readonly backoff: Backoff;
  /** After so many failed tries it is given up, until somebody comes back to the page or asks. */
  readonly maxAttempts: number;
}

/** A try that has not led to anything within this is given up. */
export const TRY_MS = 20_000;
/** A line that says nothing for so long is dead, unless the server names another time. */
export const SILENCE_MS = 15_000;
/** After waking up: a line that does not answer within this gets a rival. */
const RESCUE_AFTER_MS = 300;
/** An attempt from before the machine slept is not waited for. */
const STALE_ATTEMPT_MS = 1000;
/** Tries with the WebSocket before another way is tried: where it never worked, and where it did. */
const PATIENCE = 2;
const PATIENCE_ONCE_WORKED = 5;
/** How long before it is tried again to get back to the WebSocket. */
const UPGRADE: Backoff = { baseMs: 20_000, capMs: 300_000 };

/** To be done, in order. */
export type Effect =
  | { readonly do: "open"; readonly link: number; readonly transport: Transport }
  | { readonly do: "close"; readonly link: number }
  /** The attempt has become the line: subscribe there, and resume. */
  | { readonly do: "adopt"; readonly link: number }
  | { readonly do: "ping"; readonly link: number };

/** Why it is worth while to look again: the network is back, somebody looks at the page, the machine woke up. */
export type Nudge = "online" | "visible" | "wake";

interface Attempt {
  readonly link: number;
  readonly transport: Transport;
  readonly since: number;
  purpose: "connect" | "upgrade" | "rescue";
  returnAt: number | null;
}

interface Line {
  readonly link: number;
  readonly transport: Transport;
  readonly silenceMs: number;
  heardAt: number;
  /** It brought what follows `subscribed`. */
  settled: boolean;
  /** When a sign of life was asked for that has not come. */
  askedAt: number | null;
  /** The slot that `going_away` named. */
  returnAt: number | null;
}

/** What can be seen of it. */
export interface MachineView {
  readonly state: "disconnected" | "connecting" | "connected" | "degraded";
  readonly transport: Transport | null;
  /** Failed tries since messages came last. */
  readonly failures: number;
  /** While it waits: when it tries again, by the machine's clock. */
  readonly waitUntil: number | null;
  /** Why it is not connected, or not as it should be. */
  readonly closing: Closing | null;
  /** It will not try again by itself. */
  readonly stopped: boolean;
}

export class Machine {
  readonly #rules: Rules;
  readonly #random: () => number;
  #effects: Effect[] = [];
  #links = 0;
  #wanted = false;
  #line: Line | null = null;
  #attempt: Attempt | null = null;
  #waitUntil: number | null = null;
  /** The server named the time: nothing but the time itself makes it shorter. */
  #advised = false;
  #stopped: "final" | "gave_up" | null = null;
  #closing: Closing | null = null;
  #failures = 0;
  #preferred: Transport;
  #websocketWorked = false;
  #websocketBarred = false;
  #upgradeAt: number | null = null;
  #upgrades = 0;

  /** @param random from 0 to 1 */
  constructor(rules: Partial<Rules> = {}, random: () => number = Math.random) {
    this.#rules = {
      transports: ["websocket", "events", "polling"],
      backoff: RECONNECT,
      maxAttempts: Infinity,
      ...rules,
    };
    this.#random = random;
    this.#preferred = this.#best();
  }

  get view(): MachineView {
    return {
      state: this.#state(),
      transport: this.#line?.transport ?? null,
      failures: this.#failures,
      waitUntil: this.#attempt === null ? this.#waitUntil : null,
      closing: this.#closing,
      stopped: this.#stopped !== null,
    };
  }

  /** When `tick` has something to do at the latest; null: never. */
  get deadline(): number | null {
    const times = [this.#waitUntil, this.#attempt && this.#attempt.since + TRY_MS];
    if (this.#line !== null) {
      times.push(this.#line.heardAt + this.#line.silenceMs);
      if (this.#attempt === null) {
        times.push(this.#upgradeAt, this.#line.askedAt === null ? null : this.#line.askedAt + RESCUE_AFTER_MS);
      }
    }
    const due = times.filter((time) => time !== null);
    return due.length === 0 ? null : Math.min(...due);
  }

  /**
   * Connect, and stay connected. What was told not to come back, or gave up, does so only `again`, and then afresh; what
   * waits does so no longer, unless the server named the time.
   */
  start(now: number, again = false): Effect[] {
    if (!this.#wanted || (again && this.#stopped !== null)) {
      this.#wanted = true;
      this.#stopped = null;
      this.#closing = null;
      this.#failures = 0;
      this.#websocketBarred = false;
      this.#preferred = this.#best();
      this.#try(now);
    } else if (again && this.#line === null && this.#attempt === null && !this.#advised) {
      this.#try(now);
    }
    return this.#take();
  }

  /** Disconnect, and stay so. */
  stop(): Effect[] {
    this.#wanted = false;
    this.#stopped = null;
    this.#closing = null;
    this.#rest();
    return this.#take();
  }

  /** Begin afresh, at once: whoever was connected is somebody else now, or can show a new token. */
  restart(now: number): Effect[] {
    const wanted = this.#wanted;
    return wanted ? [...this.stop(), ...this.start(now)] : [];
  }

  /** A link works: the first message came. */
  opened(link: number, now: number, silenceMs = SILENCE_MS): Effect[] {
    const attempt = this.#attempt;
    if (attempt?.link !== link) return [];
    const { transport, returnAt } = attempt;
    if (this.#line !== null) this.#effects.push({ do: "close", link: this.#line.link });
    this.#attempt = null;
    this.#waitUntil = null;
    this.#line = { link, transport, silenceMs, heardAt: now, settled: false, askedAt: null, returnAt };
    this.#preferred = transport;
    if (transport === "websocket") {
      this.#websocketWorked = true;
      this.#closing = null;
    }
    this.#upgradeAt = transport === this.#best() ? null : now + this.#upgradeMs();
    this.#effects.push({ do: "adopt", link });
    return this.#take();
  }

  /** Something came over a link. */
  heard(link: number, now: number): void {
    if (this.#line?.link !== link) return;
    this.#line.heardAt = now;
    this.#line.askedAt = null;
  }

  /** A link brought what follows `subscribed`: it is a success. */
  settled(link: number): void {
    if (this.#line?.link !== link) return;
    this.#line.settled = true;
    this.#failures = 0;
    if (this.#line.transport === this.#best()) this.#upgrades = 0;
  }

  /** The server announced the end of a link, and when to be back. */
  goingAway(link: number, now: number, retryAfterMs: number): void {
    for (const one of [this.#line, this.#attempt]) {
      if (one?.link === link) one.returnAt = now + retryAfterMs;
    }
  }

  /** A link is gone. */
  closed(link: number, now: number, closing: Closing): Effect[] {
    this.#gone(link, now, closing);
    return this.#take();
  }

  /** Look again, now. */
  nudge(now: number, why: Nudge): Effect[] {
    if (!this.#wanted) return [];
    if (this.#stopped === "gave_up") return this.start(now, true);
    const { line: current, attempt } = { line: this.#line, attempt: this.#attempt };
    if (attempt !== null && why !== "visible" && now - attempt.since >= STALE_ATTEMPT_MS) {
      this.#drop(attempt.link);
      this.#attempt = null;
      if (current === null) this.#try(now);
    }
    if (current !== null) {
      const silentMs = now - current.heardAt;
      if (silentMs >= current.silenceMs) {
        this.#drop(current.link);
        this.#line = null;
        this.#closing = SILENT;
        if (this.#attempt === null) this.#try(now);
        else this.#attempt.purpose = "connect";
      } else if (current.askedAt === null && (why !== "visible" || silentMs >= STALE_ATTEMPT_MS)) {
        current.askedAt = now;
        this.#effects.push({ do: "ping", link: current.link });
      }
    } else if (this.#attempt === null && this.#waitUntil !== null && !this.#advised) {
      this.#try(now);
    }
    return this.#take();
  }

  /** Time has passed. */
  tick(now: number): Effect[] {
    const attempt = this.#attempt;
    if (attempt !== null && now >= attempt.since + TRY_MS) {
      this.#drop(attempt.link);
      this.#gone(attempt.link, now, TIMEOUT);
    }
    const line = this.#line;
    if (line !== null && now >= line.heardAt + line.silenceMs) {
      this.#drop(line.link);
      this.#lost(now, SILENT);
    }
    if (this.#waitUntil !== null && now >= this.#waitUntil && this.#attempt === null) this.#try(now);
    if (this.#line !== null && this.#attempt === null) {
      if (this.#line.askedAt !== null && now >= this.#line.askedAt + RESCUE_AFTER_MS) {
        this.#open(now, this.#line.transport, "rescue");
      } else if (this.#upgradeAt !== null && now >= this.#upgradeAt) {
        this.#open(now, this.#above(this.#line.transport), "upgrade");
      }
    }
    return this.#take();
  }

  // --- what leads to what ---

  #gone(link: number, now: number, closing: Closing): void {
    if (this.#attempt?.link === link) {
      const { purpose, returnAt, transport } = this.#attempt;
      this.#attempt = null;
      if (purpose === "connect") {
        this.#failures += 1;
        this.#failed(now, closing, returnAt, transport);
      } else {
        this.#stayed(now, closing, transport);
      }
    } else if (this.#line?.link === link) {
      this.#lost(now, closing);
    }
  }

  #lost(now: number, closing: Closing): void {
    const line = this.#line;
    if (line === null) return;
    this.#line = null;
    this.#upgradeAt = null;
    if (!line.settled) this.#failures += 1;
    if (this.#attempt !== null) {
      this.#closing = closing;
      this.#attempt.purpose = "connect";
    } else {
      this.#failed(now, closing, line.returnAt, line.transport);
    }
  }

  /** There is neither line nor attempt. */
  #failed(now: number, closing: Closing, returnAt: number | null, transport: Transport): void {
    this.#closing = closing;
    if (closing.final) {
      // The one final answer that names another way.
      if (transport === "websocket" && closing.cause === "rollout_closed" && this.#rules.transports.length > 1) {
        this.#websocketBarred = true;
        this.#preferred = this.#best();
        this.#try(now);
      } else {
        this.#stopped = "final";
        this.#rest();
      }
      return;
    }
    if (this.#failures >= this.#rules.maxAttempts) {
      this.#stopped = "gave_up";
      this.#rest();
      return;
    }
    const advisedUntil = returnAt ?? (closing.retryAfterMs === null ? null : now + closing.retryAfterMs);
    this.#advised = advisedUntil !== null;
    this.#waitUntil = advisedUntil ?? now + delayMs(this.#rules.backoff, this.#failures, this.#random());
  }

  /** An attempt beside the line came to nothing; the line goes on. */
  #stayed(now: number, closing: Closing, transport: Transport): void {
    if (this.#line === null) return;
    this.#line.askedAt = null; // the silence decides
    if (this.#upgradeAt === null) return;
    this.#upgrades += 1;
    if (closing.final && transport === "websocket") this.#websocketBarred = true;
    this.#upgradeAt =
      this.#line.transport === this.#best() ? null : now + (closing.retryAfterMs ?? 0) + this.#upgradeMs();
  }

  #try(now: number): void {
    this.#open(now, this.#choose(), "connect");
  }

  #open(now: number, transport: Transport, purpose: Attempt["purpose"]): void {
    this.#links += 1;
    this.#waitUntil = null;
    this.#advised = false;
    this.#attempt = { link: this.#links, transport, since: now, purpose, returnAt: null };
    this.#effects.push({ do: "open", link: this.#links, transport });
  }

  #rest(): void {
    for (const one of [this.#attempt, this.#line]) if (one !== null) this.#drop(one.link);
    this.#attempt = this.#line = this.#waitUntil = this.#upgradeAt = null;
  }

  #drop(link: number): void {
    this.#effects.push({ do: "close", link });
  }

  #take(): Effect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  // --- which way ---

  #usable(): readonly Transport[] {
    const { transports } = this.#rules;
    return this.#websocketBarred ? transports.filter((one) => one !== "websocket") : transports;
  }

  #best(): Transport {
    return this.#usable()[0] ?? "websocket";
  }

  /** What worked last, for some tries; then each in turn. */
  #choose(): Transport {
    const usable = this.#usable();
    const first = Math.max(0, usable.indexOf(this.#preferred));
    const patience = this.#preferred === "websocket" && this.#websocketWorked ? PATIENCE_ONCE_WORKED : PATIENCE;
    const turn = this.#failures < patience ? 0 : this.#failures - patience + 1;
    return usable[(first + turn) % usable.length] ?? "websocket";
  }

  /** What an upgrade tries: the best, and from the last of three every other time the one between. */
  #above(transport: Transport): Transport {
    const usable = this.#usable();
    const better = usable.slice(0, Math.max(1, usable.indexOf(transport)));
    return better[this.#upgrades % better.length] ?? this.#best();
  }

  #upgradeMs(): number {
    // Half of it at least: with less, what fails at once would be tried again at once.
    return (delayMs(UPGRADE, this.#upgrades, this.#random()) + delayMs(UPGRADE, this.#upgrades, 1)) / 2;
  }

  #state(): MachineView["state"] {
    if (!this.#wanted || this.#stopped !== null) return "disconnected";
    if (this.#line === null) return "connecting";
    return this.#line.transport === "websocket" ? "connected" : "degraded";
  }
}

const SILENT: Closing = {
  cause: "silent",
  message: "nothing was heard from the server any more",
  code: null,
  retryAfterMs: null,
  final: false,
};

const TIMEOUT: Closing = {
  cause: "timeout",
  message: "the server did not answer in time",
  code: null,
  retryAfterMs: null,
  final: false,
};

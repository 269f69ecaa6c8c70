/**
 * One connection for all tabs of a site: the tab that holds a Web Lock has the line, and passes on what comes over a
 * BroadcastChannel; when it goes, the next one that waits for the lock connects and resumes where it was itself.
 *
 * A tab that is seen by somebody asks the leader for a sign of life every second, which also has the leader look at its
 * connection: the timers of a hidden tab are slowed down, but not what it does when it is told something. A leader that
 * does not answer is frozen, and its lock is taken from it.
 */
import { channelOf, isChannelMessage } from "./channels.js";
import { SleepClock } from "./clock.js";
import type { Connection } from "./connection.js";
import type { Environment } from "./environment.js";
import { AurexError } from "./errors.js";
import { DISCONNECTED, type ConnectionInfo, type Feed, type FeedEvents } from "./feed.js";
import type { Ledger } from "./ledger.js";
import type { Nudge } from "./machine.js";
import type { ClientMessage, Position, ServerMessage } from "./protocol.gen.js";

/** What one tab tells the others. */
type Note =
  /** Is anybody there? `again`: somebody asks to try again. */
  | { readonly kind: "hello"; readonly again: boolean }
  /** The leader is, and how its connection is. */
  | { readonly kind: "here"; readonly leader: string; readonly info: ConnectionInfo }
  /** What another tab wants, and where it stands there. */
  | {
      readonly kind: "want";
      readonly tab: string;
      readonly channels: readonly string[];
      readonly positions: Readonly<Record<string, Position>>;
    }
  | { readonly kind: "bye"; readonly tab: string }
  /** Something came, for all or for one; `epoch` null: it is not counted. */
  | {
      readonly kind: "message";
      readonly to: string | null;
      readonly message: ServerMessage;
      readonly epoch: string | null;
    }
  | { readonly kind: "refused"; readonly channel: string; readonly failure: Failure }
  | { readonly kind: "ask"; readonly tab: string; readonly number: number; readonly message: ClientMessage }
  | { readonly kind: "answer"; readonly to: string; readonly number: number; readonly answer: ServerMessage | Failure }
  | { readonly kind: "nudge"; readonly why: Nudge }
  | { readonly kind: "restart" };

interface Failure {
  readonly type: "failure";
  readonly code: string;
  readonly message: string;
  readonly retryAfterMs: number | null;
}

const HELLO_MS = 1000;
/** A leader that says nothing for so long, though asked, is frozen. */
const FROZEN_MS = 3000;

interface Pending {
  readonly resolve: (answer: ServerMessage) => void;
  readonly reject: (error: AurexError) => void;
  readonly timer: unknown;
}

export class SharedFeed implements Feed {
  readonly #environment: Environment;
  readonly #locks: LockManager;
  readonly #name: () => string;
  readonly #ledger: Ledger;
  readonly #connect: (events: FeedEvents) => Connection;
  readonly #events: FeedEvents;
  readonly #requestMs: number;
  readonly #tab = crypto.randomUUID();
  readonly #clock: SleepClock;
  /** The others' channels, while this tab leads. */
  readonly #others = new Map<string, ReadonlySet<string>>();
  readonly #pending = new Map<number, Pending>();
  #numbers = 0;
  #channels: ReadonlySet<string> = new Set();
  #air: BroadcastChannel | null = null;
  #connection: Connection | null = null;
  #release: (() => void) | null = null;
  #leave: (() => void) | null = null;
  #aborts: AbortController | null = null;
  #info: ConnectionInfo = { ...DISCONNECTED, leader: false };
  #leader: string | null = null;
  #heardAt = 0;
  #timer: unknown = null;
  #stopNudges: (() => void) | null = null;

  /** @param connect makes this tab's own connection, should it lead */
  constructor(
    environment: Environment,
    locks: LockManager,
    name: () => string,
    requestMs: number,
    ledger: Ledger,
    connect: (events: FeedEvents) => Connection,
    events: FeedEvents,
  ) {
    this.#environment = environment;
    this.#locks = locks;
    this.#name = name;
    this.#requestMs = requestMs;
    this.#ledger = ledger;
    this.#connect = connect;
    this.#events = events;
    this.#clock = new SleepClock(environment.monotonic(), environment.wall());
  }

  get info(): ConnectionInfo {
    return this.#info;
  }

  start(again: boolean): void {
    if (this.#air !== null) {
      if (this.#connection !== null) this.#connection.start(again);
      else if (again) this.#post({ kind: "hello", again });
      return;
    }
    const { BroadcastChannel } = this.#environment;
    if (BroadcastChannel === undefined) return;
    this.#air = new BroadcastChannel(this.#name());
    this.#air.onmessage = ({ data }): void => {
      this.#hear(data as Note);
    };
    this.#stopNudges = this.#environment.onNudge((why) => {
      this.nudge(why);
    });
    this.#heardAt = this.#now();
    this.#tell({ ...DISCONNECTED, leader: false, state: "connecting" });
    this.#compete(false);
    this.#show();
    this.#post({ kind: "hello", again });
    this.#look();
  }

  stop(): void {
    if (this.#air === null) return;
    this.#post({ kind: "bye", tab: this.#tab });
    this.#air.close();
    this.#air = null;
    this.#environment.clearTimeout(this.#timer);
    this.#stopNudges?.();
    this.#stopNudges = null;
    this.#aborts?.abort();
    this.#aborts = null;
    this.#leave?.();
    this.#leave = null;
    this.#resign();
    this.#abandon();
    this.#leader = null;
    this.#tell({ ...DISCONNECTED, leader: false });
  }

  restart(): void {
    if (this.#connection !== null) this.#connection.restart();
    else this.#post({ kind: "restart" });
  }

  nudge(why: Nudge): void {
    if (this.#connection !== null) return; // it has its own ears
    this.#post({ kind: "nudge", why });
  }

  setChannels(channels: ReadonlySet<string>): void {
    for (const channel of this.#channels) {
      if (!channels.has(channel) && this.#connection === null) this.#ledger.forget(channel);
    }
    this.#channels = new Set(channels);
    this.#want();
  }

  request(message: ClientMessage): Promise<ServerMessage> {
    if (this.#connection !== null) return this.#connection.request(message);
    if (this.#leader === null) {
      const text = `${message.type} was not sent: there is no connection`;
      return Promise.reject(new AurexError("not_connected", text));
    }
    return new Promise((resolve, reject) => {
      const number = ++this.#numbers;
      const timer = this.#environment.setTimeout(() => {
        this.#pending.delete(number);
        reject(new AurexError("timeout", `${message.type} was not answered in time`));
      }, this.#requestMs + HELLO_MS);
      this.#pending.set(number, { resolve, reject, timer });
      this.#post({ kind: "ask", tab: this.#tab, number, message });
    });
  }

  /** Hold a lock of this tab's own while it is there: the leader is given it when it is not any more. */
  #show(): void {
    void this.#locks.request(this.#lockOf(this.#tab), () => {
      if (this.#air === null) return undefined;
      return new Promise<void>((leave) => {
        this.#leave = leave;
        this.#want();
      });
    });
  }

  #lockOf(tab: string): string {
    return `${this.#name()} ${tab}`;
  }

  // --- who leads ---

  #compete(steal: boolean): void {
    this.#aborts?.abort();
    const aborts = (this.#aborts = new AbortController());
    const options: LockOptions = steal ? { steal } : { signal: aborts.signal };
    this.#locks
      .request(this.#name(), options, () => {
        if (aborts.signal.aborted) return undefined;
        this.#lead();
        return new Promise<void>((release) => {
          this.#release = release;
        });
      })
      .catch(() => {
        // Aborted by this tab, or taken by another one while this tab was frozen.
        if (aborts.signal.aborted || this.#air === null) return;
        this.#resign();
        this.#compete(false);
        this.#want();
      });
  }

  #lead(): void {
    this.#leader = this.#tab;
    this.#abandon();
    const connection: Connection = this.#connect({
      message: (message) => {
        this.#pass(connection, message);
      },
      changed: (info) => {
        if (this.#connection !== connection) return;
        this.#tell(info);
        this.#post({ kind: "here", leader: this.#tab, info });
      },
      gap: (channel, missed) => {
        if (this.#channels.has(channel)) this.#events.gap(channel, missed);
      },
      refused: (channel, error) => {
        if (this.#channels.has(channel)) this.#events.refused(channel, error);
        this.#post({ kind: "refused", channel, failure: asFailure(error) });
      },
    });
    this.#connection = connection;
    this.#want();
    connection.start(false);
    // The others answer with what they want, long before there is a connection.
    this.#post({ kind: "here", leader: this.#tab, info: connection.info });
  }

  /** Lead no more. */
  #resign(): void {
    const connection = this.#connection;
    this.#connection = null; // what it says from here on is nobody's
    connection?.stop();
    this.#others.clear();
    this.#release?.();
    this.#release = null;
  }

  /** Nobody will answer what another leader was asked. */
  #abandon(): void {
    for (const { reject, timer } of this.#pending.values()) {
      this.#environment.clearTimeout(timer);
      reject(new AurexError("connection_lost", "the tab that had the connection is gone"));
    }
    this.#pending.clear();
  }

  // --- what is said among tabs ---

  #hear(note: Note): void {
    if (this.#connection !== null) this.#serve(this.#connection, note);
    else this.#follow(note);
  }

  /** As the leader. */
  #serve(connection: Connection, note: Note): void {
    switch (note.kind) {
      case "hello":
        connection.look();
        if (note.again) connection.start(true);
        this.#post({ kind: "here", leader: this.#tab, info: connection.info });
        break;
      case "want":
        this.#welcome(connection, note.tab, note.channels, note.positions);
        break;
      case "bye":
        this.#others.delete(note.tab);
        this.#want();
        break;
      case "ask":
        connection.request(note.message).then(
          (answer) => {
            this.#post({ kind: "answer", to: note.tab, number: note.number, answer });
          },
          (error: unknown) => {
            this.#post({ kind: "answer", to: note.tab, number: note.number, answer: asFailure(error as AurexError) });
          },
        );
        break;
      case "nudge":
        connection.look();
        connection.nudge(note.why);
        break;
      case "restart":
        connection.restart();
        break;
      case "here":
      case "message":
      case "refused":
      case "answer":
        // Another one leads as well, or thinks so: whoever has lost the lock will be told in a moment.
        break;
    }
  }

  /** As one of the others. */
  #follow(note: Note): void {
    switch (note.kind) {
      case "here":
        this.#heardAt = this.#now();
        if (note.leader !== this.#leader) {
          this.#leader = note.leader;
          this.#abandon();
          this.#want();
        }
        this.#tell({ ...note.info, leader: false });
        break;
      case "message":
        this.#heardAt = this.#now();
        if (note.to === null || note.to === this.#tab) this.#receive(note.message, note.epoch);
        break;
      case "refused":
        this.#ledger.forget(note.channel);
        if (this.#channels.has(note.channel)) this.#events.refused(note.channel, asError(note.failure));
        break;
      case "answer": {
        const pending = note.to === this.#tab ? this.#pending.get(note.number) : undefined;
        if (pending === undefined) break;
        this.#pending.delete(note.number);
        this.#environment.clearTimeout(pending.timer);
        if (note.answer.type === "failure") pending.reject(asError(note.answer));
        else pending.resolve(note.answer);
        break;
      }
      case "hello":
      case "want":
      case "bye":
      case "ask":
      case "nudge":
      case "restart":
        break; // the leader's
    }
  }

  /** Another tab says what it wants: for the first time, or something else. */
  #welcome(
    connection: Connection,
    tab: string,
    channels: readonly string[],
    positions: Readonly<Record<string, Position>>,
  ): void {
    const before = this.#others.get(tab);
    if (before === undefined) {
      // Granted when that tab is gone, however it went.
      void this.#locks.request(this.#lockOf(tab), () => {
        this.#others.delete(tab);
        this.#want();
      });
    }
    this.#ledger.positions.adopt(positions);
    this.#others.set(tab, new Set(channels));
    this.#want();
    for (const channel of channels) {
      const latest = channel === "alert" || before?.has(channel) === true ? undefined : this.#ledger.latest(channel);
      if (latest === undefined) continue;
      this.#post({ kind: "message", to: tab, message: latest, epoch: connection.epoch });
    }
  }

  /** What came over this tab's own line, to whom it concerns. */
  #pass(connection: Connection, message: ServerMessage): void {
    if (this.#connection !== connection) return;
    this.#post({ kind: "message", to: null, message, epoch: connection.epoch });
    const channel = channelOf(message);
    if (channel === null || this.#channels.has(channel)) this.#events.message(message);
  }

  /** What came from the leader. */
  #receive(message: ServerMessage, epoch: string | null): void {
    if (!isChannelMessage(message)) {
      this.#events.message(message);
      return;
    }
    const channel = channelOf(message) ?? "";
    if (!this.#channels.has(channel)) return;
    const { deliver, missed } = this.#ledger.judge(channel, message, epoch);
    if (missed !== 0) this.#events.gap(channel, missed);
    if (deliver !== null) this.#events.message(deliver);
  }

  /** Have the leader know what this tab wants; as the leader, have what all want. */
  #want(): void {
    if (this.#connection !== null) {
      const all = new Set(this.#channels);
      for (const channels of this.#others.values()) for (const channel of channels) all.add(channel);
      this.#connection.setChannels(all);
      return;
    }
    if (this.#leave === null) return; // the leader would take this tab for one that is gone
    const channels = [...this.#channels];
    this.#post({ kind: "want", tab: this.#tab, channels, positions: this.#ledger.positions.resume(channels) });
  }

  #post(note: Note): void {
    this.#air?.postMessage(note);
  }

  #tell(info: ConnectionInfo): void {
    this.#info = info;
    this.#events.changed(info);
  }

  // --- whether the leader is alive ---

  #look(): void {
    this.#timer = this.#environment.setTimeout(() => {
      this.#look();
    }, HELLO_MS);
    const { now, jumpMs } = this.#clock.read(this.#environment.monotonic(), this.#environment.wall());
    if (this.#connection !== null || this.#environment.hidden()) {
      this.#heardAt = now;
      return;
    }
    if (jumpMs > 0) {
      this.#heardAt = now; // it slept as well
      this.nudge("wake");
    }
    if (now - this.#heardAt >= FROZEN_MS) {
      this.#heardAt = now;
      this.#compete(true);
    } else {
      this.#post({ kind: "hello", again: false });
    }
  }

  #now(): number {
    return this.#clock.read(this.#environment.monotonic(), this.#environment.wall()).now;
  }
}

function asFailure({ code, message, retryAfterMs }: AurexError): Failure {
  return { type: "failure", code, message, retryAfterMs };
}

function asError({ code, message, retryAfterMs }: Failure): AurexError {
  return new AurexError(code, message, retryAfterMs);
}

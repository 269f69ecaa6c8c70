/** The user's alert rules and what has fired: changes are shown at once, and put right by the server's answer. */
import type { AurexError } from "./errors.js";
import type {
  AlertCreateData,
  AlertData,
  AlertRule,
  AlertUpdateData,
  ClientMessage,
  ServerMessage,
} from "./protocol.gen.js";
import { RuleBook, type RuleView } from "./rules.js";
import { Listeners, Store, type ReadableStore, type Unsubscribe } from "./store.js";

/** What there is now; another object whenever something in it has changed. */
export interface AlertsView {
  /** Oldest first. */
  readonly rules: readonly RuleView[];
  /** What fired since this client is here, and what waited for it; the newest first, at most 200. */
  readonly fired: readonly AlertData[];
  /** The rules are not known yet. */
  readonly loading: boolean;
  /** Why there are none: `forbidden`, `not_available` … */
  readonly error: AurexError | null;
}

export const NO_ALERTS: AlertsView = { rules: [], fired: [], loading: true, error: null };

const MAX_FIRED = 200;
/** Ids that are remembered so that an alert that is sent again is not shown again. */
const MAX_SEEN = 2000;
/** The server takes so many in one message. */
const MAX_ACKNOWLEDGED = 100;
/** What fires together is acknowledged together. */
const GATHER_MS = 100;

export interface AlertsContext {
  request(message: ClientMessage): Promise<ServerMessage>;
  /** Begin the channel `alert`. */
  watch(): Unsubscribe;
  setTimeout(callback: () => void, ms: number): unknown;
  /** The server's time. */
  now(): Date;
  /** Whether this tab is to acknowledge what has arrived. */
  acknowledges(): boolean;
}

export class Alerts {
  readonly #context: AlertsContext;
  readonly #book = new RuleBook();
  readonly #store = new Store(NO_ALERTS);
  readonly #handlers = new Listeners<[AlertData]>();
  readonly #seen = new Set<string>();
  #arrived: string[] = [];
  #gathering = false;
  #refreshing = false;
  #watchers = 0;
  #stop: Unsubscribe | null = null;

  constructor(context: AlertsContext) {
    this.#context = context;
  }

  get view(): ReadableStore<AlertsView> {
    return this.#store;
  }

  /** Begin: have the rules, and what fires, until the returned function is called. */
  open(): Unsubscribe {
    this.#watchers += 1;
    if (this.#watchers === 1) {
      this.#stop = this.#context.watch();
      void this.refresh();
    }
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      this.#watchers -= 1;
      if (this.#watchers > 0) return;
      this.#stop?.();
      this.#stop = null;
    };
  }

  /** Be told of each alert once, however often it is sent. */
  onAlert(handler: (alert: AlertData) => void): Unsubscribe {
    const close = this.open();
    const stop = this.#handlers.add(handler);
    return () => {
      stop();
      close();
    };
  }

  /** Make a rule. It is shown at once, with `pending`, and taken back where the server refuses. @throws AurexError */
  async create(data: AlertCreateData): Promise<AlertRule> {
    const key = this.#book.create(data, this.#context.now().toISOString());
    const answer = await this.#change(key, { type: "alert.create", data });
    if (answer.type !== "alert.created") throw new TypeError(answer.type);
    return answer.data.rule;
  }

  /** Change a rule; what is not named stays as it is. @throws AurexError */
  async update(data: AlertUpdateData): Promise<AlertRule> {
    const answer = await this.#change(this.#book.update(data), { type: "alert.update", data });
    if (answer.type !== "alert.updated") throw new TypeError(answer.type);
    return answer.data.rule;
  }

  /** Have a rule keep quiet until then; null: wake it. @throws AurexError */
  snooze(ruleId: string, until: Date | null): Promise<AlertRule> {
    return this.update({ rule_id: ruleId, snoozed_until: until?.toISOString() ?? null });
  }

  /** @throws AurexError */
  async delete(ruleId: string): Promise<void> {
    await this.#change(this.#book.delete(ruleId), { type: "alert.delete", data: { rule_id: ruleId } });
  }

  /** Say that alerts have arrived, so that they are not sent again. @throws AurexError */
  async acknowledge(alertIds: readonly string[]): Promise<void> {
    for (let at = 0; at < alertIds.length; at += MAX_ACKNOWLEDGED) {
      const some = alertIds.slice(at, at + MAX_ACKNOWLEDGED);
      await this.#context.request({ type: "alert.ack", data: { alert_ids: some } });
    }
  }

  /** Ask for the rules anew. */
  async refresh(): Promise<void> {
    try {
      await this.#context.request({ type: "alert.list", data: {} });
    } catch (error) {
      const failure = error as AurexError;
      if (!PASSING.includes(failure.code)) this.#show({ error: failure, loading: false });
    }
  }

  /** There is a connection (again): what was asked before may or may not have been done. */
  connected(): void {
    if (this.#watchers > 0) void this.refresh();
  }

  /** A message about alerts came, be it the answer to what another tab asked. */
  take(message: ServerMessage): void {
    switch (message.type) {
      case "alert":
        this.#fire(message.data);
        return;
      case "alert.listed":
        this.#book.listed(message.data.rules);
        break;
      case "alert.created":
      case "alert.updated":
        this.#book.put(message.data.rule);
        break;
      case "alert.deleted":
        this.#book.remove(message.data.rule_id);
        break;
      default:
        return;
    }
    const loading = message.type === "alert.listed" ? false : this.#store.get().loading;
    this.#show({ rules: this.#book.view, error: null, loading });
  }

  async #change(key: number, message: ClientMessage): Promise<ServerMessage> {
    this.#show({ rules: this.#book.view });
    try {
      const answer = await this.#context.request(message);
      if (answer.type === "alert.created") this.#book.made(key, answer.data.rule);
      this.take(answer); // it comes before the change is taken back, so that nothing flickers
      return answer;
    } catch (error) {
      // Whether it was done is not known then: what the server has is.
      if (["connection_lost", "timeout"].includes((error as AurexError).code)) void this.refresh();
      throw error;
    } finally {
      this.#book.done(key);
      this.#show({ rules: this.#book.view });
    }
  }

  #fire(alert: AlertData): void {
    if (this.#context.acknowledges()) this.#gather(alert.alert_id);
    if (this.#seen.has(alert.alert_id)) return;
    this.#seen.add(alert.alert_id);
    const [oldest] = this.#seen;
    if (this.#seen.size > MAX_SEEN && oldest !== undefined) this.#seen.delete(oldest);
    this.#show({ fired: [alert, ...this.#store.get().fired].slice(0, MAX_FIRED) });
    this.#handlers.call(alert);
    this.#refreshSoon(); // the rule's state may be another now
  }

  #gather(alertId: string): void {
    this.#arrived.push(alertId);
    if (this.#gathering) return;
    this.#gathering = true;
    this.#context.setTimeout(() => {
      this.#gathering = false;
      const arrived = this.#arrived;
      this.#arrived = [];
      this.acknowledge(arrived).catch(() => undefined); // then they are sent again
    }, GATHER_MS);
  }

  #refreshSoon(): void {
    if (this.#refreshing) return;
    this.#refreshing = true;
    this.#context.setTimeout(() => {
      this.#refreshing = false;
      if (this.#watchers > 0) void this.refresh();
    }, GATHER_MS);
  }

  #show(part: Partial<AlertsView>): void {
    this.#store.set({ ...this.#store.get(), ...part });
  }
}

/** Errors that say nothing of whether there are alerts. */
const PASSING: readonly string[] = ["not_connected", "connection_lost", "timeout", "rate_limited"];

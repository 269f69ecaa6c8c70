/** Alert rules as the user sees them: what the server has, with what was asked and is not answered yet. Pure. */
import type { AlertCreateData, AlertRule, AlertUpdateData } from "./protocol.gen.js";

/** When a rule fires. */
export type Condition = AlertRule["condition"];

/** A rule; `pending` while the server has not confirmed what is shown. A new one has an id of this client's until then. */
export interface RuleView extends AlertRule {
  readonly pending: "create" | "update" | null;
  /** Its own for as long as it is shown, also where the server gives it its id meanwhile. */
  readonly key: string;
}

type Change =
  | { readonly kind: "create"; readonly rule: AlertRule }
  | { readonly kind: "update"; readonly data: AlertUpdateData }
  | { readonly kind: "delete"; readonly ruleId: string };

export class RuleBook {
  #known = new Map<string, AlertRule>();
  readonly #changes = new Map<number, Change>();
  /** Rules that were made here, by the server's ids: as what they were shown at first. */
  readonly #made = new Map<string, string>();
  #keys = 0;

  /** All rules, oldest first, as they will be if everything that was asked is granted. */
  get view(): readonly RuleView[] {
    const rules = new Map<string, RuleView>();
    for (const rule of this.#known.values()) {
      rules.set(rule.rule_id, { ...rule, pending: null, key: this.#made.get(rule.rule_id) ?? rule.rule_id });
    }
    for (const change of this.#changes.values()) {
      if (change.kind === "create") {
        rules.set(change.rule.rule_id, { ...change.rule, pending: "create", key: change.rule.rule_id });
      } else if (change.kind === "delete") {
        rules.delete(change.ruleId);
      } else {
        const rule = rules.get(change.data.rule_id);
        if (rule !== undefined) rules.set(rule.rule_id, { ...rule, ...updated(rule, change.data), pending: "update" });
      }
    }
    return [...rules.values()];
  }

  /** A rule is asked for. @returns what `done` takes, once that is answered */
  create(data: AlertCreateData, now: string): number {
    const key = this.#keys + 1;
    const rule: AlertRule = {
      rule_id: `pending-${String(key)}`,
      owner: "",
      state: "armed",
      repeat: "once",
      hysteresis: null,
      cooldown_s: 0,
      expires: null,
      snoozed_until: null,
      note: "",
      created: now,
      fired_count: 0,
      last_fired: null,
      ...data,
    };
    return this.#add({ kind: "create", rule: { ...rule, state: stateOf(rule) } });
  }

  /** A change is asked for. */
  update(data: AlertUpdateData): number {
    return this.#add({ kind: "update", data });
  }

  /** A rule is to go. */
  delete(ruleId: string): number {
    return this.#add({ kind: "delete", ruleId });
  }

  /** What was asked is answered, whatever the answer: from here on only what the server has counts. */
  done(key: number): void {
    this.#changes.delete(key);
  }

  /** The rule that was asked for is there, with an id of the server's. */
  made(key: number, rule: AlertRule): void {
    const change = this.#changes.get(key);
    if (change?.kind === "create") this.#made.set(rule.rule_id, change.rule.rule_id);
  }

  /** The server has these rules and no others. */
  listed(rules: readonly AlertRule[]): void {
    this.#known = new Map(rules.map((rule) => [rule.rule_id, rule]));
  }

  /** The server has this rule now. */
  put(rule: AlertRule): void {
    this.#known.set(rule.rule_id, rule);
  }

  /** The server has it no more. */
  remove(ruleId: string): void {
    this.#known.delete(ruleId);
    this.#made.delete(ruleId);
  }

  #add(change: Change): number {
    this.#keys += 1;
    this.#changes.set(this.#keys, change);
    return this.#keys;
  }
}

function updated(rule: AlertRule, { rule_id: _, ...changes }: AlertUpdateData): AlertRule {
  const after: AlertRule = { ...rule, ...changes };
  return "snoozed_until" in changes ? { ...after, state: stateOf(after) } : after;
}

/** What the server will make of it: only it knows whether a time lies in the future. */
function stateOf(rule: AlertRule): AlertRule["state"] {
  return rule.snoozed_until === null ? "armed" : "snoozed";
}

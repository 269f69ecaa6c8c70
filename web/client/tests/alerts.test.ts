import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { AlertRule } from "../src/index.js";
import { RuleBook } from "../src/rules.js";
import { Page, settle } from "./fakes.js";
import { alert, rule } from "./messages.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A page that shows the user's alerts. */
async function showing(rules: AlertRule[], options: ConstructorParameters<typeof Page>[0] = {}): Promise<Page> {
  const page = new Page(options);
  page.client.alerts.open();
  await page.connected();
  await list(page, rules);
  return page;
}

async function list(page: Page, rules: AlertRule[]): Promise<void> {
  const id = page.socket.asked("alert.list")?.id ?? 0;
  await page.socket.say({ type: "alert.listed", id, data: { rules }, timestamp: "" });
}

const shown = (page: Page): unknown[] =>
  page.client.alerts.view.get().rules.map(({ rule_id, note, state, pending }) => [rule_id, note, state, pending]);

const CREATE = { symbol: "TESTGOLD", condition: { kind: "above", level: 2750 }, note: "new" } as const;

test("rules are loading until the server has said which there are", async () => {
  const page = new Page();
  page.client.alerts.open();
  expect(page.client.alerts.view.get()).toMatchObject({ loading: true, rules: [] });
  await page.connected();
  await list(page, [rule()]);
  expect(page.client.alerts.view.get()).toMatchObject({ loading: false, error: null });
  expect(shown(page)).toEqual([["r-1", "", "armed", null]]);
});

test("a new rule is shown at once, and is the server's when it answers", async () => {
  const page = await showing([rule()]);
  const created = page.client.alerts.create(CREATE);
  expect(shown(page)).toEqual([
    ["r-1", "", "armed", null],
    ["pending-1", "new", "armed", "create"],
  ]);
  const id = page.socket.asked("alert.create")?.id ?? 0;
  const made = rule({ rule_id: "r-2", note: "new" });
  await page.socket.say({ type: "alert.created", id, data: { rule: made }, timestamp: "" });
  expect(await created).toEqual(made);
  expect(shown(page)).toEqual([
    ["r-1", "", "armed", null],
    ["r-2", "new", "armed", null],
  ]);
});

test("a new rule keeps its key when the server gives it an id, so that a page keeps what it shows of it", async () => {
  const page = await showing([]);
  const keys = (): string[] => page.client.alerts.view.get().rules.map(({ key }) => key);
  const created = page.client.alerts.create(CREATE);
  const before = keys();
  const id = page.socket.asked("alert.create")?.id ?? 0;
  await page.socket.say({ type: "alert.created", id, data: { rule: rule({ rule_id: "r-2" }) }, timestamp: "" });
  await created;
  expect(keys()).toEqual(before);
});

test("what the server refuses is taken back", async () => {
  const page = await showing([rule({ note: "old" })]);
  const { alerts } = page.client;
  const failures = [
    alerts.create(CREATE),
    alerts.update({ rule_id: "r-1", note: "changed" }),
    alerts.delete("r-1"),
  ].map((one) => one.catch((error: unknown) => error));
  expect(shown(page)).toEqual([["pending-1", "new", "armed", "create"]]);
  for (const type of ["alert.create", "alert.update", "alert.delete"] as const) {
    await page.socket.refuse(type, "unavailable", 500);
  }
  for (const failure of failures) expect(await failure).toMatchObject({ code: "unavailable", retryAfterMs: 500 });
  expect(shown(page)).toEqual([["r-1", "old", "armed", null]]);
});

test("a snoozed rule is shown as snoozed at once", async () => {
  const page = await showing([rule()]);
  void page.client.alerts.snooze("r-1", new Date("2026-01-02T00:00:00Z"));
  expect(page.socket.asked("alert.update")?.data).toEqual({
    rule_id: "r-1",
    snoozed_until: "2026-01-02T00:00:00.000Z",
  });
  expect(shown(page)).toEqual([["r-1", "", "snoozed", "update"]]);
});

test("when the answer is lost, what the server has is asked for again", async () => {
  const page = await showing([]);
  const created = page.client.alerts.create(CREATE).catch((error: unknown) => error);
  await page.socket.end();
  expect(await created).toMatchObject({ code: "connection_lost" });
  expect(shown(page)).toEqual([]);
  await page.pass(1000);
  await page.connected();
  await list(page, [rule({ rule_id: "r-2", note: "new" })]); // it was made after all
  expect(shown(page)).toEqual([["r-2", "new", "armed", null]]);
});

test("what another tab of the same line has changed is seen", async () => {
  const page = await showing([rule()]);
  await page.socket.say({ type: "alert.deleted", id: 999, data: { rule_id: "r-1" }, timestamp: "" });
  expect(shown(page)).toEqual([]);
});

test("why there are no rules is told", async () => {
  const page = new Page();
  page.client.alerts.open();
  await page.connected();
  await page.socket.refuse("alert.list", "forbidden");
  expect(page.client.alerts.view.get()).toMatchObject({ loading: false, error: { code: "forbidden" } });
});

test("an alert that is sent again is told once, and each time acknowledged", async () => {
  const page = await showing([rule()]);
  const told: string[] = [];
  page.client.onAlert(({ alert_id }) => told.push(alert_id));
  await page.socket.say(alert({ update_count: 1 }));
  await page.socket.say(alert({ update_count: 2 }));
  await page.socket.say(alert({ update_count: 1, redelivered: true }));
  expect(told).toEqual(["a-1", "a-2"]);
  expect(page.client.alerts.view.get().fired.map(({ alert_id }) => alert_id)).toEqual(["a-2", "a-1"]);
  await page.pass(100);
  expect(page.socket.asked("alert.ack")?.data).toEqual({ alert_ids: ["a-1", "a-2", "a-1"] });
  expect(page.socket.sent.filter(({ type }) => type === "alert.list")).toHaveLength(2); // the rule may be done now
});

test("who wants to acknowledge does it by hand, as many as there are", async () => {
  const page = await showing([], { acknowledge: "manual" });
  await page.socket.say(alert());
  await page.pass(1000);
  expect(page.socket.asked("alert.ack")).toBeUndefined();
  void page.client.alerts.acknowledge(Array.from({ length: 150 }, (_, n) => `a-${String(n)}`));
  expect(page.socket.asked("alert.ack")?.data.alert_ids).toHaveLength(100);
  const id = page.socket.asked("alert.ack")?.id ?? 0;
  await page.socket.say({ type: "alert.acked", id, data: { alert_ids: [] }, timestamp: "" });
  await settle();
  expect(page.socket.asked("alert.ack")?.data.alert_ids).toHaveLength(50);
});

// --- the book alone ---

const ids = fc.constantFrom("r-1", "r-2", "r-3");
const steps = fc.array(
  fc.record({
    what: fc.constantFrom("create", "update", "delete", "grant", "refuse", "list"),
    id: ids,
    note: fc.string({ maxLength: 3 }),
  }),
  { maxLength: 30 },
);

test("when everything is answered, what is shown is what the server has", () => {
  fc.assert(
    fc.property(steps, (script) => {
      const book = new RuleBook();
      const server = new Map<string, AlertRule>([["r-1", rule()]]);
      book.listed([...server.values()]);
      let asked: { key: number; what: string; id: string; note: string }[] = [];
      let made = 3;
      const answer = (granted: boolean): void => {
        const [first, ...rest] = asked;
        if (first === undefined) return;
        asked = rest;
        if (granted && first.what === "create") {
          made += 1;
          const created = rule({ rule_id: `r-${String(made)}`, note: first.note });
          server.set(created.rule_id, created);
          book.put(created);
        } else if (granted && first.what === "update") {
          const before = server.get(first.id);
          if (before !== undefined) {
            server.set(first.id, { ...before, note: first.note });
            book.put({ ...before, note: first.note });
          }
        } else if (granted) {
          server.delete(first.id);
          book.remove(first.id);
        }
        book.done(first.key);
      };
      for (const { what, id, note } of script) {
        if (what === "create") asked.push({ key: book.create({ ...CREATE, note }, ""), what, id, note });
        else if (what === "update") asked.push({ key: book.update({ rule_id: id, note }), what, id, note });
        else if (what === "delete") asked.push({ key: book.delete(id), what, id, note });
        else if (what === "list") book.listed([...server.values()]);
        else answer(what === "grant");
        expect(book.view.filter(({ pending }) => pending !== null).length).toBeLessThanOrEqual(asked.length);
      }
      while (asked.length > 0) answer(true);
      expect(book.view).toEqual([...server.values()].map((one) => ({ ...one, pending: null, key: one.rule_id })));
    }),
  );
});

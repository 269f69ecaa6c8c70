import fc from "fast-check";
import { beforeEach, expect, test } from "vitest";
import { closing, type Closing } from "../src/codes.js";
import { Machine, TRY_MS, type Effect, type Nudge, type Rules, type Transport } from "../src/machine.js";

const LOST = closing(1006, "");

/** Carries out what the machine says, on a time of its own. */
class Driver {
  now = 0;
  random = 1;
  readonly machine: Machine;
  readonly opened: { link: number; transport: Transport; at: number }[] = [];
  readonly closed: number[] = [];
  readonly pinged: number[] = [];
  adopted = 0;

  constructor(rules: Partial<Rules> = {}) {
    this.machine = new Machine(rules, () => this.random);
  }

  do(effects: Effect[]): this {
    for (const effect of effects) {
      if (effect.do === "open") this.opened.push({ link: effect.link, transport: effect.transport, at: this.now });
      else if (effect.do === "close") this.closed.push(effect.link);
      else if (effect.do === "adopt") this.adopted = effect.link;
      else this.pinged.push(effect.link);
    }
    return this;
  }

  get last(): { link: number; transport: Transport; at: number } {
    const last = this.opened.at(-1);
    if (last === undefined) throw new Error("nothing was opened");
    return last;
  }

  get state(): string {
    return this.machine.view.state;
  }

  start(): this {
    return this.do(this.machine.start(this.now));
  }

  /** The last link brings its first message. */
  up(silenceMs?: number): this {
    return this.do(this.machine.opened(this.last.link, this.now, silenceMs));
  }

  settle(): this {
    this.machine.settled(this.adopted);
    return this;
  }

  down(why: Closing = LOST, link = this.last.link): this {
    return this.do(this.machine.closed(link, this.now, why));
  }

  hear(link = this.adopted): this {
    this.machine.heard(link, this.now);
    return this;
  }

  nudge(why: Nudge): this {
    return this.do(this.machine.nudge(this.now, why));
  }

  /** Time passes, with a look at each deadline. */
  pass(ms: number): this {
    const end = this.now + ms;
    for (;;) {
      const { deadline } = this.machine;
      if (deadline === null || deadline > end) break;
      this.now = Math.max(this.now, deadline);
      this.do(this.machine.tick(this.now));
    }
    this.now = end;
    return this.do(this.machine.tick(end));
  }

  /** Time passes unseen: the computer sleeps. */
  sleep(ms: number): this {
    this.now += ms;
    return this;
  }
}

let driver: Driver;
beforeEach(() => {
  driver = new Driver();
});

test("it goes from disconnected over connecting to connected", () => {
  expect(driver.state).toBe("disconnected");
  expect(driver.start().state).toBe("connecting");
  expect(driver.last.transport).toBe("websocket");
  expect(driver.up().state).toBe("connected");
  expect(driver.adopted).toBe(driver.last.link);
  expect(driver.do(driver.machine.stop()).state).toBe("disconnected");
  expect(driver.closed).toEqual([driver.last.link]);
});

test("starting twice connects once", () => {
  driver.start().start().up().start();
  expect(driver.opened).toHaveLength(1);
});

test("a lost line is tried again within a second, and each failed try doubles the limit", () => {
  driver = new Driver({ transports: ["websocket"] });
  driver.start().up().settle();
  const waits: number[] = [];
  for (let n = 0; n < 8; n += 1) {
    const wait = (driver.down().machine.deadline ?? NaN) - driver.now;
    waits.push(wait);
    driver.pass(wait);
  }
  expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
});

test("a welcome alone is no success: only what follows `subscribed` makes the limit small again", () => {
  driver = new Driver({ transports: ["websocket"] });
  driver.start();
  for (let n = 0; n < 3; n += 1) driver.up().down().pass(16_000);
  expect(driver.machine.view.failures).toBe(3);
  driver.up().settle();
  expect(driver.machine.view.failures).toBe(0);
});

test("it waits exactly as long as it is told, and looking at the page makes that no shorter", () => {
  driver
    .start()
    .up()
    .settle()
    .down(closing(4004, '{"retry_after_ms": 2750}'))
    .pass(2749)
    .nudge("visible")
    .nudge("online");
  expect(driver.opened).toHaveLength(1);
  driver.pass(1);
  expect(driver.opened).toHaveLength(2);
});

test("the slot that going_away names counts from the moment it came", () => {
  driver.start().up().settle();
  driver.machine.goingAway(driver.last.link, driver.now, 3000);
  driver.sleep(1000).hear().down(closing(4000, '{"code": "going_away", "retry_after_ms": 9000}')).pass(1999);
  expect(driver.opened).toHaveLength(1);
  driver.pass(1);
  expect(driver.opened).toHaveLength(2);
});

test("going_away in place of welcome is obeyed as well", () => {
  driver.start();
  driver.machine.goingAway(driver.last.link, driver.now, 5000);
  driver.down(closing(4000, "")).pass(4999);
  expect(driver.opened).toHaveLength(1);
  expect(driver.pass(1).opened).toHaveLength(2);
});

test.each([1002, 1003, 1007, 1009, 4500, 4503, 4504, 4999])("after %d it does not come back by itself", (code) => {
  driver.start().up().settle().down(closing(code, "")).pass(3_600_000).nudge("online").nudge("visible").nudge("wake");
  expect(driver.opened).toHaveLength(1);
  expect(driver.machine.view).toMatchObject({ state: "disconnected", stopped: true, closing: { code } });
  driver.start(); // what a page says that wants something more
  expect(driver.opened).toHaveLength(1);
  driver.do(driver.machine.start(driver.now, true)); // what a person says
  expect(driver.opened).toHaveLength(2);
});

test("when the attempts run out it gives up, until somebody comes back to the page", () => {
  driver = new Driver({ maxAttempts: 3 });
  driver.start();
  for (let n = 0; n < 3; n += 1) driver.down().pass(30_000 - TRY_MS);
  expect(driver.opened).toHaveLength(3);
  expect(driver.machine.view).toMatchObject({ state: "disconnected", stopped: true, failures: 3 });
  expect(driver.nudge("visible").opened).toHaveLength(4);
  expect(driver.state).toBe("connecting");
});

test("a try that leads to nothing within 20 s is given up", () => {
  driver.start().pass(TRY_MS);
  expect(driver.closed).toEqual([1]);
  expect(driver.machine.view).toMatchObject({ failures: 1, closing: { cause: "timeout" } });
});

test("a silent line is dead after three times what the server promised", () => {
  driver.start().up(6000).settle().pass(5000).hear().pass(5999);
  expect(driver.state).toBe("connected");
  driver.pass(1);
  expect(driver.closed).toEqual([1]);
  expect(driver.machine.view).toMatchObject({ state: "connecting", closing: { cause: "silent" } });
});

// --- waking up ---

test("after a long sleep the line is taken for dead, and a new one is tried at once", () => {
  driver.start().up().settle().sleep(3_600_000).nudge("wake");
  expect(driver.closed).toEqual([1]);
  expect(driver.last).toMatchObject({ link: 2, at: driver.now });
});

test("after a short sleep the line is asked, and gets a rival when it does not answer within 300 ms", () => {
  driver.start().up().settle().sleep(5000).nudge("wake");
  expect(driver.pinged).toEqual([1]);
  driver.pass(299);
  expect(driver.opened).toHaveLength(1);
  driver.pass(1);
  expect(driver.opened).toHaveLength(2);
  expect(driver.state).toBe("connected"); // as far as is known
  driver.up();
  expect(driver.closed).toEqual([1]);
  expect(driver.adopted).toBe(2);
});

test("a line that answers keeps its place", () => {
  driver.start().up().settle().sleep(5000).nudge("wake").pass(100).hear().pass(5000);
  expect(driver.opened).toHaveLength(1);
});

test("when the rival fails, the line goes on until it has been silent for too long", () => {
  driver.start().up().settle().sleep(5000).nudge("wake").pass(300).down();
  expect(driver.state).toBe("connected");
  driver.hear().pass(1000);
  expect(driver.closed).toEqual([]);
});

test("when the line breaks while its rival is under way, that one is waited for", () => {
  driver.start().up().settle().sleep(5000).nudge("wake").pass(300).down(LOST, 1);
  expect(driver.state).toBe("connecting");
  expect(driver.opened).toHaveLength(2);
  expect(driver.up().state).toBe("connected");
});

test("coming back to a page asks nothing of a line that was heard of within the second", () => {
  driver.start().up().settle().sleep(500).nudge("visible");
  expect(driver.pinged).toEqual([]);
  driver.sleep(1000).nudge("visible").nudge("visible");
  expect(driver.pinged).toEqual([1]);
});

test.each<Nudge>(["online", "visible", "wake"])("a wait of its own is over at once when %s", (why) => {
  driver.start().up().settle().down();
  expect(driver.opened).toHaveLength(1);
  expect(driver.nudge(why).opened).toHaveLength(2);
});

test("a try from before the sleep is not waited for", () => {
  driver.start().sleep(5000).nudge("wake");
  expect(driver.closed).toEqual([1]);
  expect(driver.opened).toHaveLength(2);
});

// --- other ways ---

test("where the WebSocket never works, the event stream is next, then polling, and then all over again", () => {
  driver.start();
  for (let n = 0; n < 6; n += 1) driver.down().pass(30_000 - 1);
  expect(driver.opened.map(({ transport }) => transport)).toEqual([
    "websocket",
    "websocket",
    "events",
    "polling",
    "websocket",
    "events",
    "polling",
  ]);
});

test("where it has worked before, it is given more tries: the server may just be restarting", () => {
  driver.start().up().settle();
  for (let n = 0; n < 6; n += 1) driver.down().pass(30_000);
  expect(driver.opened.map(({ transport }) => transport).indexOf("events")).toBe(6);
});

/** A client that has fallen back to the event stream. */
function fallenBack(): Driver {
  driver.start();
  for (let n = 0; n < 2; n += 1) driver.down().pass(4000);
  return driver.up().settle();
}

test("on another way it is degraded, and tries again and again to get back up", () => {
  fallenBack();
  expect(driver.state).toBe("degraded");
  expect(driver.last.transport).toBe("events");
  driver.hear().pass(14_000).hear().pass(6000);
  expect(driver.last.transport).toBe("websocket");
  expect(driver.state).toBe("degraded"); // the stream goes on meanwhile
  driver.up();
  expect(driver.state).toBe("connected");
  expect(driver.machine.view.closing).toBeNull();
  expect(driver.closed).toEqual([3]);
});

test("tries to get back up become rare, and leave what works alone", () => {
  fallenBack();
  const at: number[] = [];
  const before = driver.opened.length;
  for (let second = 0; second < 3600; second += 1) {
    driver.hear().pass(1000);
    if (driver.opened.length > before + at.length) {
      at.push(driver.now);
      driver.down(); // the proxy still lets none through
    }
  }
  expect(driver.state).toBe("degraded");
  expect(driver.closed).toEqual([]);
  expect(at.length).toBeLessThan(20);
  expect(at.length).toBeGreaterThan(5);
});

test("a lost event stream is come back to, not to the WebSocket that does not work", () => {
  fallenBack().down().pass(1000);
  expect(driver.last.transport).toBe("events");
});

test("rollout_closed leads to the event stream at once, and to no WebSocket until the page is loaded anew", () => {
  driver.start().down(closing(4505, ""));
  expect(driver.last).toMatchObject({ transport: "events", at: 0 });
  driver.up().settle();
  for (let minute = 0; minute < 120; minute += 1) for (let n = 0; n < 6; n += 1) driver.hear().pass(10_000);
  driver.down();
  for (let n = 0; n < 10; n += 1) driver.pass(30_000).down();
  expect(driver.opened.filter(({ transport }) => transport === "websocket")).toHaveLength(1);
});

test("where only the WebSocket may be used, rollout_closed is the end", () => {
  driver = new Driver({ transports: ["websocket"] });
  expect(driver.start().down(closing(4505, "")).machine.view.stopped).toBe(true);
});

// --- whatever happens ---

interface Event {
  readonly what: "pass" | "sleep" | "up" | "settle" | "hear" | "close" | "start" | "stop" | Nudge;
  readonly ms: number;
  readonly code: number;
}

const events: fc.Arbitrary<Event[]> = fc.array(
  fc.record({
    what: fc.constantFrom(
      "pass",
      "sleep",
      "up",
      "settle",
      "hear",
      "close",
      "start",
      "stop",
      "visible",
      "wake",
      "online",
    ),
    ms: fc.nat(40_000),
    code: fc.constantFrom(1006, 1006, 1006, 4000, 4004, 4006, 4500, 4505),
  }),
  { maxLength: 60 },
);

test("in any order of events there are at most two links, and a client that wants a connection always does something", () => {
  fc.assert(
    fc.property(events, (script) => {
      const run = new Driver();
      const gone = new Set<number>();
      const alive = (): number[] =>
        run.opened.map(({ link }) => link).filter((link) => !run.closed.includes(link) && !gone.has(link));
      run.start();
      for (const event of script) {
        const [link] = alive().slice(-1);
        if (event.what === "pass") run.pass(event.ms);
        else if (event.what === "sleep") run.sleep(event.ms);
        else if (event.what === "start") run.do(run.machine.start(run.now, true));
        else if (event.what === "stop") run.do(run.machine.stop());
        else if (event.what === "visible" || event.what === "wake" || event.what === "online") run.nudge(event.what);
        else if (link !== undefined && event.what === "up") run.do(run.machine.opened(link, run.now));
        else if (event.what === "settle") run.settle();
        else if (link !== undefined && event.what === "hear") run.hear(link);
        else if (link !== undefined && event.what === "close") {
          gone.add(link);
          run.down(closing(event.code, ""), link);
        }
        expect(alive().length).toBeLessThanOrEqual(2);
        expect(new Set(run.closed).size).toBe(run.closed.length);
        const { view, deadline } = run.machine;
        if (view.state === "disconnected") {
          expect(alive()).toEqual([]);
          expect(deadline).toBeNull();
        } else {
          expect(deadline).not.toBeNull();
          expect(deadline).toBeLessThanOrEqual(Math.max(run.now, 0) + 3_600_000);
        }
        if (view.state === "connected" || view.state === "degraded") expect(alive()).toContain(run.adopted);
      }
    }),
    { numRuns: 500 },
  );
});

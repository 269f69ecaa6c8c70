/** The dashboard in a real Chromium, before a real daemon whose providers do what the test wants. */

import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Browser, BrowserContext, Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { openBrowser, World } from "./world";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** Much longer than anything here takes; a shared machine may be slow. */
const SOON = 40_000;

let browser: Browser;
let world: World;
let context: BrowserContext;

beforeAll(async () => {
  [browser, world] = await Promise.all([openBrowser(), World.open()]);
});

afterAll(async () => {
  await browser.close();
  await world.close();
});

afterEach(async ({ task }) => {
  // Of what failed, a machine far away shows this and no more.
  if (task.result?.state === "fail") await report();
  await context.close();
});

async function report(): Promise<void> {
  for (const page of context.pages()) console.log(await page.innerText("body"));
  console.log(world.log.slice(-30).join("\n"));
}

/** A new visitor. What the page's policy forbids, and what breaks, fails the test that saw it. */
async function visit(options: Parameters<Browser["newContext"]>[0] = {}): Promise<Page> {
  context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(SOON);
  page.on("pageerror", (error) => broken.push(String(error)));
  page.on("console", (message) => {
    if (/content security policy/i.test(message.text())) broken.push(message.text());
  });
  await page.goto(world.url);
  return page;
}

const broken: string[] = [];
/** Longer than a line may be silent: three times `silence_s` of the world's. */
const SLEPT_MS = 4000;

afterEach(() => {
  expect(broken.splice(0)).toEqual([]);
});

/** The page has loaded, and nothing in it moves any more because something comes. */
async function settled(page: Page): Promise<void> {
  await until(price(page).first(), "Live");
  await until(page.getByTestId("legend"), /C \d/);
  await page.getByTestId("source-alltick").waitFor();
}

const price = (page: Page) => page.getByTestId("price-XAUUSD");
const strip = (page: Page) => price(page).getByTestId("strip");

async function until(place: Locator, text: string | RegExp): Promise<void> {
  await place.filter({ hasText: text }).waitFor({ timeout: SOON });
}

describe("prices", () => {
  test("the first price stands there with all that it is worth, and moves", async () => {
    await world.do("price", { mid: 4389.38 });
    const page = await visit();
    await until(price(page), "4,389.38");
    await until(price(page), "0.22");
    await until(price(page), "alltick");
    await until(price(page), "Spot");
    await until(price(page), "Live");
    await strip(page).waitFor({ state: "detached" });
    await world.do("price", { mid: 4391.5 });
    await until(price(page), "4,391.50");
    await price(page).locator('.price-figure[data-move="up"]').waitFor();
    await expect.poll(() => page.title()).toContain("4,391.50 XAUUSD");
    await until(page.getByTestId("connection"), /Connected.*ms/);
  });

  test("when a source goes mute the next one takes over, and the page says so", async () => {
    const page = await visit();
    await until(price(page), "alltick");
    await world.do("silence", { source: "alltick" });
    await until(price(page).getByTestId("source"), "backup");
    await until(page.getByTestId("failovers"), "backup carries the price");
    // Whoever comes later sees it as well, and what was before it.
    await page.reload();
    await until(page.getByTestId("failovers"), /backup carries the price.*Alltick carries the price/s);
    await world.do("speak", { source: "alltick" });
  });

  test("a price that nobody confirms any more cannot be taken for a live one", async () => {
    const page = await visit();
    await until(price(page), "Live");
    await world.do("silence", { source: "alltick" });
    await world.do("silence", { source: "backup" });
    await until(strip(page), "Stale");
    await until(strip(page), "no source has a fresh one");
    await expect.poll(() => page.title()).toContain("stale");
    await world.do("speak", { source: "alltick" });
    await world.do("speak", { source: "backup" });
    await strip(page).waitFor({ state: "detached" });
    await until(price(page), "Live");
  });

  test("a price per gram of 22 karat is a fraction of that per ounce", async () => {
    await world.do("price", { mid: 4389.38 });
    const page = await visit();
    await until(price(page), "4,389.38");
    await page.getByLabel("Price per").selectOption("g");
    await page.getByLabel("Purity").selectOption("22");
    await until(price(page), /129\.36/);
    await until(price(page), "USD / g, 22 karat");
  });

  test("candles come with the prices", async () => {
    await world.do("price", { mid: 4389.38 });
    const page = await visit();
    await page.getByRole("button", { name: "1s", exact: true }).click();
    await until(page.getByTestId("legend"), "4,389.38");
    await world.do("price", { mid: 4395.25 });
    await until(page.getByTestId("legend"), "4,395.25");
  });
});

describe("the connection", () => {
  test("a restart of the server is seen, and over by itself", async () => {
    await world.do("price", { mid: 4400 });
    const page = await visit();
    await until(price(page), "4,400.00");
    await world.do("stop");
    await until(page.getByTestId("banner"), "Not connected");
    await until(strip(page), "Not connected");
    await world.do("price", { mid: 4401.25 });
    await world.do("start");
    await until(price(page), "4,401.25");
    await page.getByTestId("banner").waitFor({ state: "detached" });
  });

  test("a network that swallows everything is noticed, and its return too", async () => {
    await world.do("price", { mid: 4410 });
    const page = await visit();
    await until(price(page), "4,410.00");
    await world.do("cut");
    await until(page.getByTestId("banner"), "Not connected");
    await world.do("price", { mid: 4411.5 });
    await world.do("mend");
    await page.evaluate(() => dispatchEvent(new Event("online")));
    await until(price(page), "4,411.50");
  });

  test("a page that slept is current within a second of waking up", async () => {
    await world.do("price", { mid: 4420 });
    const page = await visit();
    await until(price(page), "4,420.00");
    const client = await context.newCDPSession(page);
    await client.send("Page.setWebLifecycleState", { state: "frozen" });
    await world.do("cut");
    await new Promise((resolve) => setTimeout(resolve, SLEPT_MS));
    await world.do("price", { mid: 4421.75 });
    await world.do("mend");
    const woke = performance.now();
    await client.send("Page.setWebLifecycleState", { state: "active" });
    await until(price(page), "4,421.75");
    const wokeMs = performance.now() - woke;
    // A machine that is busy takes its time for everything: it is what loading the page anew takes that it is held against.
    const loaded = performance.now();
    await page.reload();
    await until(price(page), "4,421.75");
    expect(wokeMs).toBeLessThan(1000 + performance.now() - loaded);
  });

  test("who may have no WebSocket reads the event stream, and comes back when it opens", async () => {
    await world.do("price", { mid: 4430 });
    await world.do("rollout", { enabled: false });
    const page = await visit();
    await until(page.getByTestId("connection"), "Event stream");
    await settled(page);
    await until(price(page), "4,430.00");
    await world.do("price", { mid: 4431.5 });
    await until(price(page), "4,431.50");
    // Alerts need no WebSocket either.
    await page.getByRole("button", { name: "New alert", exact: true }).click();
    await page.getByRole("dialog").getByLabel("Level").fill("4500");
    await page.getByRole("button", { name: "Make alert" }).click();
    await until(page.getByTestId("rules"), /crosses 4,500.00 upwards.*Armed/);
    await page.getByRole("button", { name: /^Delete/ }).click();
    await until(page.getByRole("tabpanel"), "No alerts yet");
    await world.do("rollout", { enabled: true });
    await page.reload();
    await until(page.getByTestId("connection"), "Connected");
    await until(price(page), "4,431.50");
  });
});

describe("the layout", () => {
  test("what the user arranged is there after a reload, and can be reset", async () => {
    const page = await visit();
    const order = () => page.locator(".panel").evaluateAll((all) => all.map((one) => one.getAttribute("aria-label")));
    await settled(page);
    await page.getByRole("button", { name: "Remove System" }).click();
    await page.getByRole("button", { name: "Panels" }).click();
    await page.getByRole("button", { name: "Price", exact: true }).click();
    await page.getByRole("button", { name: /^Move or resize Sources/ }).focus();
    const place = () => page.locator('.cell:has([data-kind="sources"])').boundingBox();
    const before = await place();
    await page.keyboard.press("Shift+ArrowRight");
    await expect.poll(async () => (await place())?.width).toBeGreaterThan(before?.width ?? 0);
    await page.getByRole("button", { name: /Colours/ }).click();
    await page.locator('.aurex[data-theme="dark"]').waitFor();
    const arranged = await order();
    expect(arranged).not.toContain("System");
    await page.reload();
    await expect.poll(order).toEqual(arranged);
    await expect.poll(async () => (await place())?.width).toBeGreaterThan(before?.width ?? 0);
    await page.locator('.aurex[data-theme="dark"]').waitFor();
    await settled(page);
    await page.getByRole("button", { name: "Panels" }).click();
    await page.getByRole("button", { name: "Reset" }).click();
    await page.getByRole("region", { name: "System" }).waitFor();
  });

  test("a panel is dragged by its grip", async () => {
    const page = await visit();
    await settled(page);
    const grip = page.getByRole("button", { name: /^Move or resize Price/ });
    await grip.hover();
    await page.mouse.down();
    await page.mouse.move(1200, 120, { steps: 8 });
    await page.mouse.up();
    const left = () => page.locator('.cell:has([data-kind="price"])').boundingBox();
    await expect.poll(async () => (await left())?.x).toBeGreaterThan(400);
  });

  test("on a phone the panels stand one below the other, and nothing sticks out", async () => {
    const page = await visit({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
    await until(price(page), "Live");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
  });
});

/** What axe has against the page as it stands; `AXE` is in it. */
async function complaints(page: Page): Promise<readonly string[]> {
  return await page.evaluate(async () => {
    const { violations } = await (
      window as unknown as {
        axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> };
      }
    ).axe.run();
    return violations.map(
      ({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`,
    );
  });
}

describe("for everybody", () => {
  test.each(["dark", "light"] as const)("axe finds nothing in the %s page, nor in what opens in it", async (theme) => {
    const page = await visit({ colorScheme: theme, bypassCSP: true });
    await settled(page);
    await page.evaluate(AXE);
    const found: Record<string, readonly string[]> = { page: await complaints(page) };
    await page.getByRole("button", { name: "Panels" }).click();
    found["menu"] = await complaints(page);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "New alert", exact: true }).click();
    await page.getByText("More", { exact: true }).click();
    await page.getByLabel("Level").fill("high");
    await page.getByRole("button", { name: "Make alert" }).click();
    await until(page.getByRole("dialog"), "not a number");
    found["form"] = await complaints(page);
    await page.getByLabel("When").selectOption("moves_percent");
    found["another form"] = await complaints(page);
    await page.keyboard.press("Escape");
    await page.getByRole("tab", { name: "History" }).click();
    found["history"] = await complaints(page);
    await world.do("silence", { source: "alltick" });
    await world.do("silence", { source: "backup" });
    await until(strip(page), "Stale");
    found["stale"] = await complaints(page);
    await world.do("speak", { source: "alltick" });
    await world.do("speak", { source: "backup" });
    await world.do("stop");
    await until(page.getByTestId("banner"), "Not connected");
    found["not connected"] = await complaints(page);
    await world.do("start");
    await until(price(page), "Live");
    for (const [where, what] of Object.entries(found)) expect(what, where).toEqual([]);
  });

  test("everything can be reached by the keyboard", async () => {
    const page = await visit();
    await settled(page);
    const wanted = new Set([/^Price per$/, /Panels/, /Colours/, /Move or resize Chart/, /^5m$/, /Remove System/]);
    for (let step = 0; step < 150 && wanted.size > 0; step += 1) {
      await page.keyboard.press("Tab");
      const name = await page.evaluate(
        () => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? "",
      );
      for (const one of wanted) if (one.test(name)) wanted.delete(one);
    }
    expect([...wanted]).toEqual([]);
  });
});

describe("alerts", () => {
  const rules = (page: Page) => page.getByTestId("rules");
  const toasts = (page: Page) => page.getByTestId("toasts");

  async function make(page: Page, level: string): Promise<void> {
    await page.getByRole("button", { name: "New alert", exact: true }).click();
    await page.getByRole("dialog").getByLabel("Level").fill(level);
    await page.getByRole("button", { name: "Make alert" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
  }

  /** The levels of all alerts that have fired and are on the disk. */
  async function stored(): Promise<readonly number[]> {
    const answer = await fetch(new URL("api/v1/alerts/history", world.url));
    const { alerts } = (await answer.json()) as { alerts: { alert: { condition: { level: number } } }[] };
    return alerts.map(({ alert }) => alert.condition.level);
  }

  async function forget(page: Page): Promise<void> {
    await page.getByRole("button", { name: /^Delete/ }).click();
    await until(page.getByRole("tabpanel"), "No alerts yet");
  }

  test("live from the form to the history, with the reason why", async () => {
    await world.do("price", { mid: 4435 });
    const page = await visit();
    await until(price(page), "4,435.00");
    await page.getByRole("button", { name: "New alert", exact: true }).click();
    await page.getByRole("dialog").getByLabel("Level").fill("high");
    await page.getByRole("button", { name: "Make alert" }).click();
    await until(page.getByRole("dialog"), "not a number");
    await page.keyboard.press("Escape");
    await make(page, "4436");
    await until(rules(page), /crosses 4,436.00 upwards.*Armed/);

    await page.getByRole("button", { name: /^Snooze/ }).click();
    await until(rules(page), "Snoozed");
    await page.getByRole("button", { name: /^Wake/ }).click();
    await until(rules(page), "Armed");
    await page.getByRole("button", { name: /^Edit/ }).click();
    await page.getByLabel("Level").fill("4436.50");
    await page.getByLabel("Note").fill("sell half");
    await page.getByRole("button", { name: "Save" }).click();
    await until(rules(page), "crosses 4,436.50 upwards");

    await world.do("price", { mid: 4437 });
    await until(toasts(page), /crosses 4,436.50 upwards.*4,437.00 from alltick.*sell half/);
    await until(rules(page), "Done");
    await page.getByRole("tab", { name: "History" }).click();
    await until(page.getByTestId("fired"), "4,437.00");
    await page.getByRole("button", { name: /^Why/ }).first().click();
    await until(page.getByTestId("fired").getByRole("status").first(), /\w/);
    await page.getByRole("tab", { name: /Rules/ }).click();
    await forget(page);
  });

  test("live from the first to the last by the keyboard alone", async () => {
    await world.do("price", { mid: 4435 });
    const page = await visit();
    await settled(page);
    const focused = () => page.evaluate(() => document.activeElement?.textContent ?? "");
    const tabTo = async (name: RegExp) => {
      for (let step = 0; step < 150 && !name.test(await focused()); step += 1) await page.keyboard.press("Tab");
      expect(await focused()).toMatch(name);
    };
    await tabTo(/^\s*New alert/);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.type("4436"); // the level is marked: what is typed takes its place
    await page.keyboard.press("Enter");
    await until(rules(page), /crosses 4,436.00 upwards.*Armed/);
    await expect.poll(focused).toMatch(/New alert/);
    await tabTo(/^Snooze/);
    await page.keyboard.press("Enter");
    await until(rules(page), "Snoozed");
    expect(await focused()).toMatch(/^Wake/);
    await page.keyboard.press("Enter");
    await until(rules(page), "Armed");
    await tabTo(/^Edit/);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.type("4436.50");
    await page.keyboard.press("Enter");
    await until(rules(page), "crosses 4,436.50 upwards");
    await expect.poll(focused).toMatch(/^Edit/);
    await tabTo(/^Delete/);
    await page.keyboard.press("Enter");
    await until(page.getByRole("tabpanel"), "No alerts yet");
    await expect.poll(focused).toMatch(/New alert/);
  });

  test("are lines in the chart, and are moved by dragging them", async () => {
    await world.do("price", { mid: 4437 });
    const page = await visit();
    await until(price(page), "4,437.00");
    await settled(page);
    const plot = page.locator(".plot-canvas");
    await plot.hover({ position: { x: 300, y: 60 } });
    await page.getByRole("button", { name: /^New alert at/ }).click();
    await page.getByRole("button", { name: "Make alert" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await until(rules(page), "Armed");
    const words = () => rules(page).textContent();
    const before = await words();
    // The scale follows the prices, and the line the scale: it is where the mouse finds it.
    const drag = async () => {
      const box = await plot.boundingBox();
      if (box === null) return before;
      for (let y = 20; y < box.height - 60; y += 3) {
        await page.mouse.move(box.x + 300, box.y + y);
        if ((await plot.getAttribute("data-over")) !== "line") continue;
        await page.mouse.down();
        await page.mouse.move(box.x + 300, box.y + y + 50, { steps: 5 });
        await page.mouse.up();
        break;
      }
      return await words();
    };
    await expect.poll(drag).not.toBe(before);
    await until(rules(page), "Armed");
    await forget(page);
  });

  test("that fire while nobody looks are shown to who comes back", async () => {
    await world.do("price", { mid: 4437 });
    const page = await visit();
    await until(price(page), "4,437.00");
    await make(page, "4438");
    await until(rules(page), "Armed");
    await page.goto("about:blank");
    await world.do("price", { mid: 4439 });
    await expect.poll(stored).toContain(4438);
    await page.goto(world.url);
    await until(toasts(page), /crosses 4,438.00 upwards.*while this page was away/);
    await forget(page);
  });
});

test("another page has the dashboard as an element, and takes it away again", async () => {
  await world.do("price", { mid: 4432 });
  const built = readdirSync(new URL("../../../aurexd/dashboard/page", import.meta.url));
  const [style, script] = [/^mount-.*\.css$/, /^embed-.*\.js$/].map((name) => built.find((file) => name.test(file)));
  const html = `<!doctype html><title>mine</title><link rel="stylesheet" href="/page/${style}">
    <script type="module" src="/page/${script}"></script><aurex-dashboard url="/" keep-as="mine"></aurex-dashboard>`;
  context = await browser.newContext();
  const page = await context.newPage();
  const address = new URL("mine/page.html", world.url).href;
  await page.route(address, (route) => route.fulfill({ contentType: "text/html", body: html }));
  await page.goto(address);
  await until(price(page), "4,432.00");
  expect(await page.title()).toBe("mine");
  await page.locator("aurex-dashboard").evaluate((element) => element.remove());
  await page.locator(".aurex").waitFor({ state: "detached" });
});

// What changes the daemon for good comes last.
describe("the daemon's ways", () => {
  test("a symbol that the operator takes out is shown no more, and is back when it is", async () => {
    const page = await visit();
    const tab = page.getByRole("button", { name: /^PAXGUSD/ });
    await tab.click();
    await until(page.getByTestId("price-PAXGUSD"), "Live");
    await world.do("paxg", { served: false });
    await until(page.locator(".panel").first(), "This server has no PAXGUSD, or no more");
    await page.getByTestId("price-PAXGUSD").waitFor({ state: "detached" });
    await tab.waitFor({ state: "detached" });
    await expect.poll(() => page.title()).toBe("aurexd");
    await world.do("paxg", { served: true });
    await tab.waitFor();
    await until(page.getByTestId("price-PAXGUSD"), "Live");
  });

  test("a market that closes is no failure", async () => {
    // Friday 2026-12-04; it closes at 17:00 in New York, which is 22:00 UTC.
    await world.do("clock", { time: Date.UTC(2026, 11, 4, 21, 50) / 1000 });
    await world.do("calendar", { name: "metals" });
    try {
      await world.do("price", { mid: 4440 });
      const page = await visit();
      await until(price(page), "4,440.00");
      await until(price(page), "Live");
      await world.do("clock", { time: Date.UTC(2026, 11, 4, 22, 0, 1) / 1000 });
      await until(strip(page), "Market closed");
      await until(price(page), "Closed");
      await until(price(page), "4,440.00");
    } finally {
      await world.do("clock", { time: Date.now() / 1000 });
      await world.do("calendar", { name: "always" });
    }
  });

  test("a token is asked for, and asked for again when it has expired", async () => {
    await world.do("ask_for_tokens");
    const page = await visit();
    await until(page.getByTestId("token"), "asks who you are");
    await page.getByLabel(/^Token/).fill("nonsense");
    await page.getByRole("button", { name: "Connect" }).click();
    await until(page.getByTestId("token"), "That is no token");
    await page.getByLabel(/^Token/).fill((await world.do("token", { for_s: 600 })) as string);
    await page.getByRole("button", { name: "Connect" }).click();
    await until(price(page), "Live");
    await page.getByTestId("token").waitFor({ state: "detached" });
    await world.do("clock", { time: Date.now() / 1000 + 1200 });
    await until(page.getByTestId("token"), "expired");
    await page.getByLabel(/^Token/).fill((await world.do("token", { for_s: 600 })) as string);
    await page.getByRole("button", { name: "Connect" }).click();
    await until(price(page), "Live");
    await page.getByTestId("token").waitFor({ state: "detached" });
  });
});

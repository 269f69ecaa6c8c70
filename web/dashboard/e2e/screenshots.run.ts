/** The pictures of docs/images: `npm run screenshots -w dashboard`. Look at each one before it is committed. */

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openBrowser, World } from "./world";

const IMAGES = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const MOST_BYTES = 150_000;
const SETTLED_MS = 5000;

let world: World;
let browser: Browser;

beforeAll(async () => {
  world = await World.open("--hours", "240");
  await world.do("tick", { every_s: 0.1 });
  browser = await openBrowser();
  await makeAlerts();
});

afterAll(async () => {
  await browser.close();
  await world.close();
});

/** Some that wait, and one that has fired. */
async function makeAlerts(): Promise<void> {
  let answer = await fetch(new URL("api/v1/prices/latest", world.url));
  while (answer.status === 503) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    answer = await fetch(new URL("api/v1/prices/latest", world.url));
  }
  const { close } = (await answer.json()) as { close: number };
  const rules = [
    { condition: { kind: "above", level: close - 5 }, note: "it works" },
    {
      condition: { kind: "moves_percent", percent: 0.5, window_s: 3600, direction: "either" },
      repeat: "every_time",
      cooldown_s: 900,
    },
    { condition: { kind: "crosses_down", level: Number((close - 4.2).toFixed(1)) }, note: "buy back" },
    {
      condition: { kind: "crosses_up", level: Number((close + 2.1).toFixed(1)) },
      note: "sell half",
      repeat: "once_per_session",
    },
  ];
  for (const rule of rules) {
    const headers = { "Content-Type": "application/json" };
    await fetch(new URL("api/v1/alerts", world.url), {
      method: "POST",
      headers,
      body: JSON.stringify({ symbol: "XAUUSD", ...rule }),
    });
  }
}

interface View {
  readonly width: number;
  readonly height: number;
  readonly theme: "dark" | "light";
  readonly phone?: boolean;
}

async function look(view: View): Promise<Page> {
  const context = await browser.newContext({
    viewport: { width: view.width, height: view.height },
    colorScheme: view.theme,
    hasTouch: view.phone ?? false,
    isMobile: view.phone ?? false,
    deviceScaleFactor: view.phone ? 2 : 1,
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(error));
  page.on("console", (message) => message.type() === "error" && console.error(message.text()));
  await page.goto(world.url);
  await page.waitForTimeout(SETTLED_MS);
  const close = page.getByRole("button", { name: /^Close: / });
  while ((await close.count()) > 0) await close.first().click();
  await page.mouse.move(0, 0);
  return page;
}

async function keep(page: Page, name: string): Promise<void> {
  mkdirSync(IMAGES, { recursive: true });
  const client = await page.context().newCDPSession(page);
  const { width, height } = page.viewportSize() ?? { width: 0, height: 0 };
  const scale = width < 500 ? 2 : 1;
  const clip = { x: 0, y: 0, width, height, scale };
  const { data } = await client.send("Page.captureScreenshot", { format: "webp", quality: 90, clip });
  writeFileSync(`${IMAGES}${name}.webp`, Buffer.from(data, "base64"));
  expect(statSync(`${IMAGES}${name}.webp`).size).toBeLessThan(MOST_BYTES);
}

test("the desktop, dark and light", async () => {
  for (const theme of ["dark", "light"] as const) {
    const page = await look({ width: 1440, height: 900, theme });
    await keep(page, `dashboard-${theme}`);
    await page.context().close();
  }
});

test("a phone, dark and light", async () => {
  for (const theme of ["dark", "light"] as const) {
    const page = await look({ width: 390, height: 844, theme, phone: true });
    await keep(page, `phone-${theme}`);
    await page.context().close();
  }
});

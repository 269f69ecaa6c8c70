/** The pictures of docs/images: `npm run screenshots -w dashboard`. Look at each one before it is committed. */

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openBrowser, World } from "./world";

const IMAGES = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const MOST_BYTES = 150_000;
const SETTLED_MS = 2500;

let world: World;
let browser: Browser;

beforeAll(async () => {
  world = await World.open("--hours", "240");
  await world.do("tick", { every_s: 0.1 });
  browser = await openBrowser();
});

afterAll(async () => {
  await browser.close();
  await world.close();
});

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
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(error));
  page.on("console", (message) => message.type() === "error" && console.error(message.text()));
  await page.goto(world.url);
  await page.waitForTimeout(SETTLED_MS);
  return page;
}

async function keep(page: Page, name: string, fullPage = false): Promise<void> {
  mkdirSync(IMAGES, { recursive: true });
  const picture = `${IMAGES}${name}.png`;
  await page.screenshot({ path: picture, fullPage });
  const client = await page.context().newCDPSession(page);
  if (!fullPage) {
    // WebP is a third of it.
    const { data } = await client.send("Page.captureScreenshot", { format: "webp", quality: 90 });
    writeFileSync(`${IMAGES}${name}.webp`, Buffer.from(data, "base64"));
    expect(statSync(`${IMAGES}${name}.webp`).size).toBeLessThan(MOST_BYTES);
  }
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
    await keep(page, `phone-${theme}-full`, true);
    await page.context().close();
  }
});

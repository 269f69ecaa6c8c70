/** A third party's page in a real Chromium: the built package as it is, from another origin than the daemon's. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Daemon, SIMULATED } from "./daemon.js";

const ROOT = new URL("..", import.meta.url);
const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const TYPES: Record<string, string> = { html: "text/html", js: "text/javascript", map: "application/json" };

let site: Server;
let daemon: Daemon;
let browser: Browser;
let context: BrowserContext;

beforeAll(async () => {
  if (!existsSync(new URL("dist/index.js", ROOT))) throw new Error("first: npm run build -w client");
  site = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://site");
    readFile(new URL(`.${pathname}`, ROOT)).then(
      (body) => response.setHeader("Content-Type", TYPES[pathname.split(".").at(-1) ?? ""] ?? "text/plain").end(body),
      () => response.writeHead(pathname === "/favicon.ico" ? 204 : 404).end(),
    );
  });
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  daemon = await Daemon.start(SIMULATED, `allowed_origins = ["${origin()}"]`);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
  context = await browser.newContext();
});
afterEach(async () => {
  for (const page of context.pages()) await page.close();
});
afterAll(async () => {
  await browser.close();
  await daemon.remove();
  site.close();
});

const origin = (): string => `http://127.0.0.1:${String((site.address() as AddressInfo).port)}`;

/** A tab with the example, and everything that the browser complains about. */
async function open(): Promise<{ page: Page; complaints: string[] }> {
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (said) => said.type() === "error" && complaints.push(said.text()));
  await page.goto(`${origin()}/examples/price.html?aurexd=${daemon.url}`);
  return { page, complaints };
}

const shown = (page: Page): Promise<string> => page.locator("#price").innerText();

/** The page shows another price than now. */
async function moves(page: Page): Promise<void> {
  const before = await shown(page);
  await expect.poll(() => shown(page)).not.toBe(before);
}

async function connections(): Promise<number> {
  const answer = await fetch(`${daemon.url}/api/v1/ws/stats`);
  return ((await answer.json()) as { active_connections: number }).active_connections;
}

test("a page of some twenty lines shows the live price", async () => {
  const { page, complaints } = await open();
  await moves(page);
  await moves(page);
  expect(await shown(page)).toMatch(/^2\d{3}\.\d{2}$/);
  expect(await page.locator("#about").innerText()).toBe("simulated, from simulated");
  expect(complaints).toEqual([]);
});

test("all tabs have one line, and go on when the tab that has it is closed", async () => {
  const [one, two, three] = [await open(), await open(), await open()];
  for (const { page } of [one, two, three]) await moves(page);
  await expect.poll(connections).toBe(1);
  await one.page.close();
  for (const { page } of [two, three]) await moves(page);
  await expect.poll(connections).toBe(1);
});

test("a page that is left leaves no line", async () => {
  const { page } = await open();
  await moves(page);
  await page.close();
  await expect.poll(connections).toBe(0);
});

test("MessagePack is loaded by those alone who ask for it", async () => {
  const { page } = await open();
  await moves(page);
  const loaded = (): Promise<string[]> =>
    page.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => name));
  const before = (await loaded()).filter((name) => name.includes("/dist/"));
  // As text: vitest would put a loader of its own in place of `import`.
  const close: unknown = await page.evaluate(`import("${origin()}/dist/index.js").then(({ AurexWebSocketClient }) => {
    const client = new AurexWebSocketClient({ url: "${daemon.url}", encoding: "msgpack", share: false });
    return new Promise((resolve) => client.onPriceUpdate(({ close }) => resolve(close), "TESTGOLD"));
  })`);
  expect(close).toBeGreaterThan(2000);
  const after = (await loaded()).filter((name) => name.includes("/dist/"));
  expect(after.length).toBe(before.length + 1);
});

test("a page that is let in may ask over HTTP, too, also what a browser asks leave for", async () => {
  const { page, complaints } = await open();
  const status = await page.evaluate(async (url) => {
    const answer = await fetch(`${url}/api/v1/sources`, { headers: { "If-None-Match": '"something"' } });
    return answer.status;
  }, daemon.url);
  expect(status).toBe(200);
  expect(complaints).toEqual([]);
});

test("when the daemon restarts, the page says so and goes on", async () => {
  const { page } = await open();
  await moves(page);
  await daemon.stop();
  await expect.poll(() => page.locator("#about").innerText()).toMatch(/the server|connection/);
  await daemon.start();
  await moves(page);
});

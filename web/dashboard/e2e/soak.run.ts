/**
 * Ten minutes at twenty updates a second: `npm run soak -w dashboard` (MINUTES and EVERY_S change that). Prints long tasks,
 * the main thread's work and the heap after collection; docs/performance.md has the figures of one run.
 */

import { test } from "vitest";
import { openBrowser, World } from "./world";

const MINUTES = Number(process.env["MINUTES"] ?? 10);
const EVERY_S = Number(process.env["EVERY_S"] ?? 0.05);
const WARM_UP_MS = 20_000;
const MIB = 2 ** 20;

test("the page stays quick and small", { timeout: (MINUTES + 3) * 60_000 }, async () => {
  const [browser, world] = await Promise.all([openBrowser(), World.open("--hours", "24")]);
  await world.do("tick", { every_s: EVERY_S });
  const page = await (await browser.newContext({ viewport: { width: 1440, height: 900 } })).newPage();
  await page.goto(world.url);
  await page.getByTestId("legend").filter({ hasText: "O" }).waitFor();
  await page.waitForTimeout(WARM_UP_MS);
  const client = await page.context().newCDPSession(page);
  await client.send("Performance.enable");
  const metrics = async (): Promise<Record<string, number>> => {
    await client.send("HeapProfiler.collectGarbage");
    const answer = await client.send("Performance.getMetrics");
    return Object.fromEntries(answer.metrics.map(({ name, value }) => [name, value]));
  };
  await page.evaluate(() => {
    const seen = { long: [] as number[], frames: 0, late: 0 };
    Object.assign(window, { seen });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) seen.long.push(entry.duration);
    }).observe({ type: "longtask" });
    let last = performance.now();
    const frame = (now: number): void => {
      seen.frames += 1;
      if (now - last > 50) seen.late += 1;
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  const before = await metrics();
  const begun = performance.now();
  for (let left = MINUTES; left > 0; left -= 1) {
    await page.waitForTimeout(Math.min(left, 1) * 60_000);
    const minute = ((performance.now() - begun) / 60_000).toFixed(1);
    const { JSHeapUsedSize = 0, Nodes = 0, JSEventListeners = 0 } = await metrics();
    console.log(
      `${minute} min: heap ${(JSHeapUsedSize / MIB).toFixed(1)} MiB, ${Nodes} nodes, ${JSEventListeners} listeners`,
    );
  }
  const seconds = (performance.now() - begun) / 1000;
  const after = await metrics();
  const seen = await page.evaluate(
    () => (window as unknown as { seen: { long: number[]; frames: number; late: number } }).seen,
  );
  const spent = (name: string): string =>
    `${((((after[name] ?? 0) - (before[name] ?? 0)) / seconds) * 100).toFixed(1)} %`;
  const stats = (await (await fetch(new URL("api/v1/ws/stats", world.url))).json()) as {
    channels: Record<string, number>;
  };
  console.log(
    [
      `${seconds.toFixed(0)} s, prices of XAUUSD in all: ${stats.channels["price:XAUUSD"] ?? 0}`,
      `main thread: ${spent("TaskDuration")} busy, of it script ${spent("ScriptDuration")}, layout ${spent("LayoutDuration")}, style ${spent("RecalcStyleDuration")}`,
      `long tasks (over 50 ms): ${seen.long.length}, the longest ${Math.max(0, ...seen.long).toFixed(0)} ms`,
      `frames: ${(seen.frames / seconds).toFixed(1)} a second, ${seen.late} later than 50 ms`,
      `heap after collection: ${((before["JSHeapUsedSize"] ?? 0) / MIB).toFixed(1)} MiB, then ${((after["JSHeapUsedSize"] ?? 0) / MIB).toFixed(1)} MiB`,
    ].join("\n"),
  );
  await browser.close();
  await world.close();
});

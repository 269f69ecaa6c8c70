// @vitest-environment happy-dom
import { act, cleanup, render } from "@testing-library/react";
import { Profiler, StrictMode, type ReactNode } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  AurexProvider,
  useAlerts,
  useCandles,
  useConnectionState,
  useRealtimePrice,
  useSources,
  useStatus,
  useSymbols,
} from "../src/react/index.js";
import { Page } from "./fakes.js";
import { candle, price, rule } from "./messages.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

/** A page with a component on it, in StrictMode, connected. */
async function showing(page: Page, node: ReactNode): Promise<ReturnType<typeof render>> {
  const view = render(
    <StrictMode>
      <AurexProvider client={page.client}>
        <Profiler id="all" onRender={() => (renders += 1)}>
          {node}
        </Profiler>
      </AurexProvider>
    </StrictMode>,
  );
  await act(() => page.connected());
  await frame(page);
  return view;
}

/** Until the next frame has been drawn. */
function frame(page: Page): Promise<void> {
  return act(() => page.pass(17));
}

let renders = 0;
beforeEach(() => {
  renders = 0;
});

function Price(): ReactNode {
  const { price: now, connectionState } = useRealtimePrice();
  return `${connectionState} ${String(now?.close ?? "no price")} ${now?.quality ?? ""}`;
}

test("the price is there, with the state of the connection", async () => {
  const page = new Page();
  const view = await showing(page, <Price />);
  expect(view.container.textContent).toBe("connected no price ");
  await act(() => page.socket.say(price(2701)));
  await frame(page);
  expect(view.container.textContent).toBe("connected 2701 simulated");
});

test("StrictMode opens one line, and subscribes once", async () => {
  const page = new Page();
  await showing(page, [<Price key={1} />, <Price key={2} />]);
  expect(page.sockets).toHaveLength(1);
  expect(page.socket.sent.filter(({ type }) => type === "subscribe").map(({ data }) => data)).toEqual([
    { channels: ["price:TESTGOLD", "status:TESTGOLD"] },
  ]);
});

test("however many prices come, a component renders once per frame, with the newest", async () => {
  const page = new Page();
  const view = await showing(page, <Price />);
  const before = renders;
  for (let n = 1; n <= 50; n += 1) await act(() => page.socket.say(price(2700 + n, { update_count: n })));
  expect(renders).toBe(before);
  await frame(page);
  expect(renders - before).toBe(1);
  expect(view.container.textContent).toBe("connected 2750 simulated");
  await act(() => page.pass(5000));
  expect(renders - before).toBe(1);
});

test("what is unmounted leaves nothing behind", async () => {
  const page = new Page();
  const view = await showing(page, <Price />);
  await act(() => page.socket.say(price(2701)));
  view.unmount();
  await page.pass(5000);
  expect(page.client.connectionState).toBe("disconnected");
  expect(page.socket.readyState).toBe(3);
  expect(vi.getTimerCount()).toBe(0);
  expect(page.listeners).toBe(0);
});

test("another symbol is subscribed to in place of the first, on the same line", async () => {
  const page = new Page();
  function One({ symbol }: { readonly symbol: string }): ReactNode {
    return String(useRealtimePrice(symbol).price?.close ?? "");
  }
  const view = await showing(page, <One symbol="XAUUSD" />);
  await act(() => page.socket.say(price(2701, { symbol: "XAUUSD" })));
  view.rerender(
    <StrictMode>
      <AurexProvider client={page.client}>
        <One symbol="PAXGUSD" />
      </AurexProvider>
    </StrictMode>,
  );
  await frame(page);
  expect(view.container.textContent).toBe("");
  expect(page.socket.asked("unsubscribe")?.data.channels).toEqual(["price:XAUUSD", "status:XAUUSD"]);
  await act(() => page.socket.say(price(2650, { symbol: "PAXGUSD" })));
  await frame(page);
  expect(view.container.textContent).toBe("2650");
  expect(page.sockets).toHaveLength(1);
});

test("without a symbol it is the server's first default one", async () => {
  const page = new Page({ symbols: undefined as never });
  page.answer = (): unknown => ({
    sources: [],
    symbols: [
      { symbol: "GC", default: false },
      { symbol: "XAUUSD", default: true },
    ],
  });
  await showing(page, <Price />);
  expect(page.socket.asked("subscribe")?.data.channels).toEqual(["price:XAUUSD", "status:XAUUSD"]);
});

test("a state, candles, alerts, symbols and sources are there in the same way", async () => {
  const page = new Page();
  page.answer = (url): unknown =>
    url.pathname.endsWith("history")
      ? { candles: [candle({ final: true }).data], gaps: [], next: null }
      : { sources: [{ name: "simulated" }], symbols: [{ symbol: "TESTGOLD", default: true }] };
  function All(): ReactNode {
    const { candles } = useCandles("TESTGOLD", "1m");
    const { rules } = useAlerts();
    const { data } = useSources();
    return JSON.stringify({
      connection: useConnectionState(),
      status: useStatus()?.quality,
      candles: candles.length,
      rules: rules.map((one) => one.rule_id),
      symbols: useSymbols()?.length,
      sources: data?.sources.length,
    });
  }
  const view = await showing(page, <All />);
  await act(async () => {
    const id = page.socket.asked("alert.list")?.id ?? 0;
    await page.socket.say({ type: "alert.listed", id, data: { rules: [rule()] }, timestamp: "" });
    const { instrument, quality, source, symbol } = price(1).data;
    const data = { instrument, quality, source, symbol, market: "open", reason: "", since: "" } as const;
    await page.socket.say({ type: "status", data, timestamp: "", update_count: 1 });
  });
  await frame(page);
  expect(JSON.parse(view.container.textContent)).toEqual({
    connection: "connected",
    status: "simulated",
    candles: 1,
    rules: ["r-1"],
    symbols: 1,
    sources: 1,
  });
});

test("a connection state renders again only when it changes", async () => {
  const page = new Page();
  function State(): ReactNode {
    return useConnectionState();
  }
  page.client.connect();
  await showing(page, <State />);
  const before = renders;
  const id = page.socket.asked("ping")?.id ?? 0;
  await act(() => page.socket.say({ type: "pong", id, data: {}, timestamp: "2026-01-01T12:00:00Z" }));
  await frame(page);
  expect(page.client.connection.latencyMs).not.toBeNull();
  expect(renders).toBe(before);
});

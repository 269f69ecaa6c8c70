import type { ConnectionInfo, StatusData } from "@aurexd/client";
import { CLOSE_CODES } from "@aurexd/client";
import { describe, expect, test } from "vitest";
import { connectionLabel, connectionNotice, failureWords, qualityNotice, sentence } from "../src/words";

const NOW = Date.UTC(2026, 7, 18, 12);

const CONNECTED: ConnectionInfo = {
  state: "connected",
  transport: "websocket",
  cause: null,
  reason: null,
  stopped: false,
  attempts: 0,
  retryAt: null,
  latencyMs: 3,
  clockOffsetMs: 0,
  session: "s",
  version: "0.1.0",
  user: null,
  scopes: null,
  leader: true,
};

const STATUS: StatusData = {
  symbol: "XAUUSD",
  quality: "stale",
  source: "alltick",
  instrument: "spot",
  market: "open",
  reason: "alltick: no price for 15 s",
  since: "2026-08-18T11:58:00Z",
};

describe("a price", () => {
  test("that is live needs no words", () => {
    expect(qualityNotice("live", null, NOW)).toBeNull();
  });

  test("that is stale says since when and why", () => {
    const notice = qualityNotice("stale", STATUS, NOW);
    expect(notice?.tone).toBe("bad");
    expect(notice?.title).toMatch(/^Stale since .*\(2 min\)$/);
    expect(notice?.detail).toMatch(/Not a current price.*Alltick: no price for 15 s\.$/);
  });

  test.each([
    ["delayed", /late, by design/],
    ["closed", /session that has ended/],
    ["simulated", /not the market's/],
  ])("that is %s says so", (quality, words) => {
    expect(qualityNotice(quality, { ...STATUS, reason: "" }, NOW)?.detail).toMatch(words);
  });

  test("of a quality that is not known here is not taken for live", () => {
    expect(qualityNotice("doubtful", STATUS, NOW)).toMatchObject({ tone: "warn", title: "doubtful" });
  });
});

describe("the connection", () => {
  test("is quiet while all is well, and while the page connects for the first time", () => {
    expect(connectionNotice(CONNECTED, NOW)).toBeNull();
    expect(connectionNotice({ ...CONNECTED, state: "connecting", transport: null }, NOW)).toBeNull();
  });

  test("says why it is lost, that what is shown is old, and when it is tried again", () => {
    const lost: ConnectionInfo = {
      ...CONNECTED,
      state: "connecting",
      cause: "going_away",
      attempts: 1,
      retryAt: NOW + 3400,
    };
    expect(connectionNotice(lost, NOW)?.detail).toBe(
      "The server restarts. What is shown is not current. Trying again in 4 s.",
    );
    expect(connectionLabel(lost, NOW).text).toBe("Retry in 4 s");
  });

  test("that works otherwise says what that means", () => {
    const events: ConnectionInfo = { ...CONNECTED, state: "degraded", transport: "events", cause: "rollout_closed" };
    expect(connectionNotice(events, NOW)?.detail).toMatch(/WebSockets are not open.*as it should be/);
    expect(connectionLabel(events, NOW).text).toBe("Event stream");
    expect(connectionLabel({ ...events, transport: "polling" }, NOW).text).toBe("Polling");
  });

  test.each(Object.values(CLOSE_CODES))("that ended with %s has words for it", (cause) => {
    const ended: ConnectionInfo = {
      ...CONNECTED,
      state: "disconnected",
      stopped: true,
      cause,
      reason: "what the client says",
    };
    const detail = connectionNotice(ended, NOW)?.detail ?? "";
    expect(detail).toMatch(/^[A-Z].*\. What is shown is not current\.$/);
  });
});

test("what the client throws is said with what to do", () => {
  const thrown = (code: string, message = "x") => Object.assign(new Error(message), { code });
  expect(failureWords(thrown("not_connected"))).toMatch(/Try again when/);
  expect(failureWords(thrown("http_401"))).toMatch(/token/);
  expect(failureWords(thrown("invalid_message", "level: expected a number"))).toBe("Level: expected a number.");
  expect(failureWords(null)).toBe("The server did not answer.");
  expect(sentence("  ")).toBe("");
});

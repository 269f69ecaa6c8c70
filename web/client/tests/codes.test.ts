import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { CLOSE_CODES, closing, milliseconds, shouldReconnect } from "../src/codes.js";

test("the codes, their names and what to do on each are those of docs/protocol.md", () => {
  const document = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf8");
  const table = document.split("<!-- made: closes -->")[1]?.split("<!-- end -->")[0] ?? "";
  const rows = [...table.matchAll(/^\| (\d{4}) \| `(\w+)` \| (yes|no) \|/gm)];
  expect(rows.length).toBeGreaterThan(10);
  expect(CLOSE_CODES).toEqual(Object.fromEntries(rows.map(([, code, name]) => [code, name])));
  for (const [, code, , reconnect] of rows)
    expect([code, shouldReconnect(Number(code))]).toEqual([code, reconnect === "yes"]);
});

test("the ranges hold for codes that are not known here", () => {
  fc.assert(fc.property(fc.integer({ min: 4000, max: 4499 }), (code) => shouldReconnect(code)));
  fc.assert(fc.property(fc.integer({ min: 4500, max: 4999 }), (code) => !shouldReconnect(code)));
  expect(closing(4321, "")).toMatchObject({ cause: "code_4321", final: false });
});

test("the reason's retry_after_ms is taken, and a reason of somebody else's is not taken for one", () => {
  expect(closing(4004, '{"code": "too_many_connections", "retry_after_ms": 2750}')).toEqual({
    cause: "too_many_connections",
    message: "too many connections from this address or of this user",
    code: 4004,
    retryAfterMs: 2750,
    final: false,
  });
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (reason) => {
      const { retryAfterMs } = closing(1006, reason);
      expect(retryAfterMs === null || (retryAfterMs >= 0 && retryAfterMs <= 3_600_000)).toBe(true);
    }),
  );
});

test("a time to wait is a number of milliseconds, and an hour at most", () => {
  expect([0, 5, 1e12].map(milliseconds)).toEqual([0, 5, 3_600_000]);
  expect([-1, NaN, "5", null, undefined].map(milliseconds)).toEqual([null, null, null, null, null]);
});

test("what the server said before it closed says more than the code", () => {
  expect(closing(4503, "", "pages from https://example.org may not connect here").message).toContain("example.org");
});

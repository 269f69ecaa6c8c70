import fc from "fast-check";
import { expect, test } from "vitest";
import { EventStreamParser } from "../src/sse.js";

const STREAM =
  'retry: 2750\n\nid: e-1\ndata: {"type":"welcome"}\n\n: a comment\nid: e-2\r\ndata: one\r\ndata:two\r\n\r\ndata\n\nid: x\n\n';
const EVENTS = [
  { id: "e-1", data: '{"type":"welcome"}' },
  { id: "e-2", data: "one\ntwo" },
  { id: "e-2", data: "" },
];

test("events are read as the standard has it", () => {
  const parser = new EventStreamParser();
  expect(parser.feed(STREAM)).toEqual(EVENTS);
  expect(parser.retryMs).toBe(2750);
});

test("it does not matter where the stream is cut into pieces", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(STREAM.length)), (cuts) => {
      const parser = new EventStreamParser();
      const at = [0, ...cuts.sort((a, b) => a - b), STREAM.length];
      const pieces = at.slice(1).map((end, n) => STREAM.slice(at[n], end));
      expect(pieces.flatMap((piece) => parser.feed(piece))).toEqual(EVENTS);
    }),
  );
});

import fc from "fast-check";
import { expect, test } from "vitest";
import { SleepClock } from "../src/clock.js";

test("it goes with the monotonic clock, and time that only the wall clock has seen is time slept", () => {
  const clock = new SleepClock(1000, 1_700_000_000_000);
  expect(clock.read(1500, 1_700_000_000_500)).toEqual({ now: 1500, jumpMs: 0 });
  expect(clock.read(1600, 1_700_003_600_600)).toEqual({ now: 1600 + 3_600_000, jumpMs: 3_600_000 });
  expect(clock.read(1700, 1_700_003_600_700)).toEqual({ now: 1700 + 3_600_000, jumpMs: 0 });
});

test("a wall clock that is set back is not followed", () => {
  const clock = new SleepClock(0, 1_700_000_000_000);
  expect(clock.read(500, 1_600_000_000_000)).toEqual({ now: 500, jumpMs: 0 });
  expect(clock.read(1000, 1_600_000_000_500)).toEqual({ now: 1000, jumpMs: 0 });
});

test("whatever the wall clock does, the time never goes back and never stands behind the monotonic clock", () => {
  const steps = fc.array(fc.tuple(fc.nat(5000), fc.integer({ min: -1e9, max: 1e9 })));
  fc.assert(
    fc.property(steps, (readings) => {
      const clock = new SleepClock(0, 0);
      let [monotonic, wall, before] = [0, 0, 0];
      for (const [step, wallStep] of readings) {
        monotonic += step;
        wall += wallStep;
        const { now } = clock.read(monotonic, wall);
        expect(now).toBeGreaterThanOrEqual(before);
        expect(now).toBeGreaterThanOrEqual(monotonic);
        before = now;
      }
    }),
  );
});

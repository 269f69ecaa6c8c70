import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["e2e/**/*.test.ts", "e2e/**/*.run.ts"],
    // A machine may be busy with other things: who waits for something is given time, and only what never comes fails.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 40_000, interval: 100 } },
    fileParallelism: false,
  },
});

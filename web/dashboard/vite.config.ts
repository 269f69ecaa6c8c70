import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const client = (path: string) => fileURLToPath(new URL(`../client/src/${path}`, import.meta.url));

/** Where a daemon runs while somebody works on the page: `npm run dev -w dashboard`. */
const DAEMON = process.env["AUREXD"] ?? "http://localhost:8000";

export default defineConfig({
  plugins: [react()],
  // It also has to work under another path, behind a proxy.
  base: "./",
  resolve: {
    alias: [
      // The client as it stands here, not as it was built last.
      { find: /^@aurexd\/client\/react$/, replacement: client("react/index.ts") },
      { find: /^@aurexd\/client$/, replacement: client("index.ts") },
    ],
  },
  build: {
    outDir: "../../aurexd/dashboard",
    emptyOutDir: true,
    assetsDir: "page",
    // The page's policy allows no data: fonts or scripts.
    assetsInlineLimit: 0,
    target: "es2022",
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { index: "index.html", embed: "src/element.ts" },
      preserveEntrySignatures: "exports-only",
    },
  },
  server: { proxy: { "/api": { target: DAEMON, ws: true, headers: { Origin: DAEMON } } } },
  test: { include: ["tests/**/*.test.ts", "tests/**/*.test.tsx"] },
});

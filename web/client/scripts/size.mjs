/** What a page has to load, compressed as servers do it, against the budget. `npm run build` first. */
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));

/** Bytes after gzip: what each line of code loads at once. */
const BUDGETS = {
  'import "./src/index.ts" (the client)': [`export { getWebSocketClient } from "./src/index.ts"`, 15_500],
  'import "./src/react/index.ts" (with the hooks)': [`export * from "./src/react/index.ts"`, 16_500],
};

for (const [name, [contents, budget]] of Object.entries(BUDGETS)) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: "." },
    outdir: "size",
    bundle: true,
    splitting: true,
    write: false,
    minify: true,
    format: "esm",
    target: "es2022",
    external: ["react"],
  });
  const entry = outputFiles.find(({ path }) => path.endsWith("stdin.js"));
  const bytes = gzipSync(entry.contents, { level: 9 }).length;
  console.log(`${name}: ${bytes} bytes of ${budget}`);
  if (bytes > budget) {
    console.error(`${name} is too large`);
    process.exitCode = 1;
  }
}

/** Writes `dist/`: modules that a bundler takes, and that a page without one loads as they are. */
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
rmSync("dist", { recursive: true, force: true });
await build({
  entryPoints: { index: "src/index.ts", react: "src/react/index.ts" },
  outdir: "dist",
  bundle: true,
  splitting: true, // MessagePack is loaded by those alone who ask for it
  chunkNames: "chunk-[hash]",
  format: "esm",
  target: "es2022",
  minify: true,
  sourcemap: true,
  external: ["react"],
});

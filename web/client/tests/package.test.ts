import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const text = (path: string): string => readFileSync(new URL(path, import.meta.url), "utf8");

test("it is installed from whatever registry there is", () => {
  expect(text("../../package-lock.json")).not.toMatch(/"resolved": "https?:/);
});

test("it needs nothing at run time, and React only for the hooks", () => {
  const manifest = JSON.parse(text("../package.json")) as Record<string, unknown>;
  expect(manifest["dependencies"]).toBeUndefined();
  expect(manifest["peerDependenciesMeta"]).toEqual({ react: { optional: true } });
});

test("it has the daemon's version", () => {
  const { version } = JSON.parse(text("../package.json")) as { version: string };
  expect(text("../../../aurexd/__init__.py")).toContain(`"${version}"`);
});

test("every option of the client, and every hook, is in the README", () => {
  const readme = text("../README.md");
  const options = text("../src/client.ts").split("export interface ClientOptions {")[1]?.split("\n}\n")[0] ?? "";
  const names = [...options.matchAll(/readonly (\w+)\?:/g)].map(([, name]) => name);
  const hooks = [...text("../src/react/index.ts").matchAll(/export function (use\w+)/g)].map(([, name]) => name);
  expect(names.length).toBeGreaterThan(10);
  for (const name of [...names, ...hooks]) expect(readme, `\`${String(name)}\``).toContain(`\`${String(name)}`);
});

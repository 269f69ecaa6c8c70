/**
 * Writes `src/protocol.gen.ts` and `src/http.gen.ts` from what the daemon says of itself: `aurexd schema jsonschema` and
 * `aurexd schema openapi`. With `--check` it writes nothing and fails when a file is not what it would write.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";
import { format, resolveConfig } from "prettier";

const ROOT = new URL("../../../", import.meta.url);
const HERE = new URL("../src/", import.meta.url);

/** The daemon's names that mean something else in TypeScript already. */
const PROTOCOL_NAMES = { Error: "ErrorMessage", ErrorData: "ErrorData" };
const HTTP_NAMES = {
  Error: "HttpError",
  ErrorDetail: "HttpErrorDetail",
  History: "PriceHistory",
  Source: "SourceInfo",
  Symbol: "SymbolInfo",
};

/** @param {string} kind of document */
function schema(kind) {
  const installed = fileURLToPath(new URL(".venv/bin/aurexd", ROOT));
  const command = process.env.AUREXD ?? (existsSync(installed) ? installed : "aurexd");
  try {
    return JSON.parse(execFileSync(command, ["schema", kind], { encoding: "utf8", maxBuffer: 1 << 24 }));
  } catch (error) {
    throw new Error(`cannot run ${command}: set AUREXD to the aurexd command, or \`make .venv/.installed\` first`, {
      cause: error,
    });
  }
}

/**
 * Each reference as the name that it leads to: json-schema-to-typescript would write a described one out again.
 * @param {unknown} node @param {(name: string) => string} rename @returns {unknown}
 */
function named(node, rename) {
  if (Array.isArray(node)) return node.map((item) => named(item, rename));
  if (typeof node !== "object" || node === null) return node;
  if ("$ref" in node) {
    const { $ref, ...rest } = node;
    return { ...rest, tsType: rename(String($ref).split("/").at(-1)) };
  }
  return Object.fromEntries(
    Object.entries(node)
      // What TypeScript cannot say stays in the schema.
      .filter(([key]) => !["minItems", "maxItems", "default"].includes(key) || typeof node[key] === "object")
      .map(([key, value]) => [key, named(value, rename)]),
  );
}

/**
 * @param {Record<string, object>} definitions @param {Record<string, string>} names other names for some
 * @param {string} head a comment @param {Set<string>} known what the messages' types have, too: imported where it is used
 */
async function types(definitions, names, head, known = new Set()) {
  const rename = (/** @type {string} */ name) => names[name] ?? name;
  const $defs = {};
  for (const [name, definition] of Object.entries(definitions)) {
    if (!known.has(name)) $defs[rename(name)] = { ...named(definition, rename), title: rename(name) };
  }
  const anyOf = Object.keys($defs).map((name) => ({ $ref: `#/$defs/${name}` }));
  const text = await compile({ title: "Everything", anyOf, $defs }, "Everything", {
    additionalProperties: false,
    bannerComment: "",
    format: false,
  });
  const body = text.replace(/export type Everything = .*\n/, "");
  const code = body.replace(/\/\*[^]*?\*\//g, "");
  const used = [...known].filter((name) => new RegExp(`\\b${name}\\b`).test(code)).sort();
  const imports = used.length > 0 ? `import type { ${used.join(", ")} } from "./protocol.gen.js";\n` : "";
  return `${head}\n${imports}\n${body}`;
}

const protocol = schema("jsonschema").$defs;
const http = schema("openapi").components.schemas;

/** @param {object} node */
const refs = (node) =>
  [...JSON.stringify(node).matchAll(/"#\/(?:components\/schemas|\$defs)\/(\w+)"/g)].map((m) => m[1]);
/** @param {object | undefined} node */
const told = (node) => JSON.stringify(node ?? null).replaceAll("#/components/schemas/", "#/$defs/");

// The same in both, as is all that it is made of.
let shared = Object.keys(http).filter((name) => told(http[name]) === told(protocol[name]));
for (let before = -1; before !== shared.length;) {
  before = shared.length;
  shared = shared.filter((name) => refs(http[name]).every((ref) => shared.includes(ref)));
}
const made = "Made by `npm run generate` from the daemon's own types; a check fails when it is stale.";

const files = {
  "protocol.gen.ts": await types(protocol, PROTOCOL_NAMES, `/** Every message of the WebSocket. ${made} */`),
  "http.gen.ts": await types(http, HTTP_NAMES, `/** What the daemon answers over HTTP. ${made} */`, new Set(shared)),
};

for (const [name, text] of Object.entries(files)) {
  const file = fileURLToPath(new URL(name, HERE));
  const wanted = await format(text, { ...(await resolveConfig(file)), filepath: file });
  if (!process.argv.includes("--check")) {
    writeFileSync(file, wanted);
  } else if (!existsSync(file) || readFileSync(file, "utf8") !== wanted) {
    console.error(`web/client/src/${name} is not what the daemon's types say: npm run generate -w client`);
    process.exitCode = 1;
  }
}

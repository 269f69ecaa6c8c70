// Reads an AsyncAPI document from standard input and prints what the public parser has to say of it, one JSON line each.

import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
for (const { severity, code, path, message } of diagnostics) {
  console.log(JSON.stringify({ severity, code, path: path.join("."), message }));
}
process.exitCode = document === undefined ? 1 : 0;

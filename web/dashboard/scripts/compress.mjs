// Compress what was built, once and as well as it goes: the daemon serves it as it is.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const [, , directory] = process.argv;
const LEAST_BYTES = 512;

for (const name of readdirSync(directory, { recursive: true })) {
  if (!/\.(html|js|css|svg|txt)$/.test(name)) continue;
  const path = join(directory, name);
  const plain = readFileSync(path);
  if (plain.length < LEAST_BYTES) continue;
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length };
  writeFileSync(`${path}.br`, brotliCompressSync(plain, { params }));
  writeFileSync(`${path}.gz`, gzipSync(plain, { level: 9 }));
}

// The load budget: what a browser has to fetch, compressed, before the first price stands there, and in all.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const [, , directory] = process.argv;

/** KiB over the wire, with brotli. docs/dashboard.md states them. */
const FIRST_PRICE_KIB = 130;
const WHOLE_PAGE_KIB = 260;
/** Requests until the page is complete: the daemon answers ten a second to one address, with a hundred at once. */
const REQUESTS = 20;

const size = (path) => statSync(existsSync(`${path}.br`) ? `${path}.br` : path).size;
const index = join(directory, "index.html");
const named = (text) => [...text.matchAll(/page\/([\w.-]+\.(?:js|css|svg))/g)].map(([, name]) => name);
const first = new Set(named(readFileSync(index, "utf8")));
const files = readdirSync(join(directory, "page")).filter((name) => !/\.(br|gz)$/.test(name));
// The element for other pages is not loaded by this one; of the fonts only the one for these letters is.
const loaded = files.filter((name) => !/^embed-/.test(name) && (!/woff2$/.test(name) || /inter-latin-wght/.test(name)));

const kib = (names) => [...names].reduce((sum, name) => sum + size(join(directory, "page", name)), size(index)) / 1024;
const firstPrice = kib(first);
const whole = kib(loaded);
console.log(`first price: ${firstPrice.toFixed(1)} of ${FIRST_PRICE_KIB} KiB, ${first.size + 1} requests`);
console.log(`whole page: ${whole.toFixed(1)} of ${WHOLE_PAGE_KIB} KiB, ${loaded.length + 1} of ${REQUESTS} requests`);
if (firstPrice > FIRST_PRICE_KIB || whole > WHOLE_PAGE_KIB || loaded.length + 1 > REQUESTS) {
  console.error("the load budget is exceeded");
  process.exit(1);
}

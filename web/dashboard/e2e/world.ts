/** The world of `tests/dashboard/world.py`, and a real Chromium to look at it with. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Browser, chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const PYTHON = process.env["AUREXD_PYTHON"] ?? `${ROOT}/.venv/bin/python`;
const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

const QUIET = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

interface Asked {
  answered: (line: string) => void;
  failed: (error: Error) => void;
}

export class World {
  readonly url: string;
  readonly #process: ChildProcess;
  readonly #answers: Asked[];
  readonly log: string[];

  private constructor(process: ChildProcess, url: string, answers: Asked[], log: string[]) {
    this.#process = process;
    this.url = url;
    this.#answers = answers;
    this.log = log;
  }

  static async open(...options: string[]): Promise<World> {
    const child = spawn(PYTHON, ["-m", "tests.dashboard.world", ...options], {
      cwd: ROOT,
      stdio: ["pipe", "pipe", "pipe"],
    });
    const answers: Asked[] = [];
    const log: string[] = [];
    const first = new Promise<string>((answered, failed) => answers.push({ answered, failed }));
    child.on("exit", (code) => {
      const error = new Error(`the world ended (${String(code)}):\n${log.slice(-40).join("\n")}`);
      for (const { failed } of answers.splice(0)) failed(error);
    });
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        // All else is the daemon's log, which is JSON as well once it has read its configuration.
        if (stream === child.stdout && line.startsWith("{")) answers.shift()?.answered(line);
        else log.push(line);
      });
    }
    const { url } = JSON.parse(await first) as { url: string };
    return new World(child, url, answers, log);
  }

  /** One command of the world's; its answer. */
  async do(name: string, given: Record<string, unknown> = {}): Promise<unknown> {
    if (this.#process.exitCode !== null) throw new Error(`the world has ended:\n${this.log.slice(-40).join("\n")}`);
    const answer = new Promise<string>((answered, failed) => this.#answers.push({ answered, failed }));
    this.#process.stdin?.write(`${JSON.stringify({ do: name, ...given })}\n`);
    return (JSON.parse(await answer) as { answer: unknown }).answer;
  }

  async close(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.stdin?.end();
    await ended;
  }
}

export async function openBrowser(): Promise<Browser> {
  if (!existsSync(CHROMIUM))
    throw new Error(`${CHROMIUM} is not there: make servers installs chromium, or set CHROMIUM`);
  // Its sandbox needs what a container and root do not have.
  const args = process.getuid?.() === 0 ? ["--no-sandbox", ...QUIET] : QUIET;
  return await chromium.launch({ executablePath: CHROMIUM, args });
}

/** The daemon as its users run it, a TCP proxy that cuts lines in front of it, and clients that reach it from Node. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { AurexWebSocketClient, type ClientOptions } from "../src/index.js";

const INSTALLED = fileURLToPath(new URL("../../../.venv/bin/aurexd", import.meta.url));
export const AUREXD = process.env["AUREXD"] ?? (existsSync(INSTALLED) ? INSTALLED : "aurexd");

/** A shared machine may be slow; a daemon that is not there by then never will be. */
const START_MS = 60_000;

/** Ticks of a test symbol, a few a second. */
export const SIMULATED = `
[symbols.TESTGOLD]
instrument = "test"
decimals = 2
calendar = "always"
default = true

[[sources]]
name = "simulated"
type = "simulated"
symbols = { TESTGOLD = "TESTGOLD" }
interval_s = 0.05
`;

const LIMITS = "max_connections_per_ip = 0\nmax_attempts_per_second = 1000\nmax_requests_per_second = 1000\n";

/** One daemon; started as often as one likes, on the same port. */
export class Daemon {
  readonly folder = mkdtempSync(join(tmpdir(), "aurexd-client-"));
  port = 0;
  /** What it has written since it was started. */
  log = "";
  #process: ChildProcess | null = null;
  readonly #text: string;
  readonly #limits: string;

  /** @param text the configuration but for `[listen]`, `[limits]`, `[storage]` and `[control]` */
  constructor(text = SIMULATED, limits = "") {
    this.#text = text;
    this.#limits = limits;
  }

  static async start(text?: string, limits?: string): Promise<Daemon> {
    const daemon = new Daemon(text, limits);
    await daemon.start();
    return daemon;
  }

  /** The configuration's `FOLDER` is the daemon's own, for what it is to find there. */
  get #configuration(): string {
    return this.#text.replaceAll("FOLDER", this.folder);
  }

  get url(): string {
    return `http://127.0.0.1:${String(this.port)}`;
  }

  async start(): Promise<void> {
    const config = join(this.folder, "aurexd.toml");
    writeFileSync(
      config,
      `[listen]\naddress = "127.0.0.1"\nport = ${String(this.port)}\n[limits]\n${LIMITS}${this.#limits}\n` +
        `[storage]\nurl = "sqlite:///${this.folder}/aurexd.db"\n[control]\nsocket = ""\n${this.#configuration}`,
    );
    const process = spawn(AUREXD, ["run", "--config", config], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process = process;
    this.log = "";
    process.stderr.setEncoding("utf8").on("data", (piece: string) => {
      this.log += piece;
    });
    const deadline = Date.now() + START_MS;
    for (;;) {
      const started = this.log.split("\n").find((line) => line.includes('"daemon_started"'));
      if (started !== undefined) {
        this.port = (JSON.parse(started) as { port: number }).port;
        return;
      }
      if (process.exitCode !== null || Date.now() > deadline) throw new Error(`the daemon did not start: ${this.log}`);
      await pause(20);
    }
  }

  /** SIGTERM, and wait until it is gone; `SIGKILL`: without its saying good-bye. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const process = this.#process;
    this.#process = null;
    if (process?.exitCode !== null) return;
    const gone = new Promise((resolve) => process.once("exit", resolve));
    process.kill(signal);
    await gone;
  }

  /** SIGHUP, with another configuration in place of a part of it, and without another part. */
  reload(before: string, after: string, without = ""): void {
    const config = join(this.folder, "aurexd.toml");
    const text = readFileSync(config, "utf8");
    for (const part of [before, without]) if (!text.includes(part)) throw new Error(`no ${part} in the configuration`);
    writeFileSync(config, text.replace(before, after).replace(without, ""));
    this.#process?.kill("SIGHUP");
  }

  async remove(): Promise<void> {
    await this.stop("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A TCP proxy in front of a port, which loses lines when it is told to. */
export class Proxy {
  readonly #server: Server;
  readonly #lines = new Set<Socket>();
  #era = 0;
  /** For each line that reaches the server: after so many bytes from the server it is cut; `Infinity`: never. */
  cutAfter: () => number = () => Infinity;
  /** Let nobody through. */
  refuses = false;
  cuts = 0;

  private constructor(target: () => number) {
    this.#server = createServer((client) => {
      client.on("error", () => undefined);
      if (this.refuses) {
        client.destroy();
        return;
      }
      const era = this.#era;
      let left = Infinity;
      let began = false;
      const server = connect(target(), "127.0.0.1");
      server.on("error", () => client.destroy());
      for (const one of [client, server]) this.#lines.add(one);
      client.on("data", (piece) => {
        if (era === this.#era) server.write(piece);
      });
      server.on("data", (piece) => {
        if (era !== this.#era) return;
        if (!began) left = this.cutAfter();
        began = true;
        client.write(piece.subarray(0, left));
        left -= piece.length;
        if (left > 0) return;
        this.cuts += 1;
        server.destroy();
        client.destroySoon(); // what was let through arrives
      });
      client.on("close", () => {
        server.destroy();
        this.#lines.delete(client);
      });
      server.on("close", () => {
        if (left > 0) client.end();
        this.#lines.delete(server);
      });
    });
  }

  static async before(target: () => number): Promise<Proxy> {
    const proxy = new Proxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  /** The lines that there are stand, but nothing goes through any more: a network that is gone, a computer that sleeps. */
  stall(): void {
    this.#era += 1;
  }

  /** Cut every line that there is. */
  cut(): void {
    for (const one of this.#lines) one.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A client in Node, which has no WebSocket of its own before version 22, and that tries again quickly. */
export function clientOf(url: string, options: ClientOptions = {}): AurexWebSocketClient {
  const { environment, ...rest } = options;
  return new AurexWebSocketClient({
    url,
    lingerMs: 0,
    backoff: { baseMs: 20, capMs: 200 },
    environment: { WebSocket: WebSocket as unknown as typeof globalThis.WebSocket, ...environment },
    ...rest,
  });
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Ask until it holds. */
export async function until(condition: () => boolean, what: string, ms = 40_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never: ${what}`);
    await pause(10);
  }
}

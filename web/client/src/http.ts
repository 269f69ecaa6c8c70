/** Requests to the daemon over HTTP. */
import { milliseconds, type Closing } from "./codes.js";
import type { Environment } from "./environment.js";
import { AurexError } from "./errors.js";

const ANSWER_MS = 15_000;

/** An answer that is an error; `status` 0: there was none. */
export class HttpFailure extends AurexError {
  readonly status: number;
  readonly #showedToken: boolean;

  constructor(status: number, message: string, retryAfterMs: number | null = null, showedToken = true) {
    super(status === 0 ? "connection_lost" : `http_${String(status)}`, message, retryAfterMs);
    this.status = status;
    this.#showedToken = showedToken;
  }

  /** Said as the end of a connection. */
  get closing(): Closing {
    const { status, message, retryAfterMs } = this;
    const unknown = this.#showedToken ? "bad_token" : "unauthenticated";
    const cause = status === 0 ? "lost" : status === 401 ? unknown : status === 403 ? "forbidden" : this.code;
    const final = [400, 401, 403, 421].includes(status);
    return { cause, message, code: status || null, retryAfterMs, final };
  }
}

export class Http {
  readonly #environment: Environment;
  readonly #base: () => string;
  readonly #token: () => Promise<string | null>;

  /** @param base where the daemon is: http(s), ends with a slash */
  constructor(environment: Environment, base: () => string, token: () => Promise<string | null>) {
    this.#environment = environment;
    this.#base = base;
    this.#token = token;
  }

  url(path: string, query: Readonly<Record<string, string | number | undefined>> = {}): URL {
    const url = new URL(path, this.#base());
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    return url;
  }

  /** An answer that says that all is well. @throws HttpFailure */
  async open(url: URL, init: RequestInit, token?: string | null): Promise<Response> {
    const { fetch } = this.#environment;
    if (fetch === undefined) throw new HttpFailure(0, "there is no fetch here");
    const shown = token === undefined ? await this.#token() : token;
    const headers = new Headers(init.headers);
    if (shown !== null) headers.set("Authorization", `Bearer ${shown}`);
    let response: Response;
    try {
      response = await fetch(url, { ...init, headers });
    } catch (error) {
      throw new HttpFailure(0, `${url.host} cannot be reached: ${words(error)}`);
    }
    if (response.ok) return response;
    const after = Number(response.headers.get("Retry-After") ?? NaN) * 1000;
    throw new HttpFailure(response.status, await problem(response), milliseconds(after), shown !== null);
  }

  /** The JSON answer of a GET. @throws HttpFailure */
  async get(
    path: string,
    query: Readonly<Record<string, string | number | undefined>> = {},
    signal?: AbortSignal,
  ): Promise<unknown> {
    return await this.ask("GET", this.url(path, query), { signal });
  }

  /** The JSON answer to a request; `body` is sent as JSON. @throws HttpFailure */
  async ask(
    method: string,
    url: URL,
    { body, signal, ms = ANSWER_MS }: { body?: unknown; signal?: AbortSignal | undefined; ms?: number } = {},
  ): Promise<unknown> {
    const aborts = new AbortController();
    const abort = (): void => {
      aborts.abort();
    };
    signal?.addEventListener("abort", abort);
    const timer = this.#environment.setTimeout(abort, ms);
    const headers: Record<string, string> = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    try {
      const response = await this.open(url, {
        method,
        headers,
        signal: aborts.signal,
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      try {
        return await response.json();
      } catch (error) {
        throw new HttpFailure(0, `the answer to ${url.pathname} cannot be read: ${words(error)}`);
      }
    } finally {
      this.#environment.clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }
}

/** What an exception says. */
export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What the daemon says is wrong, or a proxy's status. */
async function problem(response: Response): Promise<string> {
  try {
    const body: unknown = await response.json();
    const { error } = body as { error?: { message?: unknown } };
    if (typeof error?.message === "string") return error.message;
  } catch {
    // A proxy's page.
  }
  return `the server answered ${String(response.status)} ${response.statusText}`.trim();
}

/** What the client takes from where it runs, so that a test can give it something else. */
import type { Nudge } from "./machine.js";
import type { Unsubscribe } from "./store.js";

export interface Environment {
  /** Milliseconds since 1970. */
  wall(): number;
  /** Milliseconds since whenever; never goes back. */
  monotonic(): number;
  /** From 0 to 1. */
  random(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  readonly WebSocket: typeof WebSocket | undefined;
  readonly fetch: typeof fetch | undefined;
  /** Whether nobody can see the page. */
  hidden(): boolean;
  /** Be told when it is worth while to look at the connection. */
  onNudge(listener: (why: Nudge) => void): Unsubscribe;
  /** Where the daemon is, unless the page says otherwise: an http(s) address that ends with a slash. */
  readonly base: string | undefined;
  /** For one connection of all tabs; undefined where the browser cannot. */
  readonly locks: LockManager | undefined;
  readonly BroadcastChannel: typeof BroadcastChannel | undefined;
}

/** A page, or a program in Node or a worker. */
export function ambient(): Environment {
  const page = typeof document === "undefined" ? undefined : document;
  const host = typeof globalThis.addEventListener === "function" ? globalThis : undefined;
  return {
    wall: () => Date.now(),
    monotonic: () => performance.now(),
    random: () => Math.random(),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => {
      clearTimeout(timer as ReturnType<typeof setTimeout>);
    },
    WebSocket: globalThis.WebSocket,
    fetch: (globalThis.fetch as typeof fetch | undefined)?.bind(globalThis),
    hidden: () => page?.visibilityState === "hidden",
    onNudge(listener) {
      const online = (): void => {
        listener("online");
      };
      const visible = (): void => {
        if (page?.visibilityState === "visible") listener("visible");
      };
      // A page that comes back from the back/forward cache, or was frozen, has slept.
      const wake = (): void => {
        listener("wake");
      };
      host?.addEventListener("online", online);
      host?.addEventListener("pageshow", visible);
      page?.addEventListener("visibilitychange", visible);
      page?.addEventListener("resume", wake);
      return () => {
        host?.removeEventListener("online", online);
        host?.removeEventListener("pageshow", visible);
        page?.removeEventListener("visibilitychange", visible);
        page?.removeEventListener("resume", wake);
      };
    },
    base: page === undefined || page.baseURI === "about:blank" ? undefined : new URL(".", page.baseURI).href,
    locks: page === undefined ? undefined : navigator.locks,
    BroadcastChannel: globalThis.BroadcastChannel,
  };
}

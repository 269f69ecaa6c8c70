/** The time for what is shown of it: one timer for the whole page, which rests while nobody looks. */

import { useSyncExternalStore } from "react";

const listeners = new Set<() => void>();
let now = Date.now();
let timer: ReturnType<typeof setInterval> | null = null;

function tick(): void {
  now = Date.now();
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (timer === null) {
    timer = setInterval(tick, 1000);
    document.addEventListener("visibilitychange", tick);
  }
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0 && timer !== null) {
      clearInterval(timer);
      timer = null;
      document.removeEventListener("visibilitychange", tick);
    }
  };
}

function get(): number {
  // Nobody listened for a while, or the page slept.
  if (timer === null) now = Date.now();
  return now;
}

/** Milliseconds since 1970; renders once a second. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, get);
}

/** Stores as React is to see them: they change at most once per frame, and all together. */
import type { ReadableStore, Unsubscribe } from "../store.js";

/** A hidden page has no frames; its title may still show the price. */
const HIDDEN_MS = 1000;

const waiting = new Set<() => void>();
let cancel: (() => void) | null = null;

/** Run once, in the next frame. */
function inNextFrame(publish: () => void): void {
  waiting.add(publish);
  cancel ??= request(() => {
    cancel = null;
    const due = [...waiting];
    waiting.clear();
    for (const one of due) one();
  });
}

/** Call at the next frame; or after a while where there are none, be it that the page is hidden meanwhile. */
function request(callback: () => void): () => void {
  const frame = typeof requestAnimationFrame === "function" ? requestAnimationFrame(run) : null;
  const timer = setTimeout(run, HIDDEN_MS);
  let done = false;
  function run(): void {
    if (done) return;
    done = true;
    stop();
    callback();
  }
  function stop(): void {
    clearTimeout(timer);
    if (frame !== null) cancelAnimationFrame(frame);
  }
  return stop;
}

const framed = new WeakMap<ReadableStore<unknown>, ReadableStore<unknown>>();

/** The store's twin that changes only with the frames; always the same one. */
export function inFrames<T>(store: ReadableStore<T>): ReadableStore<T> {
  let twin = framed.get(store) as ReadableStore<T> | undefined;
  if (twin === undefined) {
    twin = new FramedStore(store);
    framed.set(store, twin);
  }
  return twin;
}

class FramedStore<T> implements ReadableStore<T> {
  readonly #source: ReadableStore<T>;
  readonly #listeners = new Set<() => void>();
  #published: T;
  #stop: Unsubscribe | null = null;

  constructor(source: ReadableStore<T>) {
    this.#source = source;
    this.#published = source.get();
  }

  readonly get = (): T => {
    // Without listeners nobody is told, so everybody gets what is now.
    if (this.#stop === null) this.#published = this.#source.get();
    return this.#published;
  };

  readonly subscribe = (listener: () => void): Unsubscribe => {
    const mine = (): void => {
      listener();
    };
    this.#listeners.add(mine);
    this.#stop ??= this.#source.subscribe(() => {
      inNextFrame(this.#publish);
    });
    return () => {
      this.#listeners.delete(mine);
      if (this.#listeners.size > 0) return;
      this.#stop?.();
      this.#stop = null;
    };
  };

  readonly #publish = (): void => {
    const now = this.#source.get();
    if (Object.is(now, this.#published)) return;
    this.#published = now;
    for (const listener of [...this.#listeners]) listener();
  };
}

/** A value that changes, and those who want to know: what React's `useSyncExternalStore` takes. */

/** Stops whatever it was given for. Calling it twice does nothing. */
export type Unsubscribe = () => void;

/** What can be looked at and listened to; the value is never changed in place. */
export interface ReadableStore<T> {
  readonly get: () => T;
  /** @returns stops the calls */
  readonly subscribe: (listener: () => void) => Unsubscribe;
}

export class Store<T> implements ReadableStore<T> {
  #value: T;
  readonly #listeners = new Listeners<[]>();

  constructor(value: T) {
    this.#value = value;
  }

  readonly get = (): T => this.#value;

  readonly subscribe = (listener: () => void): Unsubscribe => this.#listeners.add(listener);

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    this.#listeners.call();
  }
}

/** Those who want to be called. One that throws does not keep the others from it. */
export class Listeners<A extends readonly unknown[]> {
  readonly #listeners = new Map<object, (...given: A) => void>();

  get size(): number {
    return this.#listeners.size;
  }

  add(listener: (...given: A) => void): Unsubscribe {
    const key = {}; // the same function may be added twice
    this.#listeners.set(key, listener);
    return () => this.#listeners.delete(key);
  }

  call(...given: A): void {
    for (const listener of [...this.#listeners.values()]) {
      try {
        listener(...given);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // where the page's own handlers of errors see it
        });
      }
    }
  }
}

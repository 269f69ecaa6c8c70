/** Short messages that come up and go away; a store, shown by `ToastList`. */

import type { Tone } from "./words";

export interface Toast {
  readonly id: number;
  readonly tone: Tone;
  readonly title: string;
  readonly detail: string;
  readonly time: number;
}

/** How long one stays, in milliseconds; those about alerts stay until they are closed. */
export const TOAST_MS = 8000;
const MOST = 5;

export class Toasts {
  readonly #listeners = new Set<() => void>();
  #toasts: readonly Toast[] = [];
  #last = 0;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly get = (): readonly Toast[] => this.#toasts;

  /** @param lasts milliseconds; Infinity: until it is closed */
  show(toast: Omit<Toast, "id" | "time">, lasts = TOAST_MS): void {
    this.#last += 1;
    const id = this.#last;
    this.#set([...this.#toasts, { ...toast, id, time: Date.now() }].slice(-MOST));
    if (Number.isFinite(lasts)) setTimeout(() => this.close(id), lasts);
  }

  close(id: number): void {
    this.#set(this.#toasts.filter((toast) => toast.id !== id));
  }

  #set(toasts: readonly Toast[]): void {
    this.#toasts = toasts;
    for (const listener of this.#listeners) listener();
  }
}

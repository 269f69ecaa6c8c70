/** Web Locks among clients of one process: exclusive ones, in line, which can be stolen and die with their tab. */

interface Waiting {
  readonly tab: object;
  readonly grant: () => void;
}

interface Held {
  readonly tab: object;
  readonly release: () => void;
  readonly stolen: (why: Error) => void;
}

export class Locks {
  readonly #held = new Map<string, Held>();
  readonly #lines = new Map<string, Waiting[]>();

  /** The locks as one tab sees them. */
  of(tab: object): LockManager {
    return {
      request: (
        name: string,
        given: LockOptions | LockGrantedCallback<unknown>,
        last?: LockGrantedCallback<unknown>,
      ) => {
        const options = typeof given === "function" ? {} : given;
        const callback = typeof given === "function" ? given : last;
        return this.#request(tab, name, options, callback as () => unknown);
      },
    } as unknown as LockManager;
  }

  /** A tab is closed, or crashes. */
  close(tab: object): void {
    for (const [name, line] of this.#lines) {
      this.#lines.set(
        name,
        line.filter((one) => one.tab !== tab),
      );
    }
    for (const held of [...this.#held.values()]) if (held.tab === tab) held.release();
  }

  #request(tab: object, name: string, options: LockOptions, callback: () => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const grant = (): void => {
        const held: Held = {
          tab,
          stolen: reject,
          release: () => {
            if (this.#held.get(name) !== held) return;
            this.#held.delete(name);
            this.#lines.get(name)?.shift()?.grant();
          },
        };
        this.#held.set(name, held);
        void Promise.resolve()
          .then(callback)
          .then((value) => {
            held.release();
            resolve(value);
          });
      };
      if (options.steal === true) {
        const before = this.#held.get(name);
        this.#held.delete(name);
        before?.stolen(new DOMException("stolen", "AbortError"));
        grant();
      } else if (this.#held.has(name)) {
        const waiting = { tab, grant };
        this.#lines.set(name, [...(this.#lines.get(name) ?? []), waiting]);
        options.signal?.addEventListener("abort", () => {
          const line = this.#lines.get(name) ?? [];
          this.#lines.set(
            name,
            line.filter((one) => one !== waiting),
          );
          reject(new DOMException("aborted", "AbortError"));
        });
      } else {
        grant();
      }
    });
  }
}

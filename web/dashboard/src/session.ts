/** With which client the page is connected: another one when the user shows another token. */

import type { AurexWebSocketClient, ClientOptions } from "@aurexd/client";
import { type Daemon, daemonOf, StatusLog } from "./daemon";

export interface Session {
  readonly client: AurexWebSocketClient;
  readonly daemon: Daemon;
  readonly log: StatusLog;
  /** Whether the user can be asked for a token: where the page that embeds this gives none. */
  readonly asks: boolean;
}

type GetToken = () => string | null | Promise<string | null>;

/** A token stays in this page's memory: not in its address, and not in the browser's store. */
export class Sessions {
  readonly #base: string;
  readonly #make: (options: ClientOptions) => AurexWebSocketClient;
  readonly #listeners = new Set<() => void>();
  readonly #asks: boolean;
  #current: Session;

  constructor(base: string, given: GetToken | null, make: (options: ClientOptions) => AurexWebSocketClient) {
    this.#base = base;
    this.#make = make;
    this.#asks = given === null;
    this.#current = this.#begin(given);
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly get = (): Session => this.#current;

  /** The user typed a token. */
  show(token: string): void {
    const before = this.#current;
    this.#current = this.#begin(() => token);
    for (const listener of this.#listeners) listener();
    before.client.disconnect();
  }

  close(): void {
    this.#current.client.disconnect();
  }

  #begin(token: GetToken | null): Session {
    const client = this.#make({ url: this.#base, ...(token && { token }) });
    return { client, daemon: daemonOf(client), log: new StatusLog(), asks: this.#asks };
  }
}

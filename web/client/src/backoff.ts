/** How long to wait before trying again. Pure. */

/** Limits of the wait, in milliseconds. */
export interface Backoff {
  /** At first. */
  readonly baseMs: number;
  /** At most. */
  readonly capMs: number;
}

/** As docs/protocol.md asks of clients. */
export const RECONNECT: Backoff = { baseMs: 1000, capMs: 30_000 };

/** The limit after so many failed tries: it doubles with each. */
export function limitMs({ baseMs, capMs }: Backoff, failures: number): number {
  return Math.min(capMs, baseMs * 2 ** Math.min(failures, 31));
}

/**
 * A random time from 0 to the limit: *full* jitter, so that those who lost the server together do not come together.
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 *
 * @param random from 0 to 1
 */
export function delayMs(backoff: Backoff, failures: number, random: number): number {
  return random * limitMs(backoff, failures);
}

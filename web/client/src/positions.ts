/**
 * Where this client stands in each channel, by the rules of docs/protocol.md ("Positions"): what is new, what was there
 * already, what was missed, and from where to resume. Pure.
 */
import type { Position, SubscribedPosition } from "./protocol.gen.js";

/**
 * What a message is to this client. `new`: the next one. `snapshot`: the current one again, with the quality that the
 * price has now. `repeat`: older than what is known, not to be delivered. `gap`: new, and some before it are missing.
 */
export type Verdict =
  { readonly kind: "new" | "snapshot" | "repeat" } | { readonly kind: "gap"; readonly missed: number | null };

interface Place {
  epoch: string;
  /** `update_count` of the last message that was delivered; null before the first. */
  count: number | null;
  /** Where the server says that the channel stands, as long as its message has not come. */
  announced: number | null;
}

const NEW: Verdict = { kind: "new" };
const SNAPSHOT: Verdict = { kind: "snapshot" };
const REPEAT: Verdict = { kind: "repeat" };

export class Positions {
  readonly #places = new Map<string, Place>();

  /** What `resume` says in `subscribe`: only what was really delivered. */
  resume(channels: Iterable<string>): Record<string, Position> {
    const resume: Record<string, Position> = {};
    for (const channel of channels) {
      const place = this.#places.get(channel);
      if (place?.count != null) resume[channel] = { epoch: place.epoch, count: place.count };
    }
    return resume;
  }

  /** Another tab was there: to be used where this one was not. */
  adopt(positions: Readonly<Record<string, Position>>): void {
    for (const [channel, { epoch, count }] of Object.entries(positions)) {
      if (this.#places.get(channel)?.count == null) this.#places.set(channel, { epoch, count, announced: null });
    }
  }

  forget(channel: string): void {
    this.#places.delete(channel);
  }

  /**
   * The server says where a channel stands. What was delivered stays the place to resume from until the message comes.
   *
   * @returns how many messages were missed for good: the snapshot stands for them; null: it cannot be told how many
   */
  announce(channel: string, { epoch, count, recovered }: SubscribedPosition): number | null {
    const place = this.#places.get(channel);
    if (place === undefined) {
      this.#places.set(channel, { epoch, count: count === 0 ? 0 : null, announced: count });
      return 0;
    }
    if (recovered) return 0; // what was missed follows, one by one
    const { epoch: before, count: delivered } = place;
    place.epoch = epoch;
    place.announced = count;
    if (before === epoch) return delivered === null ? 0 : Math.max(0, count - delivered - 1);
    place.count = count === 0 ? 0 : null;
    return delivered === null ? 0 : null;
  }

  /** A channel's message came; `epoch` is the line's. */
  accept(channel: string, epoch: string, updateCount: number, conflated = 1): Verdict {
    const place = this.#places.get(channel);
    if (place?.epoch !== epoch) {
      const missed = place?.count != null;
      this.#places.set(channel, { epoch, count: updateCount, announced: null });
      return missed ? { kind: "gap", missed: null } : NEW;
    }
    const { count, announced } = place;
    if (announced !== null && updateCount === announced) {
      place.count = updateCount;
      place.announced = null;
      return updateCount === count ? SNAPSHOT : NEW;
    }
    if (count !== null && updateCount <= count) return updateCount === count ? SNAPSHOT : REPEAT;
    const known = announced !== null && updateCount > announced ? announced : count;
    place.count = updateCount;
    if (announced !== null && updateCount > announced) place.announced = null;
    if (known === null) return NEW;
    // A message that stands for several may stand for some that came one by one before the line changed.
    const missed = updateCount - known - conflated;
    return missed > 0 ? { kind: "gap", missed } : NEW;
  }
}

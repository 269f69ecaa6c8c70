/**
 * Where this client stands in each channel, by the rules of docs/protocol.md ("Positions"): what is new, what was there
 * already, what was missed, and from where to resume. Pure.
 */
import type { Place } from "./link.js";
import type { CurrentPosition, Position } from "./protocol.gen.js";

/**
 * What a message is to this client. `new`: the next one. `snapshot`: the current one again, with the quality that the
 * price has now. `repeat`: older than what is known, not to be delivered. `gap`: new, and so many before it are missing
 * (null: it cannot be told how many); `current`: it is what the server announced as the channel's current message.
 */
export type Verdict =
  | { readonly kind: "new" | "snapshot" | "repeat" }
  | { readonly kind: "gap"; readonly missed: number | null; readonly current: boolean };

interface Standing {
  epoch: string;
  /** `update_count` of the last message that was delivered, in this epoch; null before the first. */
  count: number | null;
  /** Where the server said that the channel stands, as long as nothing came after it. */
  announced: CurrentPosition | null;
}

const NEW: Verdict = { kind: "new" };
const SNAPSHOT: Verdict = { kind: "snapshot" };
const REPEAT: Verdict = { kind: "repeat" };

export class Positions {
  readonly #places = new Map<string, Standing>();

  /** What `resume` says in `subscribe`: only what was really delivered. */
  resume(channels: Iterable<string>): Record<string, Position> {
    const resume: Record<string, Position> = {};
    for (const channel of channels) {
      const place = this.#places.get(channel);
      if (place?.count != null) resume[channel] = { epoch: place.epoch, count: place.count };
    }
    return resume;
  }

  /** The same for one epoch: the one that is named, else that of the first channel. Null: nothing of it was delivered. */
  place(channels: Iterable<string>, epoch: string | null): Place | null {
    const places = Object.entries(this.resume(channels));
    const of = epoch ?? places[0]?.[1].epoch;
    const counts: Record<string, number> = {};
    for (const [channel, place] of places) if (place.epoch === of) counts[channel] = place.count;
    return of === undefined || Object.keys(counts).length === 0 ? null : { epoch: of, counts };
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

  /** The server says where a channel stands. The place to resume from is still the last message that was delivered. */
  announce(channel: string, { epoch, count }: CurrentPosition): void {
    const place = this.#places.get(channel);
    const announced = { epoch, count };
    if (place?.count == null) this.#places.set(channel, { epoch, count: count === 0 ? 0 : null, announced });
    else place.announced = announced;
  }

  /** A channel's message came; `epoch` is the line's. */
  accept(channel: string, epoch: string, updateCount: number, conflated = 1): Verdict {
    const place = this.#places.get(channel);
    const announced = place?.announced?.epoch === epoch ? place.announced.count : null;
    const current = announced === updateCount;
    if (place?.epoch !== epoch || place.count === null) {
      this.#places.set(channel, { epoch, count: updateCount, announced: null });
      if (place?.count != null) return { kind: "gap", missed: null, current };
      const missed = announced === null || current ? 0 : updateCount - announced - conflated;
      return missed > 0 ? { kind: "gap", missed, current } : NEW;
    }
    if (announced !== null && updateCount >= announced) place.announced = null;
    if (updateCount <= place.count) return updateCount === place.count ? SNAPSHOT : REPEAT;
    // A message that stands for several may stand for some that came one by one before the line changed.
    const missed = updateCount - place.count - conflated;
    place.count = updateCount;
    return missed > 0 ? { kind: "gap", missed, current } : NEW;
  }
}

/** A clock for the machine: it never goes back, and it goes on while the computer sleeps. Pure. */

/** Beyond this, the wall clock's lead is time slept (or somebody set the clock, which costs one look at the line). */
const JUMP_MS = 1000;

/** Made of two clocks that each lack something: the monotonic one may stand still in sleep, the wall clock may be set. */
export class SleepClock {
  #monotonic: number;
  #wall: number;
  #slept = 0;

  constructor(monotonic: number, wall: number) {
    this.#monotonic = monotonic;
    this.#wall = wall;
  }

  /** @returns the time, and how much of it was a jump since the last reading: the computer slept */
  read(monotonic: number, wall: number): { readonly now: number; readonly jumpMs: number } {
    const lead = wall - this.#wall - (monotonic - this.#monotonic);
    const jumpMs = lead >= JUMP_MS ? lead : 0;
    this.#slept += jumpMs;
    // Small differences are left to add up, lest a clock that is slewed were never seen to run ahead.
    if (jumpMs > 0 || lead < 0) {
      this.#monotonic = monotonic;
      this.#wall = wall;
    }
    return { now: monotonic + this.#slept, jumpMs };
  }
}

/** How an alert makes itself noticed besides on the page: a sound, a notification of the browser's. */

let context: AudioContext | null = null;

/** Two soft tones. A browser plays them only once the user has touched the page; till then it is silent. */
export function chime(): void {
  try {
    context ??= new AudioContext();
    void context.resume();
    const start = context.currentTime;
    for (const [after, frequency] of [
      [0, 660],
      [0.16, 880],
    ] as const) {
      const tone = context.createOscillator();
      const volume = context.createGain();
      tone.frequency.value = frequency;
      volume.gain.setValueAtTime(0, start + after);
      volume.gain.linearRampToValueAtTime(0.15, start + after + 0.02);
      volume.gain.exponentialRampToValueAtTime(0.001, start + after + 0.5);
      tone.connect(volume).connect(context.destination);
      tone.start(start + after);
      tone.stop(start + after + 0.5);
    }
  } catch {
    // A machine without sound.
  }
}

/** One of the browser's own; `tag` keeps the same alert from coming twice. */
export function notification(title: string, body: string, tag: string): void {
  try {
    if ("Notification" in window && Notification.permission === "granted") new Notification(title, { body, tag });
  } catch {
    // Phones want a service worker for it; the toast and the sound are there.
  }
}

// A tone for alarms, off until somebody wants it: a room with three desks needs one that rings.

import { effect, signal } from "@preact/signals";
import { feed, released } from "./store";

const SOUND_KEY = "paifang.sound";
const QUIET_MS = 4_000; // between two tones: a storm of alarms is one alarm to the ear
const TONES: readonly (readonly [number, number])[] = [
  [880, 0],
  [660, 0.18],
];
const TONE_S = 0.16;
const LOUDNESS = 0.12;

export const sound = signal(localStorage.getItem(SOUND_KEY) === "on");
/** How often it rang since the page was opened. */
export const rings = signal(0);

let context: AudioContext | null = null;
let rangAt = -Infinity;
let heard = 0; // the last feed line that was looked at

export function setSound(on: boolean): void {
  sound.value = on;
  localStorage.setItem(SOUND_KEY, on ? "on" : "off");
  if (on) ring(true); // a browser lets a page sound only after a press: this is the press, and proves the loudspeaker
}

function ring(anyway = false): void {
  const now = performance.now();
  if (!anyway && (!sound.peek() || now - rangAt < QUIET_MS)) return;
  rangAt = now;
  rings.value = rings.peek() + 1;
  try {
    context ??= new AudioContext();
    void context.resume();
    for (const [frequency, after] of TONES) {
      const tone = context.createOscillator();
      const volume = context.createGain();
      tone.frequency.value = frequency;
      volume.gain.value = LOUDNESS;
      tone.connect(volume).connect(context.destination);
      tone.start(context.currentTime + after);
      tone.stop(context.currentTime + after + TONE_S);
    }
  } catch {
    // a machine without a loudspeaker still shows the alarm
  }
}

export function startSound(): void {
  heard = feed.peek().at(-1)?.seq ?? 0;
  effect(() => {
    const lines = feed.value;
    const fresh = lines.at(-1)?.seq ?? 0;
    let alarmed = false;
    for (let index = lines.length - 1; index >= 0 && lines[index]!.seq > heard; index--) {
      alarmed ||= lines[index]!.severity === "alarm";
    }
    const first = heard === 0; // a snapshot's lines are history
    heard = fresh;
    if (alarmed && !first) ring();
  });
  effect(() => {
    if (released.value) ring();
  });
}

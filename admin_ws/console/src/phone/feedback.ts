// What an attendant feels and hears: one short sign for yes, three for no.

import { signal } from "@preact/signals";
import { read, write } from "./words";

const KEY = "paifang-phone-sound";
export const sound = signal(read(KEY) !== "off");

const STAY_KEY = "paifang-phone-stay";
/** Green stays until it is tapped, for whoever needs longer to read. */
export const stay = signal(read(STAY_KEY) === "on");

export function setStay(on: boolean): void {
  stay.value = on;
  write(STAY_KEY, on ? "on" : "off");
}

let context: AudioContext | null = null;

export function setSound(on: boolean): void {
  sound.value = on;
  write(KEY, on ? "on" : "off");
}

/** Browsers let a page sound only after it was touched. */
export function wake(): void {
  if (!sound.value) return;
  context ??= new AudioContext();
  if (context.state === "suspended") void context.resume();
}

export function feel(kind: "ok" | "no" | "wait"): void {
  navigator.vibrate?.(kind === "ok" ? 90 : kind === "wait" ? [60, 60, 60] : [220, 90, 220, 90, 220]);
  if (!sound.value || context === null || context.state !== "running") return;
  const tones: [from: number, hertz: number, seconds: number][] =
    kind === "ok" ? [[0, 880, 0.09], [0.1, 1320, 0.14]] : kind === "wait" ? [[0, 520, 0.18]] : [[0, 240, 0.16], [0.2, 240, 0.16], [0.4, 200, 0.28]];
  for (const [from, hertz, seconds] of tones) {
    const oscillator = context.createOscillator();
    const gain = context.createGain();
    oscillator.type = kind === "ok" ? "sine" : "square";
    oscillator.frequency.value = hertz;
    gain.gain.setValueAtTime(kind === "ok" ? 0.5 : 0.22, context.currentTime + from);
    gain.gain.exponentialRampToValueAtTime(0.001, context.currentTime + from + seconds);
    oscillator.connect(gain).connect(context.destination);
    oscillator.start(context.currentTime + from);
    oscillator.stop(context.currentTime + from + seconds);
  }
}

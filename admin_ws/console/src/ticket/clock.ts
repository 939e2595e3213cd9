// What time it is where the code is checked. A phone's clock may be minutes off, and a code is good for one: so the
// page asks the server while it can, uses the server's time, and says that the phone's is wrong.

import { signal } from "@preact/signals";

export type Known = "asking" | "checked" | "offline";

const WRONG_FROM_S = 5; // a Date header tells whole seconds, and the way there and back takes its time
const CORRECTED_FROM_MS = 2000;
const ASK_AGAIN_MS = 120_000;
const PATIENCE_MS = 5000;
const ROUND_TRIP_MOST_MS = 4000; // an answer that took longer says too little

export const known = signal<Known>("asking");
/** How far the phone is behind the server, s; negative: it is ahead. */
export const behindS = signal(0);
let correctionMs = 0;

/** Seconds since the epoch, as the server counts them if it could be asked. */
export const now = (): number => (Date.now() + correctionMs) / 1000;

export const isWrong = (): boolean => Math.abs(behindS.value) >= WRONG_FROM_S;

export async function askServer(): Promise<void> {
  try {
    const asked = Date.now();
    const answer = await fetch("/healthz", { method: "HEAD", cache: "no-store", redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS) });
    const told = Date.parse(answer.headers.get("Date") ?? "");
    const answered = Date.now();
    if (!answer.ok || Number.isNaN(told) || answered - asked > ROUND_TRIP_MOST_MS || answered < asked) throw new Error("no time told");
    const behindMs = told + 500 - (asked + answered) / 2;
    correctionMs = Math.abs(behindMs) < CORRECTED_FROM_MS ? 0 : behindMs;
    behindS.value = Math.round(behindMs / 1000);
    known.value = "checked";
  } catch {
    known.value = "offline"; // what was found out before still counts
  }
}

/** Ask now, every other minute, and when the phone is looked at or connected again. */
export function keepAsking(): void {
  const ask = () => void askServer();
  ask();
  window.setInterval(ask, ASK_AGAIN_MS);
  window.addEventListener("online", ask);
  window.addEventListener("offline", () => (known.value = "offline"));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") ask();
  });
}

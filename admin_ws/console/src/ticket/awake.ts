// The screen stays on while the ticket is shown: nobody wants to unlock a phone in front of a gate.

export function keepAwake(): void {
  if (!("wakeLock" in navigator)) return;
  const ask = () => {
    if (document.visibilityState !== "visible") return;
    navigator.wakeLock.request("screen").then(
      (lock) => {
        document.documentElement.dataset["awake"] = "true";
        lock.addEventListener("release", () => delete document.documentElement.dataset["awake"]);
      },
      () => undefined, // the battery is low, or the browser does not want to: the page works all the same
    );
  };
  document.addEventListener("visibilitychange", ask);
  ask();
}

// The evacuation: one deliberate press, who has opened and who has not, and the way back by two people.
//
// Why press and hold: nothing may stand between the trigger and the release, so there is no dialog to find and
// confirm; but a button on a control-room desk is also leaned on and wiped. Holding for 0.8 s is one movement that
// neither does by accident. Somebody in panic hammers instead of holding: three presses within two seconds are as
// deliberate, and count. Keyboard: hold Space or Enter.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { clock, count, duration } from "./format";
import { pick, t, word } from "./i18n";
import { Icon } from "./icons";
import { call } from "./rpc";
import { asCallError, evacuation, laneIds, lane, laneName, may, RED_AFTER_S, serverNow, session, sessionOver, subscribed } from "./store";
import type { EvacuationView, LaneRelease } from "./types";

const HOLD_MS = 800;
const HAMMER_PRESSES = 3;
const HAMMER_WITHIN_MS = 2_000;
const REPEAT_MS = 500; // until the server shows that it released
const REPEAT_FOR_MS = 15_000;
const UNSURE_AFTER_MS = 1_500;

type Sending = "no" | "sent" | "told" | "unsure";
const said = { no: "evacuateHint", sent: "evacuateSent", told: "evacuateTold", unsure: "evacuateUnsure" } as const;
const sending = signal<Sending>("no");
const drill = signal(false);

/** Send until the server shows a release. Repeating is harmless: a second trigger of the same evacuation is none. */
async function trigger(asDrill: boolean): Promise<void> {
  if (sending.value === "sent") return;
  sending.value = "sent";
  const began = performance.now();
  const isDone = () => {
    const view = evacuation.peek();
    return view !== null && view.state === "released" && (asDrill || !view.drill);
  };
  let blind = false; // a session that is over sees no views: that the server took it is all it can know
  while (!isDone() && !blind && performance.now() - began < REPEAT_FOR_MS) {
    try {
      await Promise.race([call("evacuation.trigger", { drill: asDrill, reason: "console" }, REPEAT_MS), pause(REPEAT_MS)]);
      blind = !subscribed.peek() && (sessionOver.peek() || !may("site.subscribe"));
    } catch {
      // whatever the reason, the answer is to try again
    }
    for (let waited = 0; waited < REPEAT_MS && !isDone() && !blind; waited += 50) await pause(50);
    if (!isDone() && !blind && performance.now() - began > UNSURE_AFTER_MS) sending.value = "unsure";
  }
  sending.value = isDone() ? "no" : blind ? "told" : "unsure";
  drill.value = false;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => window.setTimeout(resolve, ms));
}

function TriggerButton({ label, hint, asDrill }: { label: string; hint: string; asDrill: boolean }): JSX.Element {
  const [holding, setHolding] = useState(false);
  const timer = useRef(0);
  const presses = useRef<number[]>([]);

  const fire = () => {
    release();
    presses.current = [];
    void trigger(asDrill);
  };
  const press = () => {
    if (timer.current !== 0) return;
    const now = performance.now();
    presses.current = [...presses.current.filter((at) => now - at < HAMMER_WITHIN_MS), now];
    if (presses.current.length >= HAMMER_PRESSES) {
      fire();
      return;
    }
    setHolding(true);
    timer.current = window.setTimeout(fire, HOLD_MS);
  };
  const release = () => {
    window.clearTimeout(timer.current);
    timer.current = 0;
    setHolding(false);
  };
  useEffect(() => release, []);

  const busy = sending.value !== "no";
  return (
    <button
      type="button"
      class={`evacuate ${holding ? "is-held" : ""} ${asDrill ? "is-drill" : ""}`}
      data-testid="evacuate"
      aria-describedby="evacuate-hint"
      onPointerDown={(event) => {
        if (event.button === 0) {
          event.currentTarget.setPointerCapture(event.pointerId);
          press();
        }
      }}
      onPointerUp={release}
      onPointerCancel={release}
      onContextMenu={(event) => event.preventDefault()}
      onKeyDown={(event) => {
        if (event.key === " " || event.key === "Enter") {
          event.preventDefault();
          if (!event.repeat) press();
        }
      }}
      onKeyUp={release}
      onBlur={release}
    >
      <span class="evacuate-fill" />
      <span class="evacuate-face">
        <Icon name="run" size="2.1em" />
        <span>
          <span class="evacuate-label">{label}</span>
          <span class="evacuate-hint" id="evacuate-hint" role="status">
            {holding ? t("evacuateKeep") : busy ? t(said[sending.value]) : hint}
          </span>
        </span>
      </span>
    </button>
  );
}

/** The button, wherever the page is; while lanes are released it is there only to make a drill real. */
export function EvacuationTrigger(): JSX.Element | null {
  const view = evacuation.value;
  const out = view !== null && view.state !== "normal";
  if (!may("evacuation.trigger") || (out && !view.drill && view.state !== "restoring")) return null;
  return (
    <section class="evacuation-trigger" aria-label={t("evacuate")}>
      <TriggerButton
        label={pick("紧急疏散", "EVACUATE")}
        hint={out && view.drill ? t("evacuateReal") : drill.value ? t("evacuateHintDrill") : t("evacuateHint")}
        asDrill={drill.value && !out}
      />
      {!out && (
        <label class="check">
          <input type="checkbox" checked={drill.value} onChange={(event) => (drill.value = event.currentTarget.checked)} />
          {t("drill")}
        </label>
      )}
    </section>
  );
}

/** Beside every page while lanes are released: who has opened, and the way back. */
export function EvacuationPanel(): JSX.Element | null {
  const view = evacuation.value;
  if (view === null || view.state === "normal") return null;
  return (
    <section class="card evacuation is-out" aria-label={t("evacuate")}>
      <Progress view={view} />
    </section>
  );
}

/** Across the page while lanes are released: nobody in the room may miss it, whatever view is open. */
export function EvacuationBanner(): JSX.Element | null {
  const view = evacuation.value;
  if (view === null || view.state === "normal") return null;
  const restoring = view.state === "restoring";
  return (
    <div class={`banner ${restoring ? "banner-restoring" : "banner-evacuation"}`} role="alert">
      <Icon name={restoring ? "wrench" : "run"} size="1.6em" />
      <strong>{restoring ? t("restoring") : view.drill ? t("drillReleased") : t("released")}</strong>
      {view.triggered_at !== null && (
        <span>
          {t("triggeredBy", { by: view.triggered_by || "?", at: clock(view.triggered_at) })}
          {!restoring && ` · ${duration(serverNow.value - view.triggered_at)}`}
        </span>
      )}
    </div>
  );
}

function isOpen(release: LaneRelease): boolean {
  return release.acknowledged && release.sensed_open;
}

function Progress({ view }: { view: EvacuationView }): JSX.Element {
  const lanes = view.lanes.filter((release) => release.commanded || isOpen(release)); // a part of the site: only its lanes
  const opened = lanes.filter(isOpen).length;
  const blind = lanes.filter((release) => !isOpen(release) && !release.can_sense && release.acknowledged).length;
  const missing = lanes.length - opened - blind;
  const sinceS = view.triggered_at === null ? RED_AFTER_S : serverNow.value - view.triggered_at;
  const late = missing > 0 && sinceS >= RED_AFTER_S;
  return (
    <>
      {view.state === "released" && (
        <>
          <p class={`progress-head ${missing === 0 ? "is-complete" : late ? "is-late" : ""}`} role="status" data-testid="release-progress">
            <Icon name={missing === 0 ? "check" : late ? "octagon" : "clock"} size="1.3em" />
            <span>
              {t("confirmed", { n: opened, total: lanes.length })}
              {late && <b> · {t("missing", { n: missing })}</b>}
            </span>
          </p>
          <ul class="releases" tabIndex={0} aria-label={t("lanes")}>
            {[...lanes].sort(worstFirst).map((release) => (
              <Release key={release.lane} release={release} sinceS={sinceS} />
            ))}
          </ul>
        </>
      )}
      <LeftInside view={view} />
      <Restore view={view} />
    </>
  );
}

/** Who got out, and who is probably still inside. */
function LeftInside({ view }: { view: EvacuationView }): JSX.Element | null {
  const [people, setPeople] = useState(0);
  const [error, setError] = useState("");
  if (view.left === null) return null;
  const add = async () => {
    setError("");
    try {
      await call("evacuation.count", { place: t("countByHand"), people });
      setPeople(0);
    } catch (failure) {
      const failed = asCallError(failure);
      setError(pick(failed.zh, failed.en));
    }
  };
  return (
    <div class="left-inside">
      <p>
        {t("leftInside")} <strong data-testid="left-inside">{count(view.left)}</strong>
      </p>
      <p class="muted">
        {t("gotOut")} {count(view.out)}
        {view.out_by_hand !== 0 && ` · ${t("byHand", { n: view.out_by_hand })}`}
      </p>
      {may("evacuation.count") && (
        <form
          class="inline"
          onSubmit={(event) => {
            event.preventDefault();
            if (people !== 0) void add();
          }}
        >
          <label>
            {t("countByHand")}
            <input type="number" name="count-out" value={people} onInput={(event) => setPeople(event.currentTarget.valueAsNumber || 0)} />
          </label>
          <button type="submit">{t("add")}</button>
        </form>
      )}
      {error !== "" && (
        <p class="error" role="alert">
          <Icon name="cross" /> {error}
        </p>
      )}
    </div>
  );
}

function worstFirst(a: LaneRelease, b: LaneRelease): number {
  return Number(isOpen(a)) - Number(isOpen(b)) || a.lane.localeCompare(b.lane, "en", { numeric: true });
}

function Release({ release, sinceS }: { release: LaneRelease; sinceS: number }): JSX.Element {
  const open = isOpen(release);
  const late = !open && sinceS >= RED_AFTER_S && (release.can_sense || !release.acknowledged);
  const step = (done: boolean, text: string) => (
    <span class={done ? "step is-done" : "step"}>
      <Icon name={done ? "check" : "dot"} size="1em" /> {text}
    </span>
  );
  return (
    <li class={`release ${open ? "is-open" : late ? "is-late" : "is-waiting"}`} data-release={release.lane} data-open={open}>
      <Icon name={open ? "gateOpen" : late ? "octagon" : "clock"} size="1.3em" />
      <span class="release-name">{laneName(release.lane)}</span>
      <span class="release-word">
        {open
          ? `${word("barrier", release.barrier)} · ${Math.round(release.acknowledged_after_ms ?? 0)} ms${release.out > 0 ? ` · ${t("outAt", { n: release.out })}` : ""}`
          : release.acknowledged
            ? t(release.can_sense ? "acknowledgedClosed" : "cannotSense")
            : late
              ? t("unconfirmed")
              : t("waiting", { s: sinceS.toFixed(1) })}
      </span>
      {!open && (
        <span class="steps">
          {step(release.commanded, t("commanded"))}
          {step(release.acknowledged, t("acknowledged"))}
          {step(release.sensed_open, t("sensed"))}
        </span>
      )}
    </li>
  );
}

function Restore({ view }: { view: EvacuationView }): JSX.Element | null {
  const [error, setError] = useState("");
  const waiting = laneIds.value.filter((id) => lane(id).mode === "needs_rearm");
  const run = async (what: () => Promise<unknown>) => {
    setError("");
    try {
      await what();
    } catch (failure) {
      const failed = asCallError(failure);
      setError(pick(failed.zh, failed.en));
    }
  };
  const asked = view.restore_requested_by;
  const mine = asked !== "" && asked === session.value?.user;
  return (
    <div class="restore">
      {view.state === "released" && may("evacuation.restore") && (
        <>
          {asked !== "" && <p role="status">{t("restoreWaiting", { by: asked })}</p>}
          {!mine && (
            <button type="button" onClick={() => void run(() => call("evacuation.restore", { reason: "console" }))}>
              <Icon name="lock" /> {asked === "" ? t("restore") : t("restoreSecond")}
            </button>
          )}
          {asked === "" && <small class="muted">{t("restoreAsk")}</small>}
        </>
      )}
      {waiting.length > 0 && may("lane.rearm") && (
        <>
          <ul class="releases" tabIndex={0} aria-label={t("lanes")}>
            {waiting.map((id) => (
              <li key={id} class="release is-waiting">
                <Icon name="wrench" size="1.2em" />
                <span class="release-name">{laneName(id)}</span>
                <button type="button" onClick={() => void run(() => call("lane.rearm", { lane: id }))}>
                  {t("rearm")}
                </button>
              </li>
            ))}
          </ul>
          <button type="button" class="primary" onClick={() => void run(() => call("lane.rearm", { lane: "*" }))}>
            <Icon name="wrench" /> {t("rearmAll")}
          </button>
        </>
      )}
      {error !== "" && (
        <p class="error" role="alert">
          <Icon name="cross" /> {error}
        </p>
      )}
    </div>
  );
}

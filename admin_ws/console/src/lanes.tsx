import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { clock, count } from "./format";
import { pick, t, word } from "./i18n";
import { Icon, type IconName } from "./icons";
import { call } from "./rpc";
import { asCallError, evacuation, lane, laneIds, may, RED_AFTER_S, released, serverNow, zoneName } from "./store";
import type { LaneView } from "./types";
import { Why } from "./why";

const REFUSAL_SHOWN_S = 6; // a refusal colours its tile for so long
const MANY_FROM = 8; // lanes; more get narrower tiles, so that all are seen without scrolling
const DENSE_FROM = 18;
const TURN_SHOWN_MS = 1_200;
const MODES = ["bidirectional", "normal_entry", "normal_exit", "closed", "maintenance"];
const PAX_MOST = 50;

export const selectedLane = signal<string | null>(null);

/** Is an evacuation so old that every lane should have opened? */
const overdue = computed(() => {
  const view = evacuation.value;
  return view?.state === "released" && view.triggered_at !== null && serverNow.value - view.triggered_at >= RED_AFTER_S;
});

export function Lanes(): JSX.Element {
  const total = laneIds.value.length;
  const ready = laneIds.value.filter((id) => lane(id).available).length;
  return (
    <section class="lanes-section" aria-label={t("lanes")}>
      <header class="section-head">
        <h2>{t("lanes")}</h2>
        <span class="muted">{t("lanesReady", { n: ready, total })}</span>
      </header>
      <div class={`lanes ${total > DENSE_FROM ? "is-dense" : total > MANY_FROM ? "is-many" : ""}`}>
        {laneIds.value.map((id) => (
          <Tile key={id} id={id} />
        ))}
      </div>
    </section>
  );
}

/** What a lane looks like from afar: an icon, a tone and a word, the most urgent thing first. */
function look(view: LaneView, refused: boolean): [IconName, string, string] {
  if (view.mode === "emergency_released" || view.state === "released") return ["run", "released", word("state", "released")];
  // in an evacuation a lane that looks ready is the one to run to
  if (overdue.value) return ["octagon", "alarm", t("notOpen")];
  if (view.alarm) return ["octagon", "alarm", word("alarm", view.alarm)];
  if (view.state === "starting" || view.state === "recovering") return ["clock", "off", word("state", view.state)];
  if (!view.available || view.state === "unavailable") return ["plug", "off", word("state", "unavailable")];
  if (view.mode === "needs_rearm" || view.state === "needs_rearm") return ["wrench", "warn", word("mode", "needs_rearm")];
  if (view.mode === "closed") return ["bar", "off", word("mode", "closed")];
  if (view.mode === "maintenance" || view.mode === "fault") return ["wrench", "warn", word("mode", view.mode)];
  if (view.state === "granted" || view.state === "passing") {
    return ["gateOpen", "active", view.pax > 1 ? `${word("state", "passing")} ${view.passed}/${view.pax}` : word("state", view.state)];
  }
  if (view.state === "deciding") return ["clock", "active", word("state", view.state)];
  if (refused) return ["cross", "refused", word("state", "refused")];
  return ["check", "ok", word("state", view.state)];
}

function modeIcon(mode: string): IconName {
  return mode === "normal_entry" ? "arrowIn" : mode === "normal_exit" ? "arrowOut" : mode === "closed" ? "bar" : "both";
}

function Tile({ id }: { id: string }): JSX.Element {
  const view = lane(id);
  const refused =
    view.last_code !== "" && view.last_code !== "ok" && view.last_at !== null && serverNow.value - view.last_at < REFUSAL_SHOWN_S;
  const [icon, tone, text] = look(view, refused);
  const turned = useTurn(view.entries, view.exits);
  const open = view.barrier === "open" || view.barrier === "opening" || view.barrier === "released";
  const last = pick(view.last_text_zh, view.last_text_en);
  return (
    <button
      type="button"
      class={`card tile tone-${tone} ${turned ? `turned-${turned}` : ""}`}
      data-lane={id}
      data-state={view.state}
      aria-pressed={selectedLane.value === id}
      aria-label={`${view.name}: ${text}, ${t("barrier")} ${word("barrier", view.barrier)}, ${t("in")} ${view.entries}, ${t("out")} ${view.exits}`}
      onClick={() => (selectedLane.value = selectedLane.value === id ? null : id)}
    >
      <span class="tile-head">
        <span class="tile-name">{view.name}</span>
        <span class="tile-mode" title={word("mode", view.mode)}>
          <Icon name={modeIcon(view.mode)} /> {word("mode", view.mode)}
        </span>
      </span>
      <span class="tile-state">
        <Icon name={icon} size="1.35em" /> <span>{text}</span>
        <span class={`barrier ${open ? "is-open" : ""}`}>
          <Icon name={open ? "gateOpen" : "gateShut"} size="1.35em" /> {word("barrier", view.barrier)}
        </span>
      </span>
      <span class="tile-counts">
        <span class={turned === "in" ? "count-in now" : "count-in"}>
          <Icon name="arrowIn" /> <small>{t("in")}</small>
          <b data-count="entries">{count(view.entries)}</b>
        </span>
        <span class={turned === "out" ? "count-out now" : "count-out"}>
          <Icon name="arrowOut" /> <small>{t("out")}</small>
          <b data-count="exits">{count(view.exits)}</b>
        </span>
      </span>
      <span class={refused ? "tile-last is-refused" : "tile-last"}>
        {last ? (
          <>
            <span class="tile-last-text">{last}</span>
            {view.last_at !== null && <span class="muted">{clock(view.last_at)}</span>}
          </>
        ) : (
          <span class="muted">{t("noneYet")}</span>
        )}
      </span>
    </button>
  );
}

/** "in" or "out" for a moment after a count went up. */
function useTurn(entries: number, exits: number): "" | "in" | "out" {
  const before = useRef({ entries, exits });
  const [turned, setTurned] = useState<"" | "in" | "out">("");
  useEffect(() => {
    const was = before.current;
    before.current = { entries, exits };
    const way = entries > was.entries ? "in" : exits > was.exits ? "out" : "";
    if (way === "") return undefined;
    setTurned(way);
    const timer = window.setTimeout(() => setTurned(""), TURN_SHOWN_MS);
    return () => window.clearTimeout(timer);
  }, [entries, exits]);
  return turned;
}

/** One lane in detail, beside the others and never over the evacuation button. */
export function LanePanel(): JSX.Element | null {
  const id = selectedLane.value;
  const [mode, setMode] = useState("");
  const [pax, setPax] = useState(1);
  const [reason, setReason] = useState("");
  const [message, setMessage] = useState<{ text: string; bad: boolean } | null>(null);
  const first = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    setMode("");
    setPax(1);
    setReason("");
    setMessage(null);
    first.current?.focus();
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape") selectedLane.value = null;
    };
    window.addEventListener("keydown", escape);
    return () => window.removeEventListener("keydown", escape);
  }, [id]);
  if (id === null || !laneIds.value.includes(id)) return null;
  const view = lane(id);

  const run = async (what: () => Promise<unknown>) => {
    setMessage(null);
    try {
      await what();
      setMessage({ text: t("sent"), bad: false });
      setReason("");
    } catch (error) {
      const failed = asCallError(error);
      setMessage({ text: pick(failed.zh, failed.en), bad: true });
    }
  };
  const withReason = (what: () => Promise<unknown>) => {
    if (reason.trim() === "") setMessage({ text: t("needReason"), bad: true });
    else void run(what);
  };
  const commands = may("lane.set_mode") || may("lane.open");
  return (
    <section class="card lane-panel" role="dialog" aria-modal="false" aria-label={view.name}>
      <header class="section-head">
        <h2>{view.name}</h2>
        <button ref={first} type="button" class="quiet" onClick={() => (selectedLane.value = null)}>
          <Icon name="cross" /> {t("close")}
        </button>
      </header>
      <dl class="facts">
        <dt>{t("mode")}</dt>
        <dd>{word("mode", view.mode)}</dd>
        <dt>{t("state")}</dt>
        <dd>{word("state", view.state)}</dd>
        <dt>{t("barrier")}</dt>
        <dd>{word("barrier", view.barrier)}</dd>
        <dt>{t("from")}</dt>
        <dd>{zoneName(view.from_zone)}</dd>
        <dt>{t("to")}</dt>
        <dd>{zoneName(view.to_zone)}</dd>
        <dt>{t("transport")}</dt>
        <dd>{view.transport === "link" ? t("link") : t("serial")}</dd>
      </dl>
      {view.mode === "needs_rearm" && may("lane.rearm") && (
        <button type="button" class="primary" onClick={() => void run(() => call("lane.rearm", { lane: id }))}>
          <Icon name="wrench" /> {t("rearm")}
        </button>
      )}
      {released.value && commands && <p class="muted">{t("whileReleased")}</p>}
      {!released.value && commands && (
        <>
          <label>
            {t("reason")}
            <input value={reason} maxLength={200} onInput={(event) => setReason(event.currentTarget.value)} />
          </label>
          {may("lane.set_mode") && (
            <form
              class="inline"
              onSubmit={(event) => {
                event.preventDefault();
                withReason(() => call("lane.set_mode", { lane: id, mode: mode || view.mode, reason: reason.trim() }));
              }}
            >
              <label>
                {t("setMode")}
                <select value={mode || view.mode} onChange={(event) => setMode(event.currentTarget.value)}>
                  {[...new Set([...MODES, view.mode])].map((value) => (
                    <option key={value} value={value}>
                      {word("mode", value)}
                    </option>
                  ))}
                </select>
              </label>
              <button type="submit">{t("apply")}</button>
            </form>
          )}
          {may("lane.pause") && view.state === "granted" && view.pax > 1 && (
            <button
              type="button"
              data-testid="pause"
              onClick={() => withReason(() => call("lane.pause", { lane: id, reason: reason.trim() }))}
            >
              <Icon name="bar" /> {t("pauseBatch")} {view.passed}/{view.pax}
            </button>
          )}
          {may("lane.open") && (
            <form
              class="inline"
              onSubmit={(event) => {
                event.preventDefault();
                withReason(() => call("lane.open", { lane: id, pax, reason: reason.trim() }));
              }}
            >
              <label>
                {t("manualOpen")}: {t("people")}
                <input
                  type="number"
                  min={1}
                  max={PAX_MOST}
                  value={pax}
                  onInput={(event) => setPax(event.currentTarget.valueAsNumber || 1)}
                />
              </label>
              <button type="submit">{t("open")}</button>
            </form>
          )}
        </>
      )}
      {message !== null && (
        <p class={message.bad ? "error" : "good"} role="status">
          <Icon name={message.bad ? "cross" : "check"} /> {message.text}
        </p>
      )}
      {may("site.explain") && <Why key={id} lane={id} />}
    </section>
  );
}

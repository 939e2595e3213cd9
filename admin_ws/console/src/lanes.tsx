// The lanes as a strip of tiles: what each one does, from afar.

import { computed } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { clock, count } from "./format";
import { pick, t, word } from "./i18n";
import { Icon, type IconName } from "./icons";
import { moveByArrow } from "./shortcuts";
import { evacuation, lane, laneIds, RED_AFTER_S, serverNow } from "./store";
import type { LaneView } from "./types";

const REFUSAL_SHOWN_S = 6; // a refusal colours its tile for so long
const MANY_FROM = 8; // lanes; more get narrower tiles, so that all are seen without scrolling
const DENSE_FROM = 18;
const TURN_SHOWN_MS = 1_200;

/** Is an evacuation so old that every lane should have opened? */
const overdue = computed(() => {
  const view = evacuation.value;
  return view?.state === "released" && view.triggered_at !== null && serverNow.value - view.triggered_at >= RED_AFTER_S;
});

/** Apart from the strip, which is then not drawn anew for each lane that changes. */
const ready = computed(() => laneIds.value.filter((id) => lane(id).available).length);

interface LanesProps {
  selected: string | null;
  onSelect(id: string): void;
}

export function Lanes({ selected, onSelect }: LanesProps): JSX.Element {
  const total = laneIds.value.length;
  return (
    <section class="lanes-section" aria-label={t("lanes")}>
      <header class="section-head">
        <h2>{t("lanes")}</h2>
        <span class="muted">{t("lanesReady", { n: ready.value, total })}</span>
      </header>
      <div onKeyDown={(event) => moveByArrow(event, ".tile")} class={`lanes ${total > DENSE_FROM ? "is-dense" : total > MANY_FROM ? "is-many" : ""}`}>
        {laneIds.value.map((id) => (
          <Tile key={id} id={id} turns={total <= DENSE_FROM} isSelected={selected === id} onSelect={onSelect} />
        ))}
      </div>
    </section>
  );
}

/** Was somebody refused here just now? */
export function refusedNow(view: LaneView): boolean {
  if (view.last_code === "" || view.last_code === "ok" || view.last_at === null) return false; // no look at the clock
  return serverNow.value - view.last_at < REFUSAL_SHOWN_S;
}

/** What a lane looks like from afar: an icon, a tone and a word, the most urgent thing first. */
export function look(view: LaneView, refused: boolean): [IconName, string, string] {
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

export function modeIcon(mode: string): IconName {
  if (mode === "normal_entry") return "arrowIn";
  if (mode === "normal_exit") return "arrowOut";
  if (mode === "closed") return "lock";
  return mode === "maintenance" || mode === "fault" || mode === "needs_rearm" ? "wrench" : "both";
}

export function isOpen(view: LaneView): boolean {
  return view.barrier === "open" || view.barrier === "opening" || view.barrier === "released";
}

interface TileProps {
  id: string;
  turns: boolean; // shown for a moment when somebody passes; among hundreds it would only flicker
  isSelected: boolean;
  onSelect(id: string): void;
}

function Tile({ id, turns, isSelected, onSelect }: TileProps): JSX.Element {
  const view = lane(id);
  const refused = refusedNow(view);
  const [icon, tone, text] = look(view, refused);
  const turned = useTurn(view.entries, view.exits, turns);
  const open = isOpen(view);
  const last = pick(view.last_text_zh, view.last_text_en);
  return (
    <button
      type="button"
      class={`card tile tone-${tone} ${turned ? `turned-${turned}` : ""}`}
      data-lane={id}
      data-state={view.state}
      aria-pressed={isSelected}
      onClick={() => onSelect(id)}
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
          <Icon name={open ? "gateOpen" : "gateShut"} size="1.35em" /> <span class="sr-only">{t("barrier")}</span> <span class="barrier-word">{word("barrier", view.barrier)}</span>
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
function useTurn(entries: number, exits: number, shown: boolean): "" | "in" | "out" {
  const before = useRef({ entries, exits });
  const [turned, setTurned] = useState<"" | "in" | "out">("");
  useEffect(() => {
    const was = before.current;
    before.current = { entries, exits };
    const way = entries > was.entries ? "in" : exits > was.exits ? "out" : "";
    if (way === "" || !shown) return undefined;
    setTurned(way);
    const timer = window.setTimeout(() => setTurned(""), TURN_SHOWN_MS);
    return () => window.clearTimeout(timer);
  }, [entries, exits]);
  return turned;
}

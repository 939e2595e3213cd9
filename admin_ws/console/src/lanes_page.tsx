// The entrances as they stand: each wall with its gates, inside above, outside below; and the chosen lane beside them.

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { count } from "./format";
import { t, word } from "./i18n";
import { Icon } from "./icons";
import { LanePanel } from "./lane_panel";
import { isOpen, look, modeIcon, refusedNow } from "./lanes";
import { go, route } from "./router";
import { moveByArrow } from "./shortcuts";
import { devices, lane, laneIds, zoneName } from "./store";
import type { LaneView } from "./types";

interface Wall {
  entrance: string;
  from: string;
  to: string;
  lanes: string[];
}

/** Lanes of an entrance that lead the same way are one wall; the store has them in the order in which they stand. */
function walls(): Wall[] {
  const found = new Map<string, Wall>();
  for (const id of laneIds.value) {
    const view = lane(id);
    const key = JSON.stringify([view.entrance, view.from_zone, view.to_zone]);
    const known = found.get(key);
    if (known === undefined) found.set(key, { entrance: view.entrance, from: view.from_zone, to: view.to_zone, lanes: [id] });
    else known.lanes.push(id);
  }
  return [...found.values()];
}

export function LanesPage(): JSX.Element {
  const chosen = route.value.argument;
  const known = laneIds.value.includes(chosen);
  useEffect(() => {
    if (!known) return;
    document.querySelector(`[data-gate="${CSS.escape(chosen)}"]`)?.scrollIntoView({ block: "nearest" });
  }, [chosen, known]);
  return (
    <div class={known ? "lanes-page has-panel" : "lanes-page"}>
      <div class="plan" onKeyDown={(event) => moveByArrow(event, ".gate")}>
        {walls().map((wall) => (
          <WallPlan key={`${wall.entrance} ${wall.from} ${wall.to}`} wall={wall} chosen={chosen} />
        ))}
        {!known && laneIds.value.length > 0 && <p class="muted hint">{t("chooseLane")}</p>}
      </div>
      {known && <LanePanel key={chosen} id={chosen} onClose={() => go("lanes")} />}
    </div>
  );
}

function WallPlan({ wall, chosen }: { wall: Wall; chosen: string }): JSX.Element {
  const views = wall.lanes.map(lane);
  const entered = views.reduce((sum, view) => sum + view.entries, 0);
  const left = views.reduce((sum, view) => sum + view.exits, 0);
  const ready = views.filter((view) => view.available).length;
  const name = wall.entrance || zoneName(wall.to);
  return (
    <section class="card wall" aria-label={name} data-entrance={wall.entrance}>
      <header class="section-head">
        <h2>{name}</h2>
        <span class="muted">{t("lanesReady", { n: ready, total: views.length })}</span>
        <span class="spacer" />
        <span class="muted">
          {t("in")} <b>{count(entered)}</b> · {t("out")} <b>{count(left)}</b>
        </span>
      </header>
      <p class="wall-zone is-inside">{zoneName(wall.to)}</p>
      <div class="gates">
        {wall.lanes.map((id) => (
          <Gate key={id} id={id} isChosen={chosen === id} />
        ))}
      </div>
      <p class="wall-zone is-outside">{wall.from === "outside" ? t("outside") : zoneName(wall.from)}</p>
    </section>
  );
}

function Gate({ id, isChosen }: { id: string; isChosen: boolean }): JSX.Element {
  const view = lane(id);
  const refused = refusedNow(view);
  const [icon, tone, text] = look(view, refused);
  const readers = [...devices.value.values()].filter((device) => device.lane === id && device.kind === "reader");
  const silent = readers.filter((device) => device.availability !== "available").length;
  return (
    <button
      type="button"
      class={`gate tone-${tone}`}
      data-gate={id}
      data-state={view.state}
      data-mode={view.mode}
      data-barrier={view.barrier}
      aria-pressed={isChosen}
      onClick={() => (isChosen ? go("lanes") : go("lanes", id))}
    >
      <span class="gate-name">{view.name}</span>
      <GateDrawing view={view} silent={silent} readers={readers.length} />
      <span class="gate-state">
        <Icon name={icon} size="1em" /> {text}
      </span>
      <span class="sr-only">
        {t("barrier")} {word("barrier", view.barrier)} {silent > 0 && t("readersSilent", { n: silent })}
      </span>
      <span class="gate-counts">
        <span>
          <span class="sr-only">{t("in")}</span>↑ {count(view.entries)}
        </span>
        <span>
          <span class="sr-only">{t("out")}</span>↓ {count(view.exits)}
        </span>
      </span>
      <span class="gate-mode">
        <Icon name={modeIcon(view.mode)} size="0.95em" /> {word("mode", view.mode)}
      </span>
    </button>
  );
}

/** Two posts and what stands between them, seen from above; the lamps on the posts are the readers. */
function GateDrawing({ view, readers, silent }: { view: LaneView; readers: number; silent: number }): JSX.Element {
  const open = isOpen(view);
  const unknown = view.barrier === "unknown" || view.barrier === "";
  return (
    <svg class="gate-drawing" viewBox="0 0 96 56" aria-hidden="true">
      <rect class="post" x="6" y="6" width="12" height="44" rx="4" />
      <rect class="post" x="78" y="6" width="12" height="44" rx="4" />
      {view.kind === "open" ? (
        <path class="beam" d="M22 28H74" stroke-dasharray="3 5" />
      ) : view.kind === "tripod" ? (
        <path class={unknown ? "wing is-unknown" : "wing"} d={open ? "M78 28L68 14M78 28L68 42" : "M78 28H34M78 28L64 12M78 28L64 44"} />
      ) : (
        <path class={unknown ? "wing is-unknown" : "wing"} d={open ? "M18 28L24 10M78 28L72 10" : "M18 28H46M78 28H50"} />
      )}
      {(view.mode === "normal_entry" || view.mode === "bidirectional" || view.mode === "free_counted") && (
        <path class="way" d="M41 24V9M35 15l6-6 6 6" />
      )}
      {(view.mode === "normal_exit" || view.mode === "bidirectional" || view.mode === "free_counted") && (
        <path class="way" d="M55 32V47M49 41l6 6 6-6" />
      )}
      {Array.from({ length: Math.min(readers, 3) }, (_, index) => (
        <circle key={index} class={index < silent ? "lamp is-silent" : "lamp"} cx="84" cy={44 - index * 8} r="2.6" />
      ))}
    </svg>
  );
}

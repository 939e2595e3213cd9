import type { JSX } from "preact";
import { clock, count } from "./format";
import { language, t, word } from "./i18n";
import { Icon } from "./icons";
import { devices, laneName } from "./store";
import type { DeviceView } from "./types";

const SKEW_SHOWN_S = 2; // a clock that is off by less is right enough
const ERRORS_SHOWN = 0.001; // one damaged frame in a thousand is the weather of a long line

/** One calm line while everything works; the troubled ones by name when not; every device's figures on request. */
export function Devices(): JSX.Element | null {
  const all = [...devices.value.values()].sort((a, b) => a.device.localeCompare(b.device));
  if (all.length === 0) return null;
  const bad = all.filter((view) => view.availability !== "available");
  return (
    <section class={`card devices ${bad.length > 0 ? "tone-warn" : ""}`} aria-label={t("devices")}>
      <h2 class="devices-line">
        <Icon name={bad.length > 0 ? "triangle" : "check"} />
        {bad.length > 0 ? t("someDevices", { bad: bad.length, n: all.length }) : t("allDevices", { n: all.length })}
      </h2>
      {bad.length > 0 && (
        <ul>
          {bad.map((view) => (
            <li key={view.device}>
              <strong>
                {word("device", view.kind)}
                {view.lane && ` · ${laneName(view.lane)}`}
              </strong>{" "}
              {word("availability", view.availability)}
              {view.detail && ` · ${view.detail}`} <span class="muted id">{view.device}</span>
            </li>
          ))}
        </ul>
      )}
      <details>
        <summary>{t("deviceHealth")}</summary>
        <ul class="device-rows">
          {all.map((view) => (
            <Row key={view.device} view={view} />
          ))}
        </ul>
      </details>
    </section>
  );
}

/** Two lines: what it is and how it is since when; then its figures, as far as there are any. */
function Row({ view }: { view: DeviceView }): JSX.Element {
  const troubled = view.availability !== "available";
  return (
    <li class="device-row">
      <strong>{view.device}</strong> <span class="muted">{word("device", view.kind)}</span>
      <span class={`device-state ${troubled ? "tone-warn" : ""}`}>
        {word("availability", view.availability)}
        {view.since !== null && <span class="muted"> {t("sinceTime", { time: clock(view.since) })}</span>}
      </span>
      <div class="device-figures">
        {figures(view).map(([text, warn]) => (
          <span key={text} class={warn ? "tone-warn" : "muted"}>
            {text}
          </span>
        ))}
      </div>
    </li>
  );
}

/** Each figure in words, and whether it deserves a look. */
function figures(view: DeviceView): [string, boolean][] {
  const found: [string, boolean][] = [];
  if (view.last_said !== "") {
    const at = view.last_said_at === null ? "" : ` ${clock(view.last_said_at)}`;
    found.push([`${t("lastSaid")}: ${view.last_said}${at}`, false]);
  }
  if (counted(view) !== "") found.push([counted(view), false]);
  if (view.bad_frames > 0 && view.error_rate !== null) {
    const rate = (view.error_rate * 100).toFixed(view.error_rate < 0.01 ? 2 : 1);
    found.push([t("badFrames", { n: count(view.bad_frames), rate }), view.error_rate >= ERRORS_SHOWN]);
  }
  if (view.reconnects > 0) found.push([t("reconnects", { n: count(view.reconnects) }), false]);
  if (view.clock_skew_s !== null) {
    const skew = view.clock_skew_s.toFixed(1);
    found.push([t("clockSkew", { s: skew }), Math.abs(view.clock_skew_s) >= SKEW_SHOWN_S]);
  }
  if (view.firmware !== "") found.push([`${t("firmware")} ${view.firmware}`, false]);
  return found;
}

/** A device's own cumulative counts: in and out. */
function counted(view: DeviceView): string {
  if (view.entries === null && view.exits === null) return "";
  const parts = [
    view.entries === null ? "" : t("countedIn", { n: count(view.entries) }),
    view.exits === null ? "" : t("countedOut", { n: count(view.exits) }),
  ];
  return parts.filter(Boolean).join(language.value === "zh" ? "，" : ", ");
}

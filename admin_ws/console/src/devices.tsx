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
              <strong>{view.device}</strong> {word("device", view.kind)}
              {view.lane && ` · ${laneName(view.lane)}`} · {word("availability", view.availability)}
              {view.detail && <span class="muted"> · {view.detail}</span>}
            </li>
          ))}
        </ul>
      )}
      <details>
        <summary>{t("deviceHealth")}</summary>
        <div class="devices-table">
          <table>
            <thead>
              <tr>
                <th>{t("device")}</th>
                <th>{t("state")}</th>
                <th>{t("since")}</th>
                <th>{t("lastSaid")}</th>
                <th>{t("counted")}</th>
                <th>{t("badFrames")}</th>
                <th>{t("reconnects")}</th>
                <th>{t("clockSkew")}</th>
                <th>{t("firmware")}</th>
              </tr>
            </thead>
            <tbody>
              {all.map((view) => (
                <Row key={view.device} view={view} />
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </section>
  );
}

function Row({ view }: { view: DeviceView }): JSX.Element {
  const troubled = view.availability !== "available";
  const skewed = view.clock_skew_s !== null && Math.abs(view.clock_skew_s) >= SKEW_SHOWN_S;
  const noisy = view.error_rate !== null && view.error_rate >= ERRORS_SHOWN;
  return (
    <tr class={troubled ? "tone-warn" : ""}>
      <th scope="row">
        {view.device} <span class="muted">{word("device", view.kind)}</span>
      </th>
      <td title={view.detail}>{word("availability", view.availability)}</td>
      <td>{view.since === null ? "" : clock(view.since)}</td>
      <td>
        {view.last_said}
        {view.last_said_at !== null && <span class="muted"> {clock(view.last_said_at)}</span>}
      </td>
      <td>{counted(view)}</td>
      <td class={noisy ? "tone-warn" : ""}>
        {count(view.bad_frames)}
        {view.error_rate !== null && view.bad_frames > 0 && (
          <span class="muted"> {(view.error_rate * 100).toFixed(view.error_rate < 0.01 ? 2 : 1)} %</span>
        )}
      </td>
      <td>{count(view.reconnects)}</td>
      <td class={skewed ? "tone-warn" : ""}>{view.clock_skew_s === null ? "" : `${view.clock_skew_s.toFixed(1)} s`}</td>
      <td>{view.firmware}</td>
    </tr>
  );
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

import type { JSX } from "preact";
import { t, word } from "./i18n";
import { Icon } from "./icons";
import { devices, laneName } from "./store";

/** One calm line while everything works; the troubled ones by name when not. */
export function Devices(): JSX.Element | null {
  const all = [...devices.value.values()];
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
    </section>
  );
}

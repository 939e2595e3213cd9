import type { JSX } from "preact";
import { count } from "./format";
import { t } from "./i18n";
import { Icon, type IconName } from "./icons";
import { zone, zoneIds } from "./store";

export function Zones(): JSX.Element {
  return (
    <section class="zones" aria-label={t("zones")}>
      {zoneIds.value.map((id) => (
        <Zone key={id} id={id} />
      ))}
    </section>
  );
}

const looks: Record<string, [IconName, string]> = {
  normal: ["check", "ok"],
  slow: ["triangle", "warn"],
  full: ["octagon", "alarm"],
};

function Zone({ id }: { id: string }): JSX.Element {
  const view = zone(id);
  const [icon, tone] = looks[view.state] ?? ["dot", "warn"];
  const text =
    view.state === "normal" ? t("zoneNormal") : view.state === "slow" ? t("zoneSlow") : view.state === "full" ? t("zoneFull") : view.state;
  const limit = view.limit;
  const share = limit === null ? 0 : Math.min(100, (view.inside / limit) * 100);
  const heldShare = limit === null ? 0 : Math.min(100 - share, (view.held / limit) * 100);
  return (
    <article class={`card zone tone-${tone}`} data-zone={id}>
      <header>
        <h2>{view.name}</h2>
        <span class="state">
          <Icon name={icon} /> {text}
        </span>
      </header>
      <p class="figure">
        <strong>{count(view.inside)}</strong>
        <span class="muted">{limit === null ? ` ${t("inside")} · ${t("noLimit")}` : ` / ${count(limit)}`}</span>
        {limit !== null && <span class="percent">{Math.floor((view.inside / limit) * 100)} %</span>}
      </p>
      {limit === null ? (
        <div class="gauge gauge-none" />
      ) : (
        <svg
          class="gauge"
          viewBox="0 0 100 8"
          preserveAspectRatio="none"
          role="meter"
          aria-label={`${view.name}: ${t("inside")}`}
          aria-valuenow={view.inside}
          aria-valuemin={0}
          aria-valuemax={limit}
        >
          <rect class="gauge-all" width="100" height="8" />
          <rect class="gauge-in" width={share} height="8" />
          <rect class="gauge-held" x={share} width={heldShare} height="8" />
        </svg>
      )}
      <p class="held muted">{view.held > 0 ? t("held", { n: view.held }) : "\u00a0"}</p>
    </article>
  );
}

// The rail at the left: the pages, what waits on each, and under them the evacuation, which is always in the same place.

import type { JSX } from "preact";
import { openCases } from "./cases";
import { EvacuationTrigger } from "./evacuation";
import { t } from "./i18n";
import { Icon } from "./icons";
import { href, type PageEntry, type PageName } from "./router";
import { devices, laneIds, lane } from "./store";

export function Rail({ pages, shown }: { pages: readonly PageEntry[]; shown: PageName }): JSX.Element {
  return (
    <div class="rail">
      <nav class="rail-pages" aria-label={t("pages")}>
        {pages.map((page) => (
          <a
            key={page.name}
            class={page.name === shown ? "rail-page is-on" : "rail-page"}
            href={href(page.name)}
            data-page={page.name}
            aria-current={page.name === shown ? "page" : undefined}
            aria-keyshortcuts={`g ${page.key}`}
          >
            <Icon name={page.icon} size="1.25em" />
            <span class="rail-name">{t(page.text)}</span>
            <Waiting page={page.name} />
          </a>
        ))}
      </nav>
      <EvacuationTrigger />
    </div>
  );
}

/** How many things on a page want somebody. */
function Waiting({ page }: { page: PageName }): JSX.Element | null {
  let n = 0;
  if (page === "devices") n = [...devices.value.values()].filter((view) => view.availability !== "available").length;
  else if (page === "lanes") n = laneIds.value.filter((id) => lane(id).alarm !== "" || !lane(id).available).length;
  else if (page === "cases") n = openCases.value;
  if (n === 0) return null;
  return (
    <span class="rail-count" aria-label={t("waitingHere", { n })}>
      {n > 99 ? "99+" : n}
    </span>
  );
}

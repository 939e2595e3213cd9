// The page: the rail at the left with the evacuation in it, a bar on top, and between them what the session may see.

import { effect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Cases } from "./cases";
import { DevicesPage } from "./devices_page";
import { EvacuationBanner, EvacuationPanel } from "./evacuation";
import { Find } from "./find";
import { FlowPage } from "./flow_page";
import { language, t } from "./i18n";
import { LanesPage } from "./lanes_page";
import { Login, PasswordChange } from "./login";
import { Rail } from "./nav";
import { Office } from "./office";
import { Overview } from "./overview";
import { PAGES, route, wall, type PageName } from "./router";
import { connection } from "./rpc";
import { Sales } from "./sales";
import { Settings } from "./settings";
import { Help, useShortcuts } from "./shortcuts";
import { ageMs, may, mustChangePassword, released, session, sessionOver, siteName, stale, subscribed } from "./store";
import { System } from "./system";
import { theme } from "./theme";
import { TopBar } from "./topbar";
import { Users } from "./users";

const BODIES: Record<PageName, () => JSX.Element | null> = {
  overview: Overview,
  lanes: LanesPage,
  devices: DevicesPage,
  cases: Cases,
  find: Find,
  flow: FlowPage,
  office: Office,
  sales: Sales,
  system: System,
  users: Users,
  settings: Settings,
};

effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
});
effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
});
if (wall) document.documentElement.classList.add("is-wall");

export function App(): JSX.Element {
  return session.value === null ? <Login /> : <Frame />;
}

function Frame(): JSX.Element {
  const seesSite = may("site.subscribe");
  const pages = mustChangePassword.value ? [] : PAGES.filter((page) => page.needs.some(may)); // first things first
  const asked = pages.find((page) => page.name === route.value.page);
  const shown = asked ?? pages[0] ?? PAGES[0]!;
  const title = t(shown.text);
  useShortcuts(pages);
  useEffect(() => {
    document.title = siteName.value ? `${title} · ${siteName.value} · Paifang` : `${title} · Paifang 牌坊`;
  }, [title, siteName.value]);
  const Body = BODIES[shown.name];
  return (
    <div class={`page ${stale.value && seesSite ? "is-stale" : ""} ${released.value ? "is-released" : ""}`}>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        {t("skip")}
      </a>
      <Rail pages={pages} shown={shown.name} />
      <div class="frame">
        <TopBar title={title} />
        <EvacuationBanner />
        {stale.value && seesSite && <StaleBanner />}
        <div class={released.value ? "body has-side" : "body"}>
          <main id="main" tabIndex={-1} class={`main main-${shown.name}`} aria-label={title}>
            {sessionOver.value ? <Login again /> : mustChangePassword.value ? <PasswordChange /> : <Body />}
          </main>
          {released.value && (
            <aside class="side" aria-label={t("evacuate")}>
              <EvacuationPanel />
            </aside>
          )}
        </div>
      </div>
      <Help pages={pages} />
    </div>
  );
}

function StaleBanner(): JSX.Element {
  const offline = connection.value !== "open";
  return (
    <div class="banner banner-stale" role="alert">
      <strong>
        {subscribed.value || ageMs.value < 1e6
          ? t("staleBanner", { age: Math.floor(ageMs.value / 1000) })
          : t("neverBanner")}
      </strong>
      {offline && <span>{t("offlineHint")}</span>}
    </div>
  );
}

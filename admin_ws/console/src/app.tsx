// The page: a bar on top, the evacuation always at the right, and between them what the session may see.

import { effect } from "@preact/signals";
import type { JSX } from "preact";
import { Devices } from "./devices";
import { EvacuationBanner, EvacuationPanel } from "./evacuation";
import { Feed } from "./feed";
import { Flow } from "./flow";
import { language, t } from "./i18n";
import { LanePanel, Lanes, selectedLane } from "./lanes";
import { Login } from "./login";
import { Office } from "./office";
import { connection } from "./rpc";
import { Sales } from "./sales";
import { ageMs, may, released, session, sessionOver, siteName, stale, subscribed, view, type View } from "./store";
import { System } from "./system";
import { theme } from "./theme";
import { TopBar } from "./topbar";
import { Zones } from "./zones";

effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
});
effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
  document.title = siteName.value ? `${siteName.value} · Paifang` : "Paifang 牌坊";
});

export function App(): JSX.Element {
  if (session.value === null) return <Login />;
  const seesSite = may("site.subscribe");
  const sells = may("sales.sell");
  const inspects = may("site.inspect");
  const choices: View[] = [...(seesSite ? (["overview"] as const) : []), ...(sells ? (["sales"] as const) : [])];
  if (may("office.find")) choices.push("office");
  if (inspects) choices.push("system");
  const shown: View = choices.includes(view.value) ? view.value : seesSite ? "overview" : "sales";
  return (
    <div class={`page ${stale.value && seesSite ? "is-stale" : ""} ${released.value ? "is-released" : ""}`}>
      <TopBar shown={shown} choices={choices} />
      <EvacuationBanner />
      {stale.value && seesSite && <StaleBanner />}
      <div class="body">
        <main class={`main main-${shown}`}>
          {sessionOver.value ? (
            <Login again />
          ) : shown === "sales" ? (
            <Sales />
          ) : shown === "office" ? (
            <Office />
          ) : shown === "system" ? (
            <System />
          ) : (
            <>
              <Zones />
              <Lanes />
              <Flow />
              {selectedLane.value !== null && <LanePanel />}
            </>
          )}
        </main>
        <aside class="side">
          <EvacuationPanel />
          {seesSite && <Devices />}
          {seesSite && <Feed />}
        </aside>
      </div>
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

import type { JSX } from "preact";
import { clock, day } from "./format";
import { language, setLanguage, t, word } from "./i18n";
import { Icon } from "./icons";
import { connection } from "./rpc";
import { ageMs, serverNow, session, signOut, siteName, stale, view, type View } from "./store";
import { setTheme, theme } from "./theme";

export function TopBar({ shown, choices }: { shown: View; choices: View[] }): JSX.Element {
  return (
    <header class="topbar">
      <h1 class="site">{siteName.value || "Paifang 牌坊"}</h1>
      {choices.length > 1 && (
        <nav class="tabs">
          {choices.map((choice) => (
            <button
              key={choice}
              type="button"
              class={choice === shown ? "tab is-on" : "tab"}
              aria-current={choice === shown ? "page" : undefined}
              onClick={() => (view.value = choice)}
            >
              {t(choice)}
            </button>
          ))}
        </nav>
      )}
      <span class="spacer" />
      <ConnectionState />
      <time class="clock" aria-label={t("clockLabel")}>
        <span class="date">{day(serverNow.value)}</span>
        <span class="time">{clock(serverNow.value)}</span>
      </time>
      <Switches />
      <span class="who">
        <Icon name="person" />
        <span>
          {session.value?.user}
          <small>{word("role", session.value?.role ?? "")}</small>
        </span>
      </span>
      <button type="button" class="quiet" onClick={signOut}>
        {t("signOut")}
      </button>
    </header>
  );
}

export function Switches(): JSX.Element {
  return (
    <>
      <button
        type="button"
        class="quiet"
        lang={language.value === "zh" ? "en" : "zh"}
        onClick={() => setLanguage(language.value === "zh" ? "en" : "zh")}
      >
        {language.value === "zh" ? "English" : "中文"}
      </button>
      <button
        type="button"
        class="quiet"
        aria-label={t("theme")}
        title={t("theme")}
        onClick={() => setTheme(theme.value === "dark" ? "light" : "dark")}
      >
        <Icon name={theme.value === "dark" ? "sun" : "moon"} size="1.3em" />
      </button>
    </>
  );
}

function ConnectionState(): JSX.Element {
  const open = connection.value === "open";
  const state = !open ? "offline" : stale.value ? "stale" : "live";
  const age = Math.floor(ageMs.value / 1000);
  return (
    <span class={`pill pill-${state}`} role="status" data-testid="connection">
      <Icon name={state === "live" ? "check" : state === "stale" ? "triangle" : "plug"} />
      {state === "offline" && connection.value === "connecting" ? t("connecting") : t(state)}
      {state === "stale" && age > 0 && ` ${age} s`}
    </span>
  );
}

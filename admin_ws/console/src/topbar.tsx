import type { JSX } from "preact";
import { clock, day } from "./format";
import { language, setLanguage, t, word } from "./i18n";
import { Icon } from "./icons";
import { connection } from "./rpc";
import { helpOpen } from "./shortcuts";
import { setSound, sound } from "./sound";
import { ageMs, serverNow, session, signOut, siteName, stale } from "./store";
import { setTheme, theme } from "./theme";

export function TopBar({ title }: { title: string }): JSX.Element {
  return (
    <header class="topbar">
      <p class="site">{siteName.value || "Paifang 牌坊"}</p>
      <h1 class="page-title">{title}</h1>
      <span class="spacer" />
      <ConnectionState />
      <time class="clock" aria-label={t("clockLabel")}>
        <span class="date">{day(serverNow.value)}</span>
        <span class="time">{clock(serverNow.value)}</span>
      </time>
      <button
        type="button"
        class="quiet only-icon"
        aria-pressed={sound.value}
        aria-label={t("soundSwitch")}
        title={t(sound.value ? "soundOn" : "soundOff")}
        onClick={() => setSound(!sound.value)}
      >
        <Icon name={sound.value ? "bell" : "bellOff"} size="1.3em" />
      </button>
      <Switches />
      <button
        type="button"
        class="quiet only-icon"
        aria-label={t("keys")}
        title={`${t("keys")} (?)`}
        onClick={() => (helpOpen.value = true)}
      >
        <Icon name="question" size="1.3em" />
      </button>
      <span class="who">
        <Icon name="person" />
        <span>
          {session.value?.user}
          <small>{word("role", session.value?.role ?? "")}</small>
        </span>
      </span>
      <button type="button" class="quiet" onClick={() => void signOut()}>
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
        class="quiet only-icon"
        data-testid="theme"
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

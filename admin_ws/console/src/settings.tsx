// The site file as it would be read anew, the modes that run, and one's own password and second factor.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { pick, t, word } from "./i18n";
import { Icon } from "./icons";
import { ModesCard } from "./modes";
import { Own } from "./own";
import { call, type CallError } from "./rpc";
import { setSound, sound } from "./sound";
import { asCallError, may } from "./store";
import type { Reloaded } from "./types";

const RELOAD_TIMEOUT_MS = 35_000;

const told = signal<{ result: Reloaded; applied: boolean } | null>(null);
const problem = signal<CallError | null>(null);
const busy = signal(false);

async function reload(dryRun: boolean): Promise<void> {
  if (busy.value) return;
  busy.value = true;
  problem.value = null;
  try {
    told.value = { result: await call("site.reload", { dry_run: dryRun }, RELOAD_TIMEOUT_MS), applied: !dryRun };
  } catch (error) {
    told.value = null;
    problem.value = asCallError(error);
  } finally {
    busy.value = false;
  }
}

export function Settings(): JSX.Element {
  return (
    <div class="settings">
      {may("mode.list") && <ModesCard />}
      {may("site.reload") && <SiteFile />}
      <Own />
      <section class="card" aria-label={t("thisDesk")}>
        <h2>{t("thisDesk")}</h2>
        <label class="check">
          <input type="checkbox" checked={sound.value} onChange={(event) => setSound(event.currentTarget.checked)} />
          {t("soundSwitch")}
        </label>
        <p class="muted">
          {t("wallHint")} <a href={`${location.pathname}?wall#/overview`}>?wall</a>
        </p>
      </section>
    </div>
  );
}

function SiteFile(): JSX.Element {
  const changes = told.value?.result.changes ?? [];
  return (
    <section class="card table-card" aria-label={t("siteFile")}>
      <header class="section-head">
        <h2>{t("siteFile")}</h2>
        <span class="spacer" />
        <button type="button" data-command="check" disabled={busy.value} onClick={() => void reload(true)}>
          <Icon name="search" /> {t("showChanges")}
        </button>
        <button
          type="button"
          class="primary"
          data-command="reload"
          disabled={busy.value || told.value === null || told.value.applied || changes.length === 0}
          onClick={() => void reload(false)}
        >
          <Icon name="check" /> {t("applyChanges")}
        </button>
      </header>
      <p class="muted">{t("siteFileHint")}</p>
      {problem.value !== null && (
        <p class="error pre" role="alert" data-testid="reload-problem">
          <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
        </p>
      )}
      {told.value !== null && changes.length === 0 && (
        <p class="good" role="status">
          <Icon name="check" /> {t("noChanges")}
        </p>
      )}
      {changes.length > 0 && (
        <div class="scroll" tabIndex={0} role="group" aria-label={t("siteFile")}>
          <table data-testid="changes">
            <thead>
              <tr>
                <th scope="col">{t("what")}</th>
                <th scope="col">{t("changeKind")}</th>
                <th scope="col">{t("detail")}</th>
                <th scope="col">{t("effect")}</th>
              </tr>
            </thead>
            <tbody>
              {changes.map((one) => (
                <tr key={`${one.subject} ${one.what}`} data-subject={one.subject}>
                  <th scope="row">{one.subject}</th>
                  <td class={`diff-${one.what}`}>{word("change", one.what)}</td>
                  <td class="wide">
                    <code>{one.detail}</code>
                  </td>
                  <td class={one.state === "restart" || one.state === "waits" ? "warn" : "good"}>{word("effect", one.state)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {told.value?.result.warnings.map((warning) => (
        <p key={warning} class="warn">
          <Icon name="triangle" /> {warning}
        </p>
      ))}
    </section>
  );
}

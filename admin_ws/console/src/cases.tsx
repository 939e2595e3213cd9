// What waits for people: tailgating, forced gates, conflicts, device alarms. Seen, taken, noted, closed.

import { computed, effect, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { dateTime, span } from "./format";
import { pick, t, word } from "./i18n";
import { Icon } from "./icons";
import { go, href, route } from "./router";
import { call, type CallError } from "./rpc";
import { asCallError, feed, laneName, may, serverNow, session, stale } from "./store";
import type { CaseView } from "./types";

const LIST_MOST = 300; // cases asked for at once
const RELOAD_AFTER_MS = 600; // after a case was spoken of, so that a storm of them is one question
const RELOAD_EVERY_MS = 30_000;
const DETAIL_MOST = 500; // characters, as the server takes them

type Which = "waiting" | "all";
const which = signal<Which>("waiting");
const cases = signal<readonly CaseView[]>([]);
const problem = signal<CallError | null>(null);
const loaded = signal(false);
let timer = 0;

const waiting = computed(() => cases.value.filter((one) => one.state !== "closed" && one.state !== "resolved"));
export const openCases = computed(() => waiting.value.filter((one) => one.state === "open").length);

async function load(): Promise<void> {
  if (!may("cases.list")) return;
  try {
    cases.value = (await call("cases.list", { state: which.value === "all" ? "all" : "waiting", limit: LIST_MOST })).cases;
    problem.value = null;
    loaded.value = true;
  } catch (error) {
    problem.value = asCallError(error);
  }
}

function soon(): void {
  window.clearTimeout(timer);
  timer = window.setTimeout(() => void load(), RELOAD_AFTER_MS);
}

/** Cases are asked for when the feed speaks of one, after a silence, and now and then. */
export function startCases(): void {
  let seen = 0;
  effect(() => {
    const lines = feed.value;
    const newest = lines.at(-1)?.seq ?? 0;
    let spoken = false;
    for (let index = lines.length - 1; index >= 0 && lines[index]!.seq > seen && !spoken; index--) {
      const line = lines[index]!;
      spoken = line.kind === "case" || line.kind === "alarm";
    }
    seen = newest;
    if (spoken) soon();
  });
  effect(() => {
    if (session.value !== null && !stale.value) soon();
    if (session.value === null) cases.value = [];
  });
  window.setInterval(() => void load(), RELOAD_EVERY_MS);
}

function bySeverity(a: CaseView, b: CaseView): number {
  const rank = (one: CaseView) => ["alarm", "warning", "notice", "info"].indexOf(one.severity);
  return Number(a.state !== "open") - Number(b.state !== "open") || rank(a) - rank(b) || b.opened_at - a.opened_at;
}

/** On the overview: how many wait, and the three that wait most urgently. */
export function CasesCard(): JSX.Element | null {
  if (!may("cases.list")) return null;
  const top = [...waiting.value].sort(bySeverity).slice(0, 3);
  return (
    <section class={`card cases-card ${openCases.value > 0 ? "tone-warn" : ""}`} aria-label={t("cases")}>
      <h2 class={openCases.value > 0 ? "warn" : "good"}>
        <Icon name={openCases.value > 0 ? "triangle" : "check"} />{" "}
        <a href={href("cases")}>{openCases.value > 0 ? t("casesOpen", { n: openCases.value }) : t("casesNone")}</a>
      </h2>
      {top.length > 0 && (
        <ul>
          {top.map((one) => (
            <li key={one.case} class={`severity-${one.severity}`}>
              <a href={href("cases", String(one.case))}>
                {word("alarm", one.kind)} {one.lane && `· ${laneName(one.lane)}`}
              </a>
              <span class="muted">{age(one)}</span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function age(one: CaseView): string {
  return span(serverNow.value - one.opened_at);
}

export function Cases(): JSX.Element {
  useEffect(() => void load(), [which.value]);
  const shown = [...(which.value === "all" ? cases.value : waiting.value)].sort(bySeverity);
  const chosen = cases.value.find((one) => String(one.case) === route.value.argument);
  return (
    <div class={chosen ? "split has-panel" : "split"}>
      <section class="card table-card" aria-label={t("cases")}>
        <header class="section-head">
          <h2 class={openCases.value > 0 ? "warn" : "good"}>
            <Icon name={openCases.value > 0 ? "triangle" : "check"} />{" "}
            {openCases.value > 0 ? t("casesOpen", { n: openCases.value }) : t("casesNone")}
          </h2>
          <span class="spacer" />
          <div class="chips" role="group" aria-label={t("filter")}>
            {(["waiting", "all"] as const).map((one) => (
              <button
                key={one}
                type="button"
                class={which.value === one ? "chip is-on" : "chip"}
                aria-pressed={which.value === one}
                onClick={() => (which.value = one)}
              >
                {t(one === "all" ? "all" : "casesWaiting")}
              </button>
            ))}
          </div>
        </header>
        {problem.value !== null && (
          <p class="error" role="alert">
            <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
          </p>
        )}
        <div class="scroll" tabIndex={0} role="group" aria-label={t("cases")}>
          <table data-testid="cases">
            <thead>
              <tr>
                <th scope="col">{t("number")}</th>
                <th scope="col">{t("what")}</th>
                <th scope="col">{t("lane")}</th>
                <th scope="col">{t("detail")}</th>
                <th scope="col">{t("state")}</th>
                <th scope="col" class="beside">{t("assignedTo")}</th>
                <th scope="col" class="beside">{t("since")}</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((one) => (
                <tr
                  key={one.case}
                  data-case={one.case}
                  data-state={one.state}
                  class={`${one.state === "open" && one.severity !== "info" ? "is-troubled" : ""} ${chosen === one ? "is-chosen" : ""}`}
                >
                  <th scope="row">
                    <a href={chosen === one ? href("cases") : href("cases", String(one.case))}>{one.case}</a>
                  </th>
                  <td class={one.severity === "alarm" ? "alarm" : one.severity === "warning" ? "warn" : ""}>
                    <Icon name={one.severity === "alarm" ? "octagon" : one.severity === "warning" ? "triangle" : "dot"} size="1em" />{" "}
                    {word("alarm", one.kind)}
                  </td>
                  <td class="nowrap">{one.lane === "" ? "" : <a href={href("lanes", one.lane)}>{laneName(one.lane)}</a>}</td>
                  <td class="wide">{one.detail}</td>
                  <td>{word("caseState", one.state)}</td>
                  <td class="beside">{one.assigned_to}</td>
                  <td class="nowrap beside">
                    {age(one)} <span class="muted">{dateTime(one.opened_at)}</span>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
          {shown.length === 0 && loaded.value && <p class="muted nothing">{t("casesNone")}</p>}
        </div>
      </section>
      {chosen && <Work key={chosen.case} one={chosen} />}
    </div>
  );
}

/** One case in hand. */
function Work({ one }: { one: CaseView }): JSX.Element {
  const [text, setText] = useState("");
  const [to, setTo] = useState(one.assigned_to || session.value?.user || "");
  const [told, setTold] = useState<{ text: string; bad: boolean } | null>(null);
  const run = async (what: () => Promise<unknown>, needsText = false) => {
    if (needsText && text.trim() === "") {
      setTold({ text: t("needText"), bad: true });
      return;
    }
    try {
      await what();
      setTold({ text: t("done_"), bad: false });
      setText("");
      await load();
    } catch (error) {
      const failed = asCallError(error);
      setTold({ text: pick(failed.zh, failed.en), bad: true });
    }
  };
  const over = one.state === "closed" || one.state === "resolved";
  return (
    <section class="card panel" aria-label={`${t("case")} ${one.case}`} data-testid="case">
      <header class="section-head">
        <h2>
          {t("case")} {one.case} · {word("alarm", one.kind)}
        </h2>
        <span class="spacer" />
        <button type="button" class="quiet" onClick={() => go("cases")}>
          <Icon name="cross" /> {t("close")}
        </button>
      </header>
      <p>{one.detail}</p>
      <dl class="facts">
        <dt>{t("lane")}</dt>
        <dd>{one.lane === "" ? "–" : <a href={href("lanes", one.lane)}>{laneName(one.lane)}</a>}</dd>
        <dt>{t("state")}</dt>
        <dd data-fact="state">{word("caseState", one.state)}</dd>
        <dt>{t("since")}</dt>
        <dd>{dateTime(one.opened_at)}</dd>
        <dt>{t("assignedTo")}</dt>
        <dd data-fact="assigned">{one.assigned_to || "–"}</dd>
      </dl>
      {!over && (
        <div class="commands">
          <div class="button-row">
            {one.state === "open" && may("cases.acknowledge") && (
              <button type="button" class="primary" data-command="acknowledge" onClick={() => void run(() => call("cases.acknowledge", { case: one.case }))}>
                <Icon name="check" /> {t("acknowledge")}
              </button>
            )}
          </div>
          {may("cases.assign") && (
            <form
              class="inline"
              onSubmit={(event) => {
                event.preventDefault();
                void run(() => call("cases.assign", { case: one.case, to: to.trim() }));
              }}
            >
              <label>
                {t("assignTo")}
                <input name="assign" value={to} maxLength={64} onInput={(event) => setTo(event.currentTarget.value)} />
              </label>
              <button type="submit" data-command="assign">
                <Icon name="person" /> {t("assign")}
              </button>
            </form>
          )}
          <label>
            {t("noteText")}
            <textarea name="note" rows={3} maxLength={DETAIL_MOST} value={text} onInput={(event) => setText(event.currentTarget.value)} />
          </label>
          <div class="button-row">
            {may("cases.note") && (
              <button type="button" data-command="note" onClick={() => void run(() => call("cases.note", { case: one.case, text: oneLine(text) }), true)}>
                <Icon name="folder" /> {t("addNote")}
              </button>
            )}
            {may("cases.close") && (
              <button type="button" data-command="close" onClick={() => void run(() => call("cases.close", { case: one.case, reason: oneLine(text) }), true)}>
                <Icon name="lock" /> {t("closeCase")}
              </button>
            )}
          </div>
        </div>
      )}
      {told !== null && (
        <p class={told.bad ? "error" : "good"} role="status" data-testid="told">
          <Icon name={told.bad ? "cross" : "check"} /> {told.text}
        </p>
      )}
      <section class="passages" aria-label={t("notes")}>
        <h3>{t("notes")}</h3>
        <ol>
          {one.notes.map((note) => (
            <li key={`${note.at} ${note.by} ${note.text}`}>
              <time>{dateTime(note.at)}</time> <b>{note.by}</b> <span>{note.text}</span>
            </li>
          ))}
          {one.notes.length === 0 && <li class="muted">{t("noNotes")}</li>}
        </ol>
      </section>
    </section>
  );
}

/** A note is one line on the wire. */
function oneLine(text: string): string {
  return text.trim().replace(/\s+/g, " ");
}

// What the site does differently for a while: who started it, why, until when; a new one, and an end before its time.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { clock, span } from "./format";
import { pick, t } from "./i18n";
import { Icon } from "./icons";
import { call, type CallError } from "./rpc";
import { asCallError, laneIds, laneName, may, serverNow, zoneIds, zoneName } from "./store";
import type { KindView, Modes } from "./types";

const LOOK_EVERY_MS = 5_000;
const REASON_MOST = 200; // characters, as the server takes them

const modes = signal<Modes>({ type: "Modes", modes: [], kinds: [] });
const problem = signal<CallError | null>(null);

async function load(): Promise<void> {
  try {
    modes.value = await call("mode.list", {});
    problem.value = null;
  } catch (error) {
    problem.value = asCallError(error);
  }
}

async function run(what: () => Promise<unknown>): Promise<boolean> {
  try {
    await what();
    await load();
    return true;
  } catch (error) {
    problem.value = asCallError(error);
    return false;
  }
}

function subjectName(subject: string): string {
  if (laneIds.value.includes(subject)) return laneName(subject);
  return zoneIds.value.includes(subject) ? zoneName(subject) : subject;
}

export function ModesCard(): JSX.Element {
  useEffect(() => {
    void load();
    const timer = window.setInterval(() => void load(), LOOK_EVERY_MS);
    return () => window.clearInterval(timer);
  }, []);
  return (
    <section class="card table-card" aria-label={t("modes")} data-testid="modes">
      <header class="section-head">
        <h2>{t("modes")}</h2>
        <span class="muted">{modes.value.modes.length === 0 ? t("noModes") : ""}</span>
      </header>
      {problem.value !== null && (
        <p class="error" role="alert">
          <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
        </p>
      )}
      {modes.value.modes.length > 0 && (
        <div class="scroll" tabIndex={0} role="group" aria-label={t("modes")}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("mode")}</th>
                <th scope="col">{t("where")}</th>
                <th scope="col">{t("owner")}</th>
                <th scope="col">{t("reasonShort")}</th>
                <th scope="col">{t("endsAt")}</th>
                <th scope="col">{t("commands")}</th>
              </tr>
            </thead>
            <tbody>
              {modes.value.modes.map((one) => (
                <tr key={one.mode} data-mode-kind={one.kind}>
                  <th scope="row">{pick(one.zh, one.en)}</th>
                  <td>{subjectName(one.subject)}</td>
                  <td>{one.owner}</td>
                  <td class="wide">{one.reason}</td>
                  <td class="nowrap">
                    {clock(one.until, false)} <span class="muted">{t("stillFor", { time: span(one.until - serverNow.value) })}</span>
                    {!one.in_force && <span class="warn"> {t("notInForce")}</span>}
                  </td>
                  <td>{may("mode.end") && <End mode={one.mode} />}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {may("mode.start") && modes.value.kinds.length > 0 && <Start kinds={modes.value.kinds} />}
    </section>
  );
}

function End({ mode }: { mode: number }): JSX.Element {
  return (
    <button type="button" class="small" onClick={() => void run(() => call("mode.end", { mode, reason: t("endedHere") }))}>
      {t("endNow")}
    </button>
  );
}

function Start({ kinds }: { kinds: readonly KindView[] }): JSX.Element {
  const [chosen, setChosen] = useState(kinds[0]!.kind);
  const kind = kinds.find((one) => one.kind === chosen) ?? kinds[0]!;
  const [subject, setSubject] = useState("");
  const [minutes, setMinutes] = useState(30);
  const [reason, setReason] = useState("");
  const where = kind.subjects.includes(subject) ? subject : (kind.subjects[0] ?? "");
  return (
    <form
      class="mode-form"
      onSubmit={(event) => {
        event.preventDefault();
        const asked = { kind: kind.kind, subject: where, minutes: Math.min(minutes, kind.max_minutes), reason: reason.trim() };
        void run(() => call("mode.start", asked)).then((done) => done && setReason(""));
      }}
    >
      <label>
        {t("mode")}
        <select name="mode-kind" value={kind.kind} onChange={(event) => setChosen(event.currentTarget.value)}>
          {kinds.map((one) => (
            <option key={one.kind} value={one.kind}>
              {pick(one.zh, one.en)}
            </option>
          ))}
        </select>
      </label>
      <label>
        {t("where")}
        <select name="mode-subject" value={where} onChange={(event) => setSubject(event.currentTarget.value)}>
          {kind.subjects.map((one) => (
            <option key={one} value={one}>
              {subjectName(one)}
            </option>
          ))}
        </select>
      </label>
      <label>
        {t("minutesMost", { n: kind.max_minutes })}
        <input
          type="number"
          name="mode-minutes"
          min={1}
          max={kind.max_minutes}
          value={Math.min(minutes, kind.max_minutes)}
          onInput={(event) => setMinutes(event.currentTarget.valueAsNumber || 1)}
        />
      </label>
      <label>
        {t("reason")}
        <input name="mode-reason" required maxLength={REASON_MOST} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      <button type="submit" class="primary" data-command="start-mode">
        <Icon name="clock" /> {t("startMode")}
      </button>
    </form>
  );
}

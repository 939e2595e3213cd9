// How people move: entries, exits and refusals by minute, hour or day; why people were refused; how fast each lane is.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { clock, count, dateTime } from "./format";
import { Flow } from "./flow";
import { language, pick, t } from "./i18n";
import { Icon } from "./icons";
import { href } from "./router";
import { call, type CallError } from "./rpc";
import { asCallError, laneName, may } from "./store";
import type { FlowReport } from "./types";
import { Zones } from "./zones";

const LOOK_EVERY_MS = 15_000;
const SLOW_TIMES = 1.5; // of the site's median: a lane that is slower gets a hint
const BARS_HIGH = 250; // of the drawing of 260
const FEW = 5; // passages; of fewer nothing is concluded

type Span = "minute" | "hour" | "day";
const SPANS: Record<Span, { step: number; back: number }> = {
  minute: { step: 60, back: 3600 },
  hour: { step: 3600, back: 24 * 3600 },
  day: { step: 86_400, back: 14 * 86_400 },
};

const span = signal<Span>("hour");
const report = signal<FlowReport | null>(null);
const problem = signal<CallError | null>(null);

async function load(): Promise<void> {
  if (!may("flow.report")) return;
  try {
    report.value = await call("flow.report", { span: span.value });
    problem.value = null;
  } catch (error) {
    problem.value = asCallError(error);
  }
}

export function FlowPage(): JSX.Element {
  const chosen = span.value;
  useEffect(() => {
    void load();
    const timer = window.setInterval(() => void load(), LOOK_EVERY_MS);
    return () => window.clearInterval(timer);
  }, [chosen]);
  return (
    <div class="flow-page">
      <Zones plain />
      <Flow />
      {may("flow.report") && (
        <>
          <header class="section-head">
            <div class="chips" role="group" aria-label={t("span")}>
              {(Object.keys(SPANS) as Span[]).map((one) => (
                <button key={one} type="button" class={one === chosen ? "chip is-on" : "chip"} aria-pressed={one === chosen} onClick={() => (span.value = one)}>
                  {t(one === "minute" ? "perMinute" : one === "hour" ? "perHour" : "perDay")}
                </button>
              ))}
            </div>
            {problem.value !== null && (
              <p class="error" role="alert">
                <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
              </p>
            )}
          </header>
          {report.value !== null && <Report told={report.value} />}
        </>
      )}
    </div>
  );
}

function Report({ told }: { told: FlowReport }): JSX.Element {
  return (
    <div class="report" data-testid="flow-report">
      <Bars told={told} />
      <Reasons told={told} />
      <LaneTable told={told} />
    </div>
  );
}

function label(at: number, step: number): string {
  if (step >= 86_400) return dateTime(at).slice(5, 10);
  return clock(at, false);
}

/** Entries upward, exits downward, from one line; people inside at the end of each as a number beside it in the table. */
function Bars({ told }: { told: FlowReport }): JSX.Element {
  const mostIn = Math.max(1, ...told.points.map((point) => point.entries));
  const mostOut = Math.max(1, ...told.points.map((point) => point.exits));
  const most = Math.max(mostIn, mostOut);
  const unit = BARS_HIGH / (mostIn + mostOut); // one scale for both ways
  const zero = mostIn * unit + 4;
  const width = 1000 / Math.max(1, told.points.length);
  const each = Math.ceil(told.points.length / 10);
  const entered = told.points.reduce((sum, point) => sum + point.entries, 0);
  const left = told.points.reduce((sum, point) => sum + point.exits, 0);
  return (
    <section class="card bars" aria-label={t("throughTime")}>
      <header class="section-head">
        <h2>{t("throughTime")}</h2>
        <span class="muted">
          ↑ {t("entries")} <b>{count(entered)}</b> · ↓ {t("exits")} <b>{count(left)}</b>
        </span>
        <span class="spacer" />
        <span class="muted">{t("mostOf", { n: count(most) })}</span>
      </header>
      <svg viewBox="0 0 1000 260" role="img" aria-label={`${t("entries")} ${entered}, ${t("exits")} ${left}`} preserveAspectRatio="none">
        <line class="bars-zero" x1="0" x2="1000" y1={zero} y2={zero} />
        {told.points.map((point, index) => (
          <g key={point.at}>
            <title>{`${dateTime(point.at)}: ${t("entries")} ${point.entries}, ${t("exits")} ${point.exits}, ${t("refused")} ${point.refused}`}</title>
            <rect class="bar-in" x={index * width + width * 0.12} width={width * 0.76} y={zero - point.entries * unit} height={point.entries * unit} />
            <rect class="bar-out" x={index * width + width * 0.12} width={width * 0.76} y={zero + 2} height={point.exits * unit} />
          </g>
        ))}
      </svg>
      <div class="bars-axis" aria-hidden="true">
        {told.points.map((point, index) => (
          <span key={point.at}>{index % each === 0 ? label(point.at, told.step_s) : ""}</span>
        ))}
      </div>
    </section>
  );
}

function Reasons({ told }: { told: FlowReport }): JSX.Element {
  const most = Math.max(1, ...told.refusals.map((one) => one.count));
  const all = told.refusals.reduce((sum, one) => sum + one.count, 0);
  return (
    <section class="card reasons" aria-label={t("refusalsByReason")}>
      <header class="section-head">
        <h2>{t("refusalsByReason")}</h2>
        <span class="muted">{count(all)}</span>
      </header>
      <ul lang={language.value}>
        {told.refusals.map((one) => (
          <li key={one.code} data-reason={one.code}>
            <span>{pick(one.text_zh, one.text_en) || one.code}</span>
            <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
              <rect width={(one.count / most) * 100} height="6" />
            </svg>
            <b>{count(one.count)}</b>
          </li>
        ))}
        {told.refusals.length === 0 && <li class="muted">{t("noRefusals")}</li>}
      </ul>
      {!told.complete && (
        <p class="warn" role="note" data-testid="incomplete">
          <Icon name="triangle" size="1em" /> {t("refusalsIncomplete")}
        </p>
      )}
    </section>
  );
}

function LaneTable({ told }: { told: FlowReport }): JSX.Element {
  const times = told.lanes.filter((one) => one.median_s !== null && one.entries >= FEW).map((one) => one.median_s!).sort((a, b) => a - b);
  const median = times[Math.floor(times.length / 2)] ?? null;
  return (
    <section class="card table-card lane-table" aria-label={t("throughput")}>
      <header class="section-head">
        <h2>{t("throughput")}</h2>
        {median !== null && <span class="muted">{t("medianAll", { s: median.toFixed(1) })}</span>}
      </header>
      <div class="scroll" tabIndex={0} role="group" aria-label={t("throughput")}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("lane")}</th>
              <th scope="col" class="number">{t("entries")}</th>
              <th scope="col" class="number">{t("exits")}</th>
              <th scope="col" class="number">{t("refused")}</th>
              <th scope="col" class="number">{t("busiest")}</th>
              <th scope="col" class="number">{t("medianPass")}</th>
              <th scope="col">{t("hint")}</th>
            </tr>
          </thead>
          <tbody>
            {told.lanes.map((one) => {
              const slow = median !== null && one.median_s !== null && one.entries >= FEW && one.median_s > median * SLOW_TIMES;
              return (
                <tr key={one.lane} data-throughput={one.lane} class={slow ? "is-troubled" : ""}>
                  <th scope="row">
                    <a href={href("lanes", one.lane)}>{laneName(one.lane)}</a>
                  </th>
                  <td class="number">{count(one.entries)}</td>
                  <td class="number">{count(one.exits)}</td>
                  <td class="number">{one.refused || ""}</td>
                  <td class="number">{one.busiest_minute || ""}</td>
                  <td class="number">{one.median_s === null ? "" : `${one.median_s.toFixed(1)} s`}</td>
                  <td class="warn">
                    {slow && (
                      <>
                        <Icon name="clock" size="1em" /> {t("slowLane")}
                      </>
                    )}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

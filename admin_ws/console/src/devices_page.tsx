// Every device: how it is and since when, its last words, its errors, and what it said lately.

import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { clock, count, span } from "./format";
import { t, told, word } from "./i18n";
import { Icon } from "./icons";
import { go, href, route } from "./router";
import { devices, feed, laneName, serverNow } from "./store";
import type { DeviceView } from "./types";

const TRACE_SHOWN = 40; // lines
const ERRORS_SHOWN = 0.001; // one damaged frame in a thousand is the weather of a long line
const SKEW_SHOWN_S = 2; // a clock that is off by less is right enough

const search = signal("");
const onlyBad = signal(false);

const shown = computed(() => {
  const wanted = search.value.trim().toLowerCase();
  return [...devices.value.values()]
    .filter((view) => !onlyBad.value || view.availability !== "available")
    .filter((view) =>
      `${view.device} ${view.kind} ${word("device", view.kind)} ${view.lane} ${laneName(view.lane)} ${view.detail}`.toLowerCase().includes(wanted),
    )
    .sort((a, b) => Number(a.availability === "available") - Number(b.availability === "available") || a.device.localeCompare(b.device, "en", { numeric: true }));
});

export function DevicesPage(): JSX.Element {
  const chosen = devices.value.get(route.value.argument);
  const bad = [...devices.value.values()].filter((view) => view.availability !== "available").length;
  return (
    <div class={chosen ? "split has-panel" : "split"}>
      <section class="card table-card" aria-label={t("devices")}>
        <header class="section-head">
          <h2 class={bad > 0 ? "warn" : "good"}>
            <Icon name={bad > 0 ? "triangle" : "check"} />{" "}
            {bad > 0 ? t("someDevices", { bad, n: devices.value.size }) : t("allDevices", { n: devices.value.size })}
          </h2>
          <span class="spacer" />
          <label class="check">
            <input type="checkbox" checked={onlyBad.value} onChange={(event) => (onlyBad.value = event.currentTarget.checked)} />
            {t("onlyTroubled")}
          </label>
          <input
            type="search"
            class="narrow"
            aria-label={t("filter")}
            placeholder={t("filter")}
            value={search.value}
            onInput={(event) => (search.value = event.currentTarget.value)}
          />
        </header>
        <div class="scroll" tabIndex={0} role="group" aria-label={t("devices")}>
          <table data-testid="devices">
            <thead>
              <tr>
                <th scope="col">{t("device")}</th>
                <th scope="col">{t("kind")}</th>
                <th scope="col">{t("lane")}</th>
                <th scope="col">{t("health")}</th>
                <th scope="col">{t("lastSaid")}</th>
                <th scope="col" class="number beside">{t("frames")}</th>
                <th scope="col" class="number beside">{t("errors")}</th>
                <th scope="col" class="number beside">{t("reconnectsShort")}</th>
                <th scope="col" class="beside">{t("firmware")}</th>
              </tr>
            </thead>
            <tbody>
              {shown.value.map((view) => (
                <Row key={view.device} view={view} isChosen={chosen?.device === view.device} />
              ))}
            </tbody>
          </table>
          {shown.value.length === 0 && <p class="muted nothing">{t("nothingFound")}</p>}
        </div>
      </section>
      {chosen && <Detail view={chosen} />}
    </div>
  );
}

function Row({ view, isChosen }: { view: DeviceView; isChosen: boolean }): JSX.Element {
  const troubled = view.availability !== "available";
  return (
    <tr data-device={view.device} class={`${troubled ? "is-troubled" : ""} ${isChosen ? "is-chosen" : ""}`} aria-selected={isChosen}>
      <th scope="row">
        <a href={isChosen ? href("devices") : href("devices", view.device)}>{view.device}</a>
      </th>
      <td class="nowrap">{word("device", view.kind)}</td>
      <td class="nowrap">{view.lane === "" ? "" : <a href={href("lanes", view.lane)}>{laneName(view.lane)}</a>}</td>
      <td class={troubled ? "warn" : "good"}>
        <span class="nowrap">
          <Icon name={troubled ? "plug" : "check"} size="1em" /> {word("availability", view.availability)}
        </span>
        {view.since !== null && <span class="muted nowrap"> {ago(view.since)}</span>}
        {troubled && view.detail !== "" && <small class="detail">{view.detail}</small>}
      </td>
      <td>
        {view.last_said}
        {view.last_said_at !== null && <span class="muted"> {clock(view.last_said_at)}</span>}
      </td>
      <td class="number beside">{view.frames > 0 ? count(view.frames) : ""}</td>
      <td class={`number nowrap beside ${(view.error_rate ?? 0) >= ERRORS_SHOWN ? "warn" : ""}`}>{errors(view)}</td>
      <td class="number beside">{view.reconnects || ""}</td>
      <td class="beside">
        {view.firmware}
        {view.clock_skew_s !== null && Math.abs(view.clock_skew_s) >= SKEW_SHOWN_S && (
          <span class="warn"> {t("clockSkew", { s: view.clock_skew_s.toFixed(1) })}</span>
        )}
      </td>
    </tr>
  );
}

function errors(view: DeviceView): string {
  if (view.error_rate === null || view.bad_frames === 0) return "";
  return `${count(view.bad_frames)} · ${(view.error_rate * 100).toFixed(view.error_rate < 0.01 ? 2 : 1)} %`;
}

function ago(at: number): string {
  return span(serverNow.value - at);
}

/** What the page heard of it: its lines of the feed, newest first. */
function Detail({ view }: { view: DeviceView }): JSX.Element {
  const lines = [];
  for (let index = feed.value.length - 1; index >= 0 && lines.length < TRACE_SHOWN; index--) {
    const line = feed.value[index]!;
    const names = `${line.text_en} ${line.text_zh} ${line.code}`;
    if (names.includes(view.device) || (view.lane !== "" && line.lane === view.lane)) lines.push(line);
  }
  const facts: [string, string][] = [
    [t("kind"), word("device", view.kind)],
    [t("lane"), view.lane === "" ? "–" : laneName(view.lane)],
    [t("health"), word("availability", view.availability)],
    [t("lastError"), view.detail || "–"],
    [t("lastSaid"), view.last_said || "–"],
    [t("counters"), view.entries === null ? "–" : `${t("countedIn", { n: count(view.entries) })} · ${t("countedOut", { n: count(view.exits ?? 0) })}`],
    [t("frames"), `${count(view.frames)} · ${errors(view) || t("noErrors")}`],
    [t("reconnectsShort"), String(view.reconnects)],
    [t("firmware"), view.firmware || "–"],
    [t("clockOff"), view.clock_skew_s === null ? "–" : `${view.clock_skew_s.toFixed(1)} s`],
  ];
  return (
    <section class="card panel" aria-label={view.device} data-testid="device-detail">
      <header class="section-head">
        <h2>{view.device}</h2>
        <span class="spacer" />
        <button type="button" class="quiet" onClick={() => go("devices")}>
          <Icon name="cross" /> {t("close")}
        </button>
      </header>
      <dl class="facts">
        {facts.map(([name, value]) => (
          <>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </>
        ))}
      </dl>
      <section class="passages" aria-label={t("deviceTrace")}>
        <h3>{t("deviceTrace")}</h3>
        <ol>
          {lines.map((line) => (
            <li key={line.seq} class={`severity-${line.severity} kind-${line.kind}`}>
              <time>{clock(line.at)}</time> <span>{told(line)}</span>
              {line.code !== "" && <code>{line.code}</code>}
            </li>
          ))}
          {lines.length === 0 && <li class="muted">{t("nothing")}</li>}
        </ol>
      </section>
    </section>
  );
}

// One lane in detail: what it does, what its devices say, what passed, and what people may tell it, each with a reason.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { clock, count } from "./format";
import { language, pick, t, word, type Text } from "./i18n";
import { Icon, type IconName } from "./icons";
import { look, refusedNow } from "./lanes";
import { href } from "./router";
import { call } from "./rpc";
import { asCallError, devices, feed, lane, laneIds, may, released, stale, zoneName } from "./store";
import type { Done } from "./types";
import { Why } from "./why";

const PAX_MOST = 50;
const REASON_MOST = 200; // characters, as the server takes them
const PASSAGES_SHOWN = 14;
const PASSED_KINDS = new Set(["admitted", "refused", "passage", "alarm", "mode", "case"]);

/** What is given as a reason nine times of ten; anything else is typed. */
const REASONS: readonly Text[] = ["reasonGroup", "reasonPram", "reasonTicket", "reasonCleaning", "reasonFault", "reasonCrowd"];

interface ModeCommand {
  id: string;
  mode: string;
  text: Text;
  icon: IconName;
}
const MODE_COMMANDS: readonly ModeCommand[] = [
  { id: "both", mode: "bidirectional", text: "cmdBoth", icon: "both" },
  { id: "entry", mode: "normal_entry", text: "cmdEntry", icon: "arrowIn" },
  { id: "exit", mode: "normal_exit", text: "cmdExit", icon: "arrowOut" },
  { id: "free", mode: "free_counted", text: "cmdFree", icon: "gateOpen" },
  { id: "lock", mode: "closed", text: "cmdLock", icon: "lock" },
  { id: "maintenance", mode: "maintenance", text: "cmdMaintenance", icon: "wrench" },
];

interface Told {
  text: string;
  bad: boolean;
}

export function LanePanel({ id, onClose }: { id: string; onClose(): void }): JSX.Element | null {
  const first = useRef<HTMLButtonElement>(null);
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    first.current?.focus({ preventScroll: true });
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape") close.current();
    };
    window.addEventListener("keydown", escape);
    return () => window.removeEventListener("keydown", escape);
  }, [id]);
  if (!laneIds.value.includes(id)) return null;
  const view = lane(id);
  const [icon, tone, text] = look(view, refusedNow(view));
  return (
    <section class={`card lane-panel tone-${tone}`} role="region" aria-label={view.name} data-testid="lane-panel">
      <header class="section-head">
        <h2>{view.name}</h2>
        <span class="panel-state">
          <Icon name={icon} /> {text}
        </span>
        <span class="spacer" />
        <button ref={first} type="button" class="quiet" onClick={onClose}>
          <Icon name="cross" /> {t("close")}
        </button>
      </header>
      <dl class="facts">
        <dt>{t("mode")}</dt>
        <dd data-fact="mode">{word("mode", view.mode)}</dd>
        <dt>{t("barrier")}</dt>
        <dd data-fact="barrier">{word("barrier", view.barrier)}</dd>
        <dt>{t("way")}</dt>
        <dd>
          {view.from_zone === "outside" ? t("outside") : zoneName(view.from_zone)} → {zoneName(view.to_zone)}
        </dd>
        <dt>{t("today")}</dt>
        <dd>
          {t("in")} <b>{count(view.entries)}</b> · {t("out")} <b>{count(view.exits)}</b>
        </dd>
        <dt>{t("kind")}</dt>
        <dd>
          {word("kindOfLane", view.kind)} · {view.transport === "link" ? t("link") : t("serial")}
        </dd>
      </dl>
      <LaneDevices id={id} />
      <Commands key={id} id={id} />
      {may("site.explain") && <Why key={`why-${id}`} lane={id} />}
      <Passages id={id} />
    </section>
  );
}

function LaneDevices({ id }: { id: string }): JSX.Element | null {
  const mine = [...devices.value.values()].filter((view) => view.lane === id);
  if (mine.length === 0) return null;
  return (
    <ul class="lane-devices" aria-label={t("devices")}>
      {mine.map((view) => (
        <li key={view.device} class={view.availability === "available" ? "good" : "bad"} title={view.detail || view.last_said}>
          <Icon name={view.availability === "available" ? "check" : "plug"} size="1em" />
          <a href={href("devices", view.device)}>{word("device", view.kind)}</a> {word("availability", view.availability)}
        </li>
      ))}
    </ul>
  );
}

/** One press each; what is missing is the reason, and the field says so. */
function Commands({ id }: { id: string }): JSX.Element | null {
  const view = lane(id);
  const [pax, setPax] = useState(1);
  const [reason, setReason] = useState("");
  const [told, setTold] = useState<Told | null>(null);
  const [busy, setBusy] = useState("");
  const field = useRef<HTMLInputElement>(null);
  const send = async (name: string, what: () => Promise<Done>) => {
    if (busy !== "") return;
    setTold(null);
    setBusy(name);
    try {
      const done = await what();
      setTold({ text: done.detail === "" ? t("sent") : `${t("sent")} · ${done.detail}`, bad: false });
    } catch (error) {
      const failed = asCallError(error);
      setTold({ text: pick(failed.zh, failed.en), bad: true });
    } finally {
      setBusy("");
    }
  };
  const withReason = (name: string, what: (reason: string) => Promise<Done>) => {
    const given = reason.trim();
    if (given === "") {
      setTold({ text: t("needReason"), bad: true });
      field.current?.focus();
    } else void send(name, () => what(given));
  };
  if (!may("lane.set_mode") && !may("lane.open") && !may("lane.rearm")) return null;
  const off = busy !== "" || stale.value;
  return (
    <section class="commands" aria-label={t("commands")}>
      {view.mode === "needs_rearm" && may("lane.rearm") && (
        <button type="button" class="primary" onClick={() => void send("rearm", () => call("lane.rearm", { lane: id }))}>
          <Icon name="wrench" /> {t("rearm")}
        </button>
      )}
      {released.value ? (
        <p class="muted">{t("whileReleased")}</p>
      ) : (
        (may("lane.set_mode") || may("lane.open")) && (
          <>
            <label>
              {t("reason")}
              <input
                ref={field}
                name="reason"
                value={reason}
                maxLength={REASON_MOST}
                aria-invalid={told?.bad === true && reason.trim() === ""}
                onInput={(event) => setReason(event.currentTarget.value)}
              />
            </label>
            <div class="chips" role="group" aria-label={t("reason")}>
              {REASONS.map((key) => (
                <button
                  key={key}
                  type="button"
                  class={reason === t(key) ? "chip is-on" : "chip"}
                  aria-pressed={reason === t(key)}
                  onClick={() => setReason(t(key))}
                >
                  {t(key)}
                </button>
              ))}
            </div>
            {may("lane.open") && (
              <form
                class="open-row"
                onSubmit={(event) => {
                  event.preventDefault();
                  withReason("open", (why) => call("lane.open", { lane: id, pax, reason: why }));
                }}
              >
                <label>
                  <span class="sr-only">{t("people")}</span>
                  <input
                    type="number"
                    name="pax"
                    min={1}
                    max={PAX_MOST}
                    value={pax}
                    onInput={(event) => setPax(Math.max(1, event.currentTarget.valueAsNumber || 1))}
                  />
                </label>
                <button type="submit" class="primary" data-command="open" disabled={off}>
                  <Icon name="gateOpen" /> {t("openFor", { n: pax })}
                </button>
                {may("lane.pause") && (
                  <button
                    type="button"
                    data-command="hold"
                    data-testid="pause"
                    disabled={off || view.state !== "granted" || view.pax < 2}
                    onClick={() => withReason("hold", (why) => call("lane.pause", { lane: id, reason: why }))}
                  >
                    <Icon name="hand" /> {t("cmdHold")} {view.state === "granted" && view.pax > 1 && `${view.passed}/${view.pax}`}
                  </button>
                )}
              </form>
            )}
            {may("lane.set_mode") && (
              <div class="mode-grid" role="group" aria-label={t("setMode")}>
                {MODE_COMMANDS.map(({ id: name, mode, text, icon }) => (
                  <button
                    key={name}
                    type="button"
                    data-command={name}
                    class={view.mode === mode ? "is-on" : ""}
                    aria-pressed={view.mode === mode}
                    disabled={off}
                    onClick={() => withReason(name, (why) => call("lane.set_mode", { lane: id, mode, reason: why }))}
                  >
                    <Icon name={icon} /> {t(text)}
                  </button>
                ))}
              </div>
            )}
          </>
        )
      )}
      {told !== null && (
        <p class={told.bad ? "error" : "good"} role="status" data-testid="told">
          <Icon name={told.bad ? "cross" : "check"} /> {told.text}
        </p>
      )}
    </section>
  );
}

/** The lane's own lines of the feed, newest first. A refusal leads to why. */
function Passages({ id }: { id: string }): JSX.Element {
  const lines = [];
  for (let index = feed.value.length - 1; index >= 0 && lines.length < PASSAGES_SHOWN; index--) {
    const line = feed.value[index]!;
    if (line.lane === id && PASSED_KINDS.has(line.kind)) lines.push(line);
  }
  return (
    <section class="passages" aria-label={t("lastPassages")}>
      <h3>{t("lastPassages")}</h3>
      <ol lang={language.value}>
        {lines.map((line) => (
          <li key={line.seq} class={`severity-${line.severity} kind-${line.kind}`}>
            <time>{clock(line.at)}</time> <span>{pick(line.text_zh, line.text_en) || word("kind", line.kind)}</span>
            {line.kind === "refused" && line.trace !== "" && may("trace.path") && (
              <a href={href("find", "", { trace: line.trace })}>{t("why")}</a>
            )}
          </li>
        ))}
        {lines.length === 0 && <li class="muted">{t("noneYet")}</li>}
      </ol>
    </section>
  );
}

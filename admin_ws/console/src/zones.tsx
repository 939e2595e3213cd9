import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { clock, count } from "./format";
import { pick, t } from "./i18n";
import { Icon, type IconName } from "./icons";
import { call } from "./rpc";
import { wall } from "./router";
import { asCallError, may, zone, zoneIds } from "./store";
import type { ZoneView } from "./types";

const STEADY_PER_MIN = 0.5;
const SOON_S = 1800; // full within half an hour is worth a look
const MINUTES_MOST = 1440;
const MINUTES_USUAL = 30;

/** `plain`: without the orders for a zone. */
export function Zones({ plain = false }: { plain?: boolean }): JSX.Element {
  return (
    <section class="zones" aria-label={t("zones")}>
      {zoneIds.value.map((id) => (
        <Zone key={id} id={id} plain={plain} />
      ))}
    </section>
  );
}

const looks: Record<string, [IconName, string]> = {
  normal: ["check", "ok"],
  announced: ["dot", "ok"],
  slow: ["triangle", "warn"],
  full: ["octagon", "alarm"],
  stopped: ["octagon", "alarm"],
};
const names = {
  normal: "zoneNormal",
  announced: "zoneAnnounced",
  slow: "zoneSlow",
  full: "zoneFull",
  stopped: "zoneStopped",
} as const;

function Zone({ id, plain }: { id: string; plain: boolean }): JSX.Element {
  const view = zone(id);
  const [icon, tone] = looks[view.state] ?? ["dot", "warn"];
  const name = names[view.state as keyof typeof names];
  const text = name === undefined ? view.state : t(name);
  const limit = view.limit;
  const share = limit === null ? 0 : Math.min(100, (view.inside / limit) * 100);
  const heldShare = limit === null ? 0 : Math.min(100 - share, (view.held / limit) * 100);
  return (
    <article class={`card zone tone-${tone}`} data-zone={id}>
      <header>
        <h2>{view.name}</h2>
        <span class="state">
          <Icon name={icon} /> {text}
        </span>
      </header>
      <p class="figure">
        <strong>{count(view.inside)}</strong>
        <span class="muted">{limit === null ? ` ${t("inside")} · ${t("noLimit")}` : ` / ${count(limit)}`}</span>
      </p>
      {limit === null ? (
        <div class="gauge gauge-none" />
      ) : (
        <div class="gauge-line">
          <svg
            class="gauge"
            viewBox="0 0 100 8"
            preserveAspectRatio="none"
            role="meter"
            aria-label={`${view.name}: ${t("inside")}`}
            aria-valuenow={view.inside}
            aria-valuemin={0}
            aria-valuemax={limit}
          >
            <rect class="gauge-all" width="100" height="8" />
            <rect class="gauge-in" width={share} height="8" />
            <rect class="gauge-held" x={share} width={heldShare} height="8" />
          </svg>
          <span class="percent">{Math.floor((view.inside / limit) * 100)} %</span>
        </div>
      )}
      <Trend view={view} />
      <p class="held muted">
        {[
          view.staff > 0 && t("staffInside", { n: view.staff }),
          view.held > 0 && t("held", { n: view.held }),
          view.entered > 0 && t("enteredToday", { n: count(view.entered) }),
          view.stopped_until !== null && t("zoneStoppedUntil", { at: clock(view.stopped_until) }),
          view.sale_stopped && t("saleStopped"),
          view.one_for_one && t("oneForOne"),
        ]
          .filter(Boolean)
          .join(" · ") || "\u00a0"}
      </p>
      {!plain && !wall && (may("zone.stop") || may("zone.calibrate")) && <Commands id={id} />}
    </article>
  );
}

/** Which way it goes, how fast, and when it will be full if it goes on like this. */
function Trend({ view }: { view: ZoneView }): JSX.Element {
  const pace = view.trend_per_min;
  if (pace === null) return <p class="trend muted">{"\u00a0"}</p>;
  const flat = Math.abs(pace) < STEADY_PER_MIN;
  const n = Math.abs(pace) < 10 ? Math.abs(pace).toFixed(1) : count(Math.round(Math.abs(pace)));
  return (
    <p class="trend" data-testid="trend">
      <Icon name={flat ? "trendFlat" : pace > 0 ? "trendUp" : "trendDown"} /> {flat ? t("trendFlat") : t(pace > 0 ? "trendUp" : "trendDown", { n })}
      {view.full_in_s !== null && view.state !== "full" && (
        <b class={view.full_in_s < SOON_S ? "warn" : ""}> · {t("fullIn", { time: span(view.full_in_s) })}</b>
      )}
    </p>
  );
}

function span(s: number): string {
  return s < 5400 ? t("minutes", { n: Math.max(1, Math.round(s / 60)) }) : t("hours", { n: (s / 3600).toFixed(1) });
}

/** Stops with their latest end, and corrections; folded away, because they are seldom wanted. */
function Commands({ id }: { id: string }): JSX.Element {
  const [open, setOpen] = useState(false);
  return (
    <details class="zone-commands" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{t("zoneCommands")}</summary>
      {open && <Orders id={id} />}
    </details>
  );
}

function Orders({ id }: { id: string }): JSX.Element {
  const [reason, setReason] = useState("");
  const [what, setWhat] = useState("entry");
  const [minutes, setMinutes] = useState(MINUTES_USUAL);
  const [delta, setDelta] = useState(0);
  const [message, setMessage] = useState<{ text: string; bad: boolean } | null>(null);
  const run = async (order: () => Promise<{ detail: string }>) => {
    if (reason.trim() === "") {
      setMessage({ text: t("needReason"), bad: true });
      return;
    }
    try {
      setMessage({ text: (await order()).detail, bad: false });
      setReason("");
    } catch (error) {
      const failed = asCallError(error);
      setMessage({ text: pick(failed.zh, failed.en), bad: true });
    }
  };
  return (
    <>
      <label>
        {t("reason")}
        <input value={reason} maxLength={200} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      {may("zone.stop") && (
        <form
          class="inline"
          onSubmit={(event) => {
            event.preventDefault();
            void run(() => call("zone.stop", { zone: id, what, minutes, reason: reason.trim() }));
          }}
        >
          <label>
            {t("stopWhat")}
            <select value={what} onChange={(event) => setWhat(event.currentTarget.value)}>
              <option value="entry">{t("stopEntry")}</option>
              <option value="sale">{t("stopSale")}</option>
              <option value="one_for_one">{t("oneForOne")}</option>
            </select>
          </label>
          <label>
            {t("stopMinutes")}
            <input
              type="number"
              min={0}
              max={MINUTES_MOST}
              value={minutes}
              onInput={(event) => setMinutes(event.currentTarget.valueAsNumber || 0)}
            />
          </label>
          <button type="submit">{t("apply")}</button>
        </form>
      )}
      {may("zone.calibrate") && (
        <form
          class="inline"
          onSubmit={(event) => {
            event.preventDefault();
            void run(() => call("zone.calibrate", { zone: id, delta, reason: reason.trim() }));
          }}
        >
          <label>
            {t("calibrateBy")}
            <input type="number" value={delta} onInput={(event) => setDelta(event.currentTarget.valueAsNumber || 0)} />
          </label>
          <button type="submit">{t("calibrate")}</button>
        </form>
      )}
      {message !== null && (
        <p class={message.bad ? "error" : "good"} role="status">
          <Icon name={message.bad ? "cross" : "check"} /> {message.text}
        </p>
      )}
    </>
  );
}

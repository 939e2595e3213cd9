// A visitor's ticket: the code of these thirty seconds, how long it is good for, and what can be typed instead.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { Qr } from "../qr";
import { behindS, isWrong, known, now } from "./clock";
import { readFragment, type Ticket } from "./fragment";
import { canCompute, rotatingText, STEP_S, stepOf } from "./rotating";
import { grouped } from "./short";
import { CLASSES, lang, moment, setLang, setTheme, span, t, theme } from "./words";

const TICK_MS = 250;

const ticket = signal<Ticket | null>(readFragment(location.hash));
const shown = signal({ text: "", step: -1 });
const at = signal(now());

/** Follow the time and the link; called once. */
export function begin(): void {
  window.addEventListener("hashchange", () => {
    ticket.value = readFragment(location.hash);
    shown.value = { text: "", step: -1 };
    tick();
  });
  behindS.subscribe(tick); // a code of the wrong time is not shown for a moment longer
  document.addEventListener("visibilitychange", tick);
  window.setInterval(tick, TICK_MS);
  tick();
}

function tick(): void {
  at.value = now();
  const held = ticket.value;
  const step = stepOf(at.value);
  if (held === null || !canCompute() || step === shown.value.step) return;
  shown.value = { text: "", step }; // an old code is never shown for a new one
  void rotatingText(held.ticket, held.key, step).then((text) => {
    if (ticket.value === held && shown.value.step === step) shown.value = { text, step };
  });
}

export function App(): JSX.Element {
  const held = ticket.value;
  return (
    <>
      <header>
        <b>{held === null ? "Paifang 牌坊" : t(held.siteZh || held.siteEn, held.siteEn || held.siteZh)}</b>
        <span>
          <button type="button" data-do="theme" aria-label={t("切换深浅色", "Dark or light")} onClick={() => setTheme(theme.value === "dark" ? "light" : "dark")}>
            {theme.value === "dark" ? "☀" : "☾"}
          </button>
          <button type="button" data-do="lang" onClick={() => setLang(lang.value === "zh" ? "en" : "zh")}>
            {lang.value === "zh" ? "EN" : "中文"}
          </button>
        </span>
      </header>
      {held === null ? <Nothing /> : <Shown held={held} />}
    </>
  );
}

function Nothing(): JSX.Element {
  return (
    <main data-ticket="none">
      <section class="card">
        <h1>{t("没有门票", "No ticket here")}</h1>
        <p>{t("链接不完整。请重新扫描售票窗口给您的二维码，或打开完整链接。", "The link is not complete. Scan the QR code from the ticket window again, or open the whole link.")}</p>
      </section>
    </main>
  );
}

function Shown({ held }: { held: Ticket }): JSX.Element {
  return (
    <main data-ticket={held.ticket} data-clock={known.value}>
      <Notices held={held} />
      {canCompute() ? <Code /> : <Insecure />}
      <section class="card short">
        <span>{t("扫不了时，请输入或报出", "If it cannot be scanned, type or say")}</span>
        <strong data-short={held.short}>{grouped(held.short)}</strong>
      </section>
      <section class="card facts">
        <h1>{t(held.productZh || held.productEn, held.productEn || held.productZh)}</h1>
        <dl>
          <Fact name={t("票种", "Class")} value={classOf(held)} />
          <Fact name={t("人数", "People")} value={String(held.pax)} />
          {held.slotFrom > 0 && <Fact name={t("预约时段", "Booked")} value={`${moment(held.slotFrom)} – ${moment(held.slotTo)}`} />}
          <Fact name={t("有效期", "Valid")} value={`${moment(held.validFrom)} – ${moment(held.validTo)}`} />
          {held.zones.length > 0 && <Fact name={t("区域", "Areas")} value={held.zones.join(" · ")} />}
          <Fact name={t("票号", "Ticket")} value={String(held.ticket)} />
        </dl>
      </section>
      <p class="foot">{t("此链接即门票，请勿转发。", "This link is the ticket: do not pass it on.")}</p>
    </main>
  );
}

function Code(): JSX.Element {
  const left = Math.max(1, Math.ceil(STEP_S - (at.value % STEP_S)));
  const { text } = shown.value;
  return (
    <section class="card code">
      <div class="paper" data-code={text}>
        {text !== "" && <Qr text={text} label={t("动态票码", "The live ticket code")} />}
      </div>
      <progress max={STEP_S} value={left} aria-label={t("距下次更换", "Until the next code")} />
      <span class="left" data-left={left}>
        {t(`${left} 秒后更换`, `changes in ${left} s`)}
      </span>
    </section>
  );
}

function Insecure(): JSX.Element {
  return (
    <section class="card notice warn" role="status" data-notice="insecure">
      {t("此连接未加密，手机不能生成动态码。请使用下面的短码。", "This connection is not secure, so the phone cannot make live codes. Use the code below.")}
    </section>
  );
}

function Notices({ held }: { held: Ticket }): JSX.Element {
  return (
    <>
      {at.value < held.validFrom && (
        <p class="card notice warn" role="status" data-notice="early">
          {t(`${moment(held.validFrom)} 起可用`, `Valid from ${moment(held.validFrom)}`)}
        </p>
      )}
      {at.value >= held.validTo && (
        <p class="card notice warn" role="status" data-notice="expired">
          {t("此票已过期", "This ticket has expired")}
        </p>
      )}
      {isWrong() && (
        <p class="card notice warn" role="status" data-notice="clock" data-behind={behindS.value}>
          {behindS.value > 0
            ? t(`手机时间慢了 ${span(behindS.value)}，票码已按景区时间生成。`, `Your phone's clock is ${span(behindS.value)} slow; the code follows the site's time.`)
            : t(`手机时间快了 ${span(behindS.value)}，票码已按景区时间生成。`, `Your phone's clock is ${span(behindS.value)} fast; the code follows the site's time.`)}
        </p>
      )}
      {known.value === "offline" && (
        <p class="card notice" role="status" data-notice="offline">
          {t("当前离线，票码照常可用；请保持手机自动校时。", "Offline: the code works all the same, as long as the phone's clock is right.")}
        </p>
      )}
    </>
  );
}

function Fact({ name, value }: { name: string; value: string }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function classOf(held: Ticket): string {
  const words = CLASSES[held.productClass];
  return words === undefined ? held.productClass : t(...words);
}

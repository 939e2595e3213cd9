// A manager's view: the park now, today beside yesterday at this time, each gate. It only reads.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "./rpc";
import { live } from "./state";
import { lang, t } from "./words";

const EVERY_MS = 10_000;

interface Day {
  entries: number;
  exits: number;
  refused: number;
  orders: number;
  tickets: number;
  sales_cents: number;
}

interface Figures {
  at: number;
  inside: number;
  today: Day;
  yesterday: Day;
  yesterday_all: Day;
  lanes: { lane: string; name: string; entries: number; exits: number }[];
}

const figures = signal<Figures | null>(null);

export function FiguresPage() {
  useEffect(() => {
    let over = false;
    const look = () => {
      if (live.value && !document.hidden) {
        call<Figures>("site.figures", {}).then(
          (found) => {
            if (!over) figures.value = found;
          },
          () => undefined, // what is shown says how old it is
        );
      }
    };
    look();
    const timer = window.setInterval(look, EVERY_MS);
    return () => {
      over = true;
      window.clearInterval(timer);
    };
  }, [live.value]);
  const now = figures.value;
  if (now === null) return <p class="muted center">{live.value ? t("正在读取…", "Reading…") : t("离线：无数据", "Offline: no figures")}</p>;
  const most = Math.max(1, ...now.lanes.map((each) => Math.max(each.entries, each.exits)));
  return (
    <div class="figures">
      <section class="card big">
        <h2>{t("园内人数", "In the park now")}</h2>
        <p class="number" data-inside={now.inside}>
          {number(now.inside)}
        </p>
        <p class="muted">
          {live.value ? "" : t("离线，截至 ", "Offline, as of ")}
          {new Date(now.at * 1000).toLocaleTimeString(lang.value === "zh" ? "zh-CN" : "en-GB")}
        </p>
      </section>
      <div class="cards">
        <Card title={t("入园", "Entries")} now={now.today.entries} then={now.yesterday.entries} all={now.yesterday_all.entries} />
        <Card title={t("出园", "Exits")} now={now.today.exits} then={now.yesterday.exits} all={now.yesterday_all.exits} />
        <Card title={t("售票额", "Sales")} now={now.today.sales_cents} then={now.yesterday.sales_cents} all={now.yesterday_all.sales_cents} format={money} />
        <Card title={t("售票张数", "Tickets sold")} now={now.today.tickets} then={now.yesterday.tickets} all={now.yesterday_all.tickets} />
        <Card title={t("订单数", "Orders")} now={now.today.orders} then={now.yesterday.orders} all={now.yesterday_all.orders} />
        <Card title={t("拒绝", "Refused")} now={now.today.refused} then={now.yesterday.refused} all={now.yesterday_all.refused} />
      </div>
      <section class="card">
        <h2>{t("各通道（今日）", "Per gate (today)")}</h2>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("通道", "Gate")}</th>
              <th scope="col">{t("入", "In")}</th>
              <th scope="col">{t("出", "Out")}</th>
            </tr>
          </thead>
          <tbody>
            {now.lanes.map((each) => (
              <tr key={each.lane}>
                <th scope="row">
                  {each.name}
                  <meter min={0} max={most} value={each.entries} aria-hidden="true" />
                </th>
                <td>{number(each.entries)}</td>
                <td>{number(each.exits)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </div>
  );
}

function Card(props: { title: string; now: number; then: number; all: number; format?: (value: number) => string }) {
  const format = props.format ?? number;
  const change = props.then === 0 ? null : Math.round(((props.now - props.then) / props.then) * 100);
  return (
    <section class="card">
      <h2>{props.title}</h2>
      <p class="value">{format(props.now)}</p>
      <p class="muted">
        {t("昨日此时", "Yesterday by now")} {format(props.then)}
        {change !== null && (
          <b class={change < 0 ? "down" : "up"}>
            {change < 0 ? "▼" : "▲"} {Math.abs(change)} %
          </b>
        )}
      </p>
      <p class="muted">
        {t("昨日全天", "All of yesterday")} {format(props.all)}
      </p>
    </section>
  );
}

function number(value: number): string {
  return value.toLocaleString(lang.value === "zh" ? "zh-CN" : "en-GB");
}

function money(cents: number): string {
  return `¥${(cents / 100).toLocaleString(lang.value === "zh" ? "zh-CN" : "en-GB", { maximumFractionDigits: 0 })}`;
}

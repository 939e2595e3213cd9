// Numbers, money and times as people read them.

import { language, t } from "./i18n";

const TIME: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const DATE: Intl.DateTimeFormatOptions = { year: "numeric", month: "2-digit", day: "2-digit" };
const DAY: Intl.DateTimeFormatOptions = { year: "numeric", month: "short", day: "numeric", weekday: "short" };

let zone: string | undefined; // the site's; until it is known, the browser's
let times = new Intl.DateTimeFormat("en-GB", TIME); // making one costs more than a thousand uses
let dates = new Intl.DateTimeFormat("en-CA", DATE); // which writes year-month-day

/** Read times in the site's zone (an IANA name); whoever looks on from elsewhere sees what the clock at the gate says. */
export function readIn(timezone: string): void {
  if (timezone === (zone ?? "")) return;
  try {
    times = new Intl.DateTimeFormat("en-GB", { ...TIME, timeZone: timezone });
    dates = new Intl.DateTimeFormat("en-CA", { ...DATE, timeZone: timezone });
    zone = timezone;
  } catch {
    // a browser that does not know the zone goes on with its own
  }
}

export function clock(epochS: number, seconds = true): string {
  const text = times.format(epochS * 1000);
  return seconds ? text : text.slice(0, 5);
}

export function day(epochS: number): string {
  const form = language.value === "zh" ? "zh-CN" : "en-GB";
  return new Date(epochS * 1000).toLocaleDateString(form, { ...DAY, timeZone: zone });
}

export function dateTime(epochS: number): string {
  return `${dates.format(epochS * 1000)} ${clock(epochS, false)}`;
}

const thousands = new Intl.NumberFormat("en-US"); // making one costs more than a thousand uses

export function count(n: number): string {
  return n < 1000 && n >= 0 ? String(n) : thousands.format(n);
}

/** How long something has lasted: one figure with its unit, as people say it. */
export function span(s: number): string {
  if (s < 60) return t("seconds", { n: Math.max(0, Math.floor(s)) });
  if (s < 3600) return t("minutes", { n: Math.floor(s / 60) });
  if (s < 86_400) return t("hours", { n: (s / 3600).toFixed(1) });
  return t("days", { n: Math.floor(s / 86_400) });
}

/** Minutes and seconds of something that runs now. */
export function duration(s: number): string {
  const whole = Math.max(0, Math.floor(s));
  const two = (n: number) => String(n).padStart(2, "0");
  return `${two(Math.floor(whole / 60))}:${two(whole % 60)}`;
}

export function yuan(cents: number): string {
  return `¥${(cents / 100).toFixed(2)}`;
}

/** A typed amount in yuan as whole cents; null when it is not one. Never through a float: 0.29 × 100 is not 29. */
export function cents(text: string): number | null {
  const match = /^(\d{1,7})(?:[.。](\d{1,2}))?$/.exec(text.trim());
  if (match === null) return null;
  return Number(match[1]) * 100 + Number((match[2] ?? "").padEnd(2, "0"));
}

// The page's two languages, side by side where they are used, and what it remembers: language and theme, nothing else.

import { signal } from "@preact/signals";

export type Lang = "zh" | "en";
export type Theme = "dark" | "light";

const LANG_KEY = "paifang-ticket-lang";
const THEME_KEY = "paifang-ticket-theme";

export const lang = signal<Lang>(asLang(read(LANG_KEY)) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
export const theme = signal<Theme>(asTheme(read(THEME_KEY)) ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));

export function t(zh: string, en: string): string {
  return lang.value === "zh" ? zh : en;
}

export function setLang(value: Lang): void {
  lang.value = value;
  write(LANG_KEY, value);
  document.documentElement.lang = value === "zh" ? "zh-CN" : "en";
}

export function setTheme(value: Theme): void {
  theme.value = value;
  write(THEME_KEY, value);
  document.documentElement.dataset["theme"] = value;
}

export const CLASSES: Record<string, [zh: string, en: string]> = {
  full: ["全价票", "Full price"],
  discount: ["优惠票", "Reduced"],
  group: ["团体票", "Group"],
  free: ["免费票", "Free"],
  annual: ["年卡", "Annual card"],
  staff: ["员工", "Staff"],
  contractor: ["施工人员", "Contractor"],
};

/** A moment in the phone's own zone, without seconds. */
export function moment(atSeconds: number): string {
  const form = new Intl.DateTimeFormat(lang.value === "zh" ? "zh-CN" : "en-GB", {
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  });
  return form.format(new Date(atSeconds * 1000));
}

/** "3 min" or "40 s". */
export function span(seconds: number): string {
  const whole = Math.abs(Math.round(seconds));
  return whole < 120 ? t(`${whole} 秒`, `${whole} s`) : t(`${Math.round(whole / 60)} 分钟`, `${Math.round(whole / 60)} min`);
}

function asLang(text: string | null): Lang | null {
  return text === "zh" || text === "en" ? text : null;
}

function asTheme(text: string | null): Theme | null {
  return text === "dark" || text === "light" ? text : null;
}

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage is switched off: nothing is remembered
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // storage is switched off or full: this is only a convenience
  }
}

// The phone's two languages. Both stand beside each other where they are used, so that neither is forgotten.

import { signal } from "@preact/signals";

export type Lang = "zh" | "en";

const KEY = "paifang-phone-lang";
const THEME_KEY = "paifang-phone-theme";

export const lang = signal<Lang>(read(KEY) === "en" ? "en" : "zh");
export const theme = signal<"dark" | "light">(read(THEME_KEY) === "light" ? "light" : "dark");

export function t(zh: string, en: string): string {
  return lang.value === "zh" ? zh : en;
}

export function setLang(value: Lang): void {
  lang.value = value;
  write(KEY, value);
  document.documentElement.lang = value === "zh" ? "zh-CN" : "en";
}

export function setTheme(value: "dark" | "light"): void {
  theme.value = value;
  write(THEME_KEY, value);
  document.documentElement.dataset["theme"] = value;
}

export function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage is switched off: nothing is remembered
  }
}

export function write(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // storage is switched off or full: this is only a convenience
  }
}

/** What each refusal means to a visitor and to the attendant, for verdicts that the phone gives by itself. */
export const REFUSALS: Record<string, [zh: string, en: string, staffZh: string, staffEn: string]> = {
  unknown_code: ["无法识别", "Not a ticket of ours", "非本景区票码", "Not a code of this site"],
  bad_signature: ["票码无效", "Not a genuine ticket", "签名不符，疑似伪造", "The signature is wrong: perhaps forged"],
  not_yet_valid: ["未到有效期", "Not valid yet", "查看票面日期", "Look at the ticket's date"],
  expired: ["票已过期", "The ticket has expired", "请到售票处", "Send them to the window"],
  wrong_zone: ["不含此区域", "Not for this area", "请走其他入口", "Send them to another entrance"],
  already_used: ["此票已使用", "This ticket was used already", "离线名单中：已用、退或作废", "On the list: used, refunded or void"],
  need_server: ["需要联网核验", "Needs the network", "此票种不能离线检票", "This kind of ticket is not checked offline"],
  old_list: ["需要联网", "Needs the network", "离线名单过旧，请连接网络", "The list is too old: find a signal"],
  no_list: ["需要联网", "Needs the network", "尚无离线名单，请先联网", "There is no list yet: find a signal first"],
  too_many: ["人数超过票面", "More people than the ticket", "减少人数", "Take fewer people"],
  not_kept: ["无法保存", "Cannot be kept", "手机存储已满或被禁用", "The phone's storage is full or switched off"],
};

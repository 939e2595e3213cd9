// Chinese and English: what is said (texts*.ts), and the site's vocabulary (words.ts).

import { signal } from "@preact/signals";
import { texts as frameTexts } from "./texts";
import { pageTexts } from "./texts_pages";
import { words } from "./words";

export type Language = "zh" | "en";
const LANGUAGE_KEY = "paifang.language";

function initial(): Language {
  const saved = localStorage.getItem(LANGUAGE_KEY);
  if (saved === "zh" || saved === "en") return saved;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(initial());

export function setLanguage(next: Language): void {
  language.value = next;
  localStorage.setItem(LANGUAGE_KEY, next);
}

const texts = { ...frameTexts, ...pageTexts };

export type Text = keyof typeof texts;

export function t(key: Text, values?: Record<string, string | number>): string {
  const text: string = texts[key][language.value === "zh" ? 0 : 1];
  if (values === undefined) return text;
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

export function pick(zh: string, en: string): string {
  return language.value === "zh" ? zh || en : en || zh;
}

/** A line of the feed in words: an alarm by the name of its kind where the line says no more than that. */
export function told(line: { kind: string; code: string; text_zh: string; text_en: string }): string {
  if (line.kind === "alarm" && line.text_en === `Alarm: ${line.code}`) return word("alarm", line.code);
  return pick(line.text_zh, line.text_en) || word("kind", line.kind);
}

export function word(group: string, value: string): string {
  return words[`${group}.${value}`]?.[language.value === "zh" ? 0 : 1] ?? value;
}

// Everything from the keyboard: `g` and a letter opens a page, `?` says which, and nothing is typed into a form by accident.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { language, setLanguage, t } from "./i18n";
import { Icon } from "./icons";
import { go, type PageEntry } from "./router";
import { setSound, sound } from "./sound";
import { setTheme, theme } from "./theme";

const SEQUENCE_MS = 1_500; // from `g` to its letter

export const helpOpen = signal(false);

export function useShortcuts(pages: readonly PageEntry[]): void {
  const known = useRef(pages);
  known.current = pages;
  useEffect(() => {
    let ledAt = -Infinity;
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      const key = event.key;
      if (performance.now() - ledAt < SEQUENCE_MS && key.length === 1) {
        ledAt = -Infinity;
        const page = known.current.find((one) => one.key === key.toLowerCase());
        if (page !== undefined) {
          event.preventDefault();
          event.stopImmediatePropagation();
          go(page.name);
        }
        return;
      }
      if (key === "g") ledAt = performance.now();
      else if (key === "?") helpOpen.value = !helpOpen.value;
      else if (key === "/") {
        const field = document.querySelector<HTMLInputElement>(".main input[type=search]");
        if (field === null) return;
        event.preventDefault();
        field.focus();
        field.select();
      } else if (key === "!") {
        event.preventDefault();
        document.querySelector<HTMLElement>("[data-testid=evacuate]")?.focus(); // held, it triggers; focused, it does not
      } else if (key === "T") setTheme(theme.value === "dark" ? "light" : "dark");
      else if (key === "L") setLanguage(language.value === "zh" ? "en" : "zh");
      else if (key === "S") setSound(!sound.value);
    };
    window.addEventListener("keydown", pressed, true);
    return () => window.removeEventListener("keydown", pressed, true);
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input:not([type=checkbox]), select, textarea, [contenteditable]");
}

/** The arrow keys among tiles or rows that are drawn in a grid: to the next one in that direction, as it is seen. */
export function moveByArrow(event: KeyboardEvent, selector: string): void {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const from = event.target instanceof HTMLElement ? event.target.closest<HTMLElement>(selector) : null;
  if (way === undefined || from === null) return;
  const here = from.getBoundingClientRect();
  let best: HTMLElement | null = null;
  let nearest = Infinity;
  for (const other of document.querySelectorAll<HTMLElement>(selector)) {
    const there = other.getBoundingClientRect();
    const [dx, dy] = [middle(there.left, there.right) - middle(here.left, here.right), middle(there.top, there.bottom) - middle(here.top, here.bottom)];
    const along = dx * way[0]! + dy * way[1]!;
    const aside = Math.abs(dx * way[1]!) + Math.abs(dy * way[0]!);
    if (along > 4 && along + 3 * aside < nearest) {
      nearest = along + 3 * aside;
      best = other;
    }
  }
  if (best !== null) {
    event.preventDefault();
    best.focus();
  }
}

function middle(a: number, b: number): number {
  return (a + b) / 2;
}

export function Help({ pages }: { pages: readonly PageEntry[] }): JSX.Element | null {
  const close = useRef<HTMLButtonElement>(null);
  const open = helpOpen.value;
  useEffect(() => {
    if (!open) return undefined;
    const before = document.activeElement;
    close.current?.focus();
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape") helpOpen.value = false;
    };
    window.addEventListener("keydown", escape);
    return () => {
      window.removeEventListener("keydown", escape);
      if (before instanceof HTMLElement) before.focus();
    };
  }, [open]);
  if (!open) return null;
  const rows: [string, string][] = [
    ...pages.map((page): [string, string] => [`g ${page.key}`, t(page.text)]),
    ["/", t("keySearch")],
    ["!", t("keyEvacuate")],
    ["↑ ↓ ← →", t("keyArrows")],
    ["Esc", t("keyEscape")],
    ["T", t("theme")],
    ["L", "中文 / English"],
    ["S", t("soundSwitch")],
    ["?", t("keyHelp")],
  ];
  return (
    <section class="card help" role="dialog" aria-label={t("keys")}>
      <header class="section-head">
        <h2>{t("keys")}</h2>
        <span class="spacer" />
        <button ref={close} type="button" class="quiet" onClick={() => (helpOpen.value = false)}>
          <Icon name="cross" /> {t("close")}
        </button>
      </header>
      <dl class="keys">
        {rows.map(([keys, text]) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

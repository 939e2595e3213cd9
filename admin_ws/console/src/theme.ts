// Dark for a control room at night, light for a window in the sun.

import { signal } from "@preact/signals";

export type Theme = "dark" | "light";
const THEME_KEY = "paifang.theme";

function initial(): Theme {
  const saved = localStorage.getItem(THEME_KEY);
  if (saved === "dark" || saved === "light") return saved;
  return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
}

export const theme = signal<Theme>(initial());

export function setTheme(next: Theme): void {
  theme.value = next;
  localStorage.setItem(THEME_KEY, next);
}

/** A colour of the present theme, for the canvas, which knows no style sheets. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

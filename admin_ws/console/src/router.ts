// Which page is shown: the fragment of the address, so that a reload, a bookmark and the back button keep their place.

import { computed, signal } from "@preact/signals";
import type { IconName } from "./icons";
import type { Text } from "./i18n";
import type { Method } from "./rpc";

export type PageName =
  | "overview"
  | "lanes"
  | "devices"
  | "cases"
  | "find"
  | "flow"
  | "office"
  | "sales"
  | "system"
  | "users"
  | "settings";

export interface PageEntry {
  name: PageName;
  text: Text;
  icon: IconName;
  /** The letter that opens it after `g`. */
  key: string;
  /** A session that may call one of these sees the page. */
  needs: readonly Method[];
}

export const PAGES: readonly PageEntry[] = [
  { name: "overview", text: "overview", icon: "grid", key: "o", needs: ["site.subscribe"] },
  { name: "lanes", text: "lanes", icon: "gateOpen", key: "l", needs: ["site.subscribe"] },
  { name: "devices", text: "devices", icon: "plug", key: "d", needs: ["site.subscribe"] },
  { name: "cases", text: "cases", icon: "triangle", key: "c", needs: ["cases.list"] },
  { name: "find", text: "find", icon: "search", key: "f", needs: ["find.history", "trace.path", "site.explain", "office.find"] },
  { name: "flow", text: "flowPage", icon: "curve", key: "w", needs: ["site.subscribe"] },
  { name: "office", text: "office", icon: "folder", key: "b", needs: ["office.find"] },
  { name: "sales", text: "sales", icon: "ticket", key: "s", needs: ["sales.sell"] },
  { name: "system", text: "system", icon: "tree", key: "a", needs: ["site.inspect"] },
  { name: "users", text: "users", icon: "person", key: "u", needs: ["users.list"] },
  { name: "settings", text: "settings", icon: "gear", key: "e", needs: ["mode.list", "site.reload", "session.set_password", "session.totp_begin"] },
];

/** On a wall nobody clicks: the page is drawn larger, and without what only hands need. */
export const wall = new URLSearchParams(location.search).has("wall");

const fragment = signal(location.hash);
window.addEventListener("hashchange", () => (fragment.value = location.hash));

/** What the address asks for: a page's name, and what comes after it. Whether it may be seen is the frame's business. */
export const route = computed(() => {
  const [path = "", query = ""] = fragment.value.replace(/^#\/?/, "").split("?", 2);
  const [name = "", ...rest] = path.split("/");
  return { page: name, argument: rest.map(decoded).join("/"), query: new URLSearchParams(query) };
});

export function href(page: PageName, argument = "", query: Record<string, string> = {}): string {
  const tail = new URLSearchParams(query).toString();
  return `#/${page}${argument === "" ? "" : `/${encodeURIComponent(argument)}`}${tail === "" ? "" : `?${tail}`}`;
}

export function go(page: PageName, argument = "", query: Record<string, string> = {}): void {
  location.hash = href(page, argument, query);
  fragment.value = location.hash;
}

/** A part of an address that somebody typed wrongly is taken as it is. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// The live tree of actors, for whoever looks for a fault: what runs, what waits, what failed last.
// Asked for only while somebody looks at it; a page that shows something else costs the server nothing.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { language, pick, t } from "./i18n";
import { Icon } from "./icons";
import { call, type CallError } from "./rpc";
import { asCallError } from "./store";

const LOOK_EVERY_MS = 2_000;
const OLD_S = 1; // a message that waits for longer deserves a look

/** One actor, as `core.inspect_tree` gives it; ages are in seconds. */
export interface Actor {
  name: string;
  state: string;
  alive: boolean;
  depth: number;
  system_depth: number;
  oldest_age_s: number;
  held: string;
  held_age_s: number;
  handled: number;
  dead: number;
  restarts: number;
  last_error: string;
  children: Actor[];
}

interface Look {
  root: Actor;
  at: number; // the page's monotonic clock, ms
  handled: ReadonlyMap<string, number>;
}

const look = signal<Look | null>(null);
const before = signal<Look | null>(null);
const failure = signal<CallError | null>(null);

async function update(): Promise<void> {
  try {
    const root = await call("site.inspect", {});
    const handled = new Map(rows(root).map(({ actor }) => [actor.name, actor.handled]));
    before.value = look.value;
    look.value = { root, at: performance.now(), handled };
    failure.value = null;
  } catch (error) {
    failure.value = asCallError(error);
  }
}

function rows(actor: Actor, depth = 0): { actor: Actor; depth: number }[] {
  return [{ actor, depth }, ...actor.children.flatMap((child) => rows(child, depth + 1))];
}

/** Messages handled in a second, between the last two looks; empty after a restart or a first look. */
function rate(name: string): string {
  const [now, then] = [look.value, before.value];
  const earlier = then?.handled.get(name);
  const count = now?.handled.get(name);
  if (now === null || then === null || earlier === undefined || count === undefined || count < earlier) return "";
  return ((count - earlier) / ((now.at - then.at) / 1000)).toFixed(1);
}

export function System(): JSX.Element {
  useEffect(() => {
    void update();
    const timer = window.setInterval(() => void update(), LOOK_EVERY_MS);
    return () => {
      window.clearInterval(timer);
      look.value = before.value = null;
    };
  }, []);
  const number = new Intl.NumberFormat(language.value === "zh" ? "zh-CN" : "en");
  return (
    <section class="card system" aria-label={t("system")} tabIndex={0}>
      <h2>{t("system")}</h2>
      {failure.value !== null && <p role="alert">{pick(failure.value.zh, failure.value.en)}</p>}
      <table data-testid="actors">
        <thead>
          <tr>
            {(["actor", "state", "mailbox", "oldest", "rate", "handled", "deadLetters", "restarts", "lastError"] as const).map((key) => (
              <th key={key} scope="col">
                {t(key)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {look.value !== null &&
            rows(look.value.root).map(({ actor, depth }) => (
              <tr key={actor.name} data-actor={actor.name} class={actor.alive ? "" : "is-down"}>
                <th scope="row" style={{ paddingInlineStart: `${depth * 1.2}em` }}>
                  {actor.name}
                </th>
                <td>
                  {!actor.alive && <Icon name="triangle" />} {actor.alive ? actor.state : `${t("down")} · ${actor.state}`}
                  {actor.held !== "" && actor.held_age_s >= OLD_S && ` · ${actor.held} ${actor.held_age_s.toFixed(1)} s`}
                </td>
                <td class="number">{actor.depth + actor.system_depth || ""}</td>
                <td class="number">{actor.oldest_age_s > 0 ? `${actor.oldest_age_s.toFixed(1)} s` : ""}</td>
                <td class="number">{rate(actor.name)}</td>
                <td class="number">{number.format(actor.handled)}</td>
                <td class="number">{actor.dead || ""}</td>
                <td class="number">{actor.restarts || ""}</td>
                <td class="muted">{actor.last_error}</td>
              </tr>
            ))}
        </tbody>
      </table>
    </section>
  );
}

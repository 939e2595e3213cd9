import { computed, signal } from "@preact/signals";
import { Component, type JSX } from "preact";
import { clock } from "./format";
import { language, t, told, type Language, type Text } from "./i18n";
import { Icon, type IconName } from "./icons";
import { feed, laneName, type FeedLine } from "./store";

const SHOWN = 150; // lines; the filter looks through all that the page has

const CODED = new Set(["refused", "alarm", "case"]); // kinds whose code says more than the text

type Filter = "all" | "refusals" | "alarms" | "passages" | "sales" | "other";
const filters: Record<Filter, { text: Text; takes(line: FeedLine): boolean }> = {
  all: { text: "all", takes: () => true },
  refusals: { text: "refusals", takes: (line) => line.kind === "refused" },
  alarms: { text: "alarms", takes: (line) => isAlarm(line) },
  passages: { text: "passages", takes: (line) => line.kind === "passage" || line.kind === "admitted" },
  sales: { text: "salesEvents", takes: (line) => line.kind === "sale" || line.kind === "print" },
  other: {
    text: "other",
    takes: (line) => !isAlarm(line) && !["refused", "passage", "admitted", "sale", "print"].includes(line.kind),
  },
};

function isAlarm(line: FeedLine): boolean {
  return line.kind === "alarm" || line.kind === "evacuation" || line.severity === "alarm" || line.severity === "warning";
}

const filter = signal<Filter>("all");
const search = signal("");

const shown = computed(() => {
  const wanted = search.value.trim().toLowerCase();
  const found: FeedLine[] = [];
  for (let index = feed.value.length - 1; index >= 0 && found.length < SHOWN; index--) {
    const line = feed.value[index]!;
    if (!filters[filter.value].takes(line)) continue;
    if (wanted && !`${line.lane} ${laneName(line.lane)} ${line.code} ${line.text_zh} ${line.text_en}`.toLowerCase().includes(wanted)) {
      continue;
    }
    found.push(line);
  }
  return found;
});

const icons: Record<string, IconName> = {
  admitted: "gateOpen",
  refused: "cross",
  passage: "arrowIn",
  alarm: "octagon",
  sale: "ticket",
  print: "printer",
  device: "plug",
  mode: "gear",
  evacuation: "run",
  case: "triangle",
  login: "lock",
};

export function Feed(): JSX.Element {
  return (
    <section class="card feed" aria-label={t("feed")}>
      <header class="section-head">
        <h2>{t("feed")}</h2>
        <input
          type="search"
          aria-label={t("search")}
          placeholder={t("search")}
          value={search.value}
          onInput={(event) => (search.value = event.currentTarget.value)}
        />
      </header>
      <div class="chips" role="group" aria-label={t("feed")}>
        {(Object.keys(filters) as Filter[]).map((name) => (
          <button
            key={name}
            type="button"
            class={filter.value === name ? "chip is-on" : "chip"}
            aria-pressed={filter.value === name}
            onClick={() => (filter.value = name)}
          >
            {t(filters[name].text)}
          </button>
        ))}
      </div>
      <ol class="lines" tabIndex={0} aria-label={t("feed")}>
        {shown.value.map((line) => (
          <Line key={line.seq} line={line} language={language.value} />
        ))}
        {shown.value.length === 0 && <li class="muted nothing">{t("nothing")}</li>}
      </ol>
    </section>
  );
}

interface LineProps {
  line: FeedLine;
  language: Language;
}

/** A line never changes, only its language does; hundreds of them are not drawn again for each new one. */
class Line extends Component<LineProps> {
  override shouldComponentUpdate(next: LineProps): boolean {
    return next.line !== this.props.line || next.language !== this.props.language;
  }

  override render({ line }: LineProps): JSX.Element {
    return (
      <li class={`line severity-${line.severity} kind-${line.kind}`} title={line.trace ? `trace ${line.trace}` : undefined}>
        <time>{clock(line.at)}</time>
        <Icon name={icons[line.kind] ?? "dot"} />
        <span class="line-text">
          {line.lane && <strong>{laneName(line.lane)} </strong>}
          {told(line)}
          {line.code && CODED.has(line.kind) && <code>{line.code}</code>}
        </span>
      </li>
    );
  }
}

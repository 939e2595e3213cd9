import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { clock } from "./format";
import { language, t, type Text } from "./i18n";
import { flow, serverNow } from "./store";
import { colour, theme } from "./theme";

const RANGES_H = [0.25, 1, 4, 24];
const SMALLEST_TOP = 5; // a quiet morning must not look like a rush

const chosen = signal<number | null>(null);

/** What was chosen, or the smallest range that shows all there is. */
const hours = computed(() => {
  const began = flow.value[0]?.minute ?? Infinity;
  const span = Math.floor(serverNow.value / 60) * 60 - began;
  return chosen.value ?? RANGES_H.find((n) => n * 3600 >= span) ?? RANGES_H.at(-1)!;
});

const series: { key: "entries" | "exits" | "refused"; text: Text; dash: number[]; width: number }[] = [
  { key: "entries", text: "entries", dash: [], width: 2.5 },
  { key: "exits", text: "exits", dash: [10, 5], width: 2.5 },
  { key: "refused", text: "refused", dash: [2, 4], width: 2.5 },
];

/** Minutes from `first` to the present one; a minute of which nobody spoke had nobody in it. */
function columns(nowS: number, rangeH: number): uPlot.AlignedData {
  const known = new Map(flow.value.map((point) => [point.minute, point]));
  const last = Math.floor(nowS / 60) * 60;
  const first = last - rangeH * 3600;
  const times: number[] = [];
  const values: number[][] = series.map(() => []);
  for (let minute = first; minute <= last; minute += 60) {
    times.push(minute);
    const point = known.get(minute);
    series.forEach(({ key }, index) => values[index]!.push(point?.[key] ?? 0));
  }
  times.push(last + 60); // so that the running minute has a width
  for (const column of values) column.push(column.at(-1) ?? 0);
  return [times, ...values] as unknown as uPlot.AlignedData;
}

function options(width: number, height: number): uPlot.Options {
  const em = parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.82; // a wall is read from afar
  const font = `${em}px system-ui, "Noto Sans SC", "WenQuanYi Micro Hei", sans-serif`;
  const axis = {
    stroke: colour("muted"),
    font,
    grid: { stroke: colour("grid"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height,
    padding: [8, 26, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 8 } },
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(SMALLEST_TOP, high * 1.1)] } },
    axes: [
      { ...axis, values: (_plot, splits) => splits.map((at) => clock(at, false)), space: em * 5, size: em * 2.3 },
      { ...axis, size: em * 3.2, space: em * 2.2, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
    ],
    series: [
      {},
      ...series.map(({ key, dash, width: lineWidth }): uPlot.Series => {
        const one: uPlot.Series = {
          stroke: colour(`flow-${key}`),
          width: lineWidth,
          dash,
          points: { show: false },
          paths: uPlot.paths.stepped!({ align: 1 }),
        };
        if (key === "entries") one.fill = colour("flow-fill");
        return one;
      }),
    ],
  };
}

export function Flow(): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const minute = Math.floor(serverNow.value / 60);
  const range = hours.value;
  const points = flow.value;
  const look = `${theme.value} ${language.value}`;

  useEffect(() => {
    const element = holder.current!;
    const size = () => ({ width: Math.max(200, element.clientWidth), height: Math.max(120, element.clientHeight) });
    const mine = new uPlot(options(size().width, size().height), columns(serverNow.peek(), hours.peek()), element);
    plot.current = mine;
    const observer = new ResizeObserver(() => mine.setSize(size()));
    observer.observe(element);
    return () => {
      observer.disconnect();
      mine.destroy();
      plot.current = null;
    };
  }, [look]);

  useEffect(() => {
    plot.current?.setData(columns(serverNow.peek(), range));
  }, [points, minute, range]);

  const now = points.at(-1);
  return (
    <section class="card flow" aria-label={t("flow")}>
      <header class="section-head">
        <h2>{t("flow")}</h2>
        <ul class="legend">
          {series.map(({ key, text, dash, width }) => (
            <li key={key}>
              <svg viewBox="0 0 34 6" width="34" height="6" aria-hidden="true">
                <line x1="0" y1="3" x2="34" y2="3" class={`flow-${key}`} stroke-width={width} stroke-dasharray={dash.join(" ")} />
              </svg>
              {t(text)} <b>{now?.[key] ?? 0}</b>
            </li>
          ))}
        </ul>
        <div class="chips" role="group">
          {RANGES_H.map((n) => (
            <button
              key={n}
              type="button"
              class={n === range ? "chip is-on" : "chip"}
              aria-pressed={n === range}
              onClick={() => (chosen.value = n)}
            >
              {n < 1 ? t("minutes", { n: n * 60 }) : t("hours", { n })}
            </button>
          ))}
        </div>
      </header>
      <div class="plot" ref={holder} />
    </section>
  );
}

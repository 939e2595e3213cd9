// Shapes that say the same as the colours, for those who do not see colours, or see them from afar.

import type { JSX } from "preact";

const paths = {
  check: "M4 12.5l5 5L20 6.5",
  cross: "M6 6l12 12M18 6L6 18",
  triangle: "M12 4L22 20H2zM12 10v5M12 17.2v.6",
  octagon: "M8 3h8l5 5v8l-5 5H8l-5-5V8zM12 7.5v6M12 16v.6",
  plug: "M4 4l16 16M9 4v4M15 4v4M7 9h10v3a5 5 0 0 1-5 5M12 17v4",
  bar: "M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18zM7.5 12h9",
  gateShut: "M5 4v17M19 4v17M5 11h14M5 15h14",
  gateOpen: "M5 4v17M19 4v17M5 11l4-5M19 11l-4-5M9 21l3-6 3 6",
  run: "M14 4.5a1 1 0 1 0 .1 0M6 20l4-5-1-4 3-3 3 3h4M12 8l-5 1-1 3M10 15l4 2v4",
  wrench: "M14 6a4 4 0 0 1 5.5-1.5L16.5 7.5l1 1 3-3A4 4 0 0 1 15 11L8 18.5a2 2 0 0 1-2.8-2.8L12.5 8.5",
  clock: "M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18zM12 7v5l3.5 2",
  arrowIn: "M4 12h13M12 6l6 6-6 6",
  arrowOut: "M20 12H7M12 6l-6 6 6 6",
  both: "M4 9h14M14 5l4 4-4 4M20 16H6M10 12l-4 4 4 4",
  ticket: "M3 7h18v4a2 2 0 0 0 0 3v4H3v-4a2 2 0 0 0 0-3zM14 7v11",
  printer: "M7 9V3h10v6M5 9h14v8h-3v4H8v-4H5zM8 15h8",
  person: "M12 4a3.5 3.5 0 1 0 .1 0M5 21c0-5 3-7 7-7s7 2 7 7",
  sun: "M12 8a4 4 0 1 0 .1 0M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5L19 19M19 5l-1.5 1.5M6.5 17.5L5 19",
  moon: "M20 14A8.5 8.5 0 0 1 10 4a8.5 8.5 0 1 0 10 10z",
  dot: "M12 8a4 4 0 1 0 .1 0",
  grid: "M4 4h7v7H4zM13 4h7v4h-7zM13 11h7v9h-7zM4 14h7v6H4z",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 1 0 0-13zM15.5 15.5L21 21",
  curve: "M3 20h18M4 16l5-6 4 3 7-9",
  folder: "M3 6h7l2 2h9v11H3zM3 11h18",
  tree: "M12 3v5M12 8H6v5M12 8h6v5M3.5 13h5v5h-5zM15.5 13h5v5h-5zM12 8v5M9.8 13h4.4v5H9.8z",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4M12 3v2",
  bellOff: "M6 16V11a6 6 0 0 1 9.5-4.8M18 12v4l2 2H8M10 21h4M4 3l17 18",
  question: "M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18zM9.3 9.5a2.8 2.8 0 1 1 4 2.6c-.9.5-1.3 1-1.3 2M12 17v.4",
  trendUp: "M4 17l6-6 4 4 7-9M15 6h6v6",
  trendDown: "M4 6l6 6 4-4 7 9M15 17h6v-6",
  trendFlat: "M4 12h16M15 7l5 5-5 5",
  hand: "M7 12V6.5a1.5 1.5 0 0 1 3 0V11M10 10V4.5a1.5 1.5 0 0 1 3 0V11M13 10.5V6a1.5 1.5 0 0 1 3 0v6M16 11a1.5 1.5 0 0 1 3 0v4a6 6 0 0 1-6 6c-4 0-5-2-8-7 1.5-1.5 3 0 4 1",
  key: "M8 10a4 4 0 1 0 0 .1M12 12h9v4M17 12v3",
  lock: "M6 11h12v10H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  gear: "M12 9a3 3 0 1 0 .1 0M12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.6l2.1 2.1M16.3 16.3l2.1 2.1M18.4 5.6l-2.1 2.1M7.7 16.3l-2.1 2.1",
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, size = "1.1em" }: { name: IconName; size?: string }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  );
}

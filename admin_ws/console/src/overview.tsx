// What an operator looks at all day: how full, how fast, which lanes, what waits, what happened.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { CasesCard } from "./cases";
import { Devices } from "./devices";
import { Feed } from "./feed";
import { Flow } from "./flow";
import { LanePanel } from "./lane_panel";
import { Lanes } from "./lanes";
import { wall } from "./router";
import { Zones } from "./zones";

const selected = signal<string | null>(null);

export function Overview(): JSX.Element {
  return (
    <>
      <div class="overview-main">
        <Zones />
        <Lanes selected={selected.value} onSelect={(id) => (selected.value = selected.value === id ? null : id)} />
        <Flow />
        {selected.value !== null && !wall && <LanePanel id={selected.value} onClose={() => (selected.value = null)} />}
      </div>
      <div class="overview-side">
        <CasesCard />
        <Devices />
        <Feed />
      </div>
    </>
  );
}

// Direct check: everybody is let through and counted by thumb; afterwards the torn-off stubs say how many it really was.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { feel } from "./feedback";
import { call, CallError } from "./rpc";
import { count, lane, live, newNonce, queue } from "./state";
import { read, t, write } from "./words";

const KEY = "paifang-phone-count";
const FLUSH_MS = 1_500; // taps of one moment are one record
const FLUSH_PEOPLE = 100;

interface Running {
  key: string;
  lane: string;
  counted: number; // in this direct check, those on their way to the disk included
  pending: number; // tapped, and not in the queue yet
  since: number;
}

interface Booked {
  difference: number;
  state: string;
}

const running = signal<Running | null>(restore());
let timer = 0;

function restore(): Running | null {
  try {
    return JSON.parse(read(KEY) ?? "null") as Running | null;
  } catch {
    return null;
  }
}

function put(next: Running | null): void {
  running.value = next;
  write(KEY, next === null ? null : JSON.stringify(next));
}

function begin(): void {
  put({ key: newNonce(), lane: lane.value?.lane ?? "", counted: 0, pending: 0, since: Date.now() });
}

function tap(people: number): void {
  const now = running.value;
  if (now === null) return;
  put({ ...now, counted: now.counted + people, pending: now.pending + people });
  feel("ok");
  window.clearTimeout(timer);
  if (now.pending + people >= FLUSH_PEOPLE) void flush();
  else timer = window.setTimeout(() => void flush(), FLUSH_MS);
}

async function flush(): Promise<void> {
  const now = running.value;
  if (now === null || now.pending === 0) return;
  const people = Math.min(now.pending, FLUSH_PEOPLE);
  put({ ...now, pending: now.pending - people });
  try {
    await count(people, "entry");
  } catch {
    const back = running.value; // it could not be kept: it still waits here
    if (back !== null) put({ ...back, pending: back.pending + people });
  }
  if ((running.value?.pending ?? 0) > 0) timer = window.setTimeout(() => void flush(), FLUSH_MS);
}

export function CountPage() {
  const now = running.value;
  const [stubs, setStubs] = useState("");
  const [ending, setEnding] = useState(false);
  const [trouble, setTrouble] = useState("");
  const [result, setResult] = useState<(Booked & { counted: number; stubs: number }) | null>(null);
  if (now === null || now.lane !== lane.value?.lane) {
    return (
      <div class="count">
        {result !== null && <Result {...result} />}
        <div class="card">
          <h2>{t("直检计数", "Direct check")}</h2>
          <p class="muted">{t("闸口敞开、逐人点数；结束后填写撕下的副券数。", "The way is open and everybody is counted; afterwards the stubs are entered.")}</p>
          {now !== null && <p class="trouble">{t(`另一通道的计数未结束：${now.lane}`, `A count at another lane has not ended: ${now.lane}`)}</p>}
          <button
            type="button"
            class="wide primary"
            onClick={() => {
              setResult(null);
              begin();
            }}
          >
            {t("开始计数", "Begin to count")}
          </button>
        </div>
      </div>
    );
  }
  const finish = async (event: Event) => {
    event.preventDefault();
    setTrouble("");
    await flush();
    const after = running.value;
    if (after === null) return;
    if (queue.value.length > 0 || after.pending > 0) {
      setTrouble(t("还有记录未上传，请联网稍候", "Not everything is uploaded yet: wait for the network"));
      return;
    }
    try {
      const number = Number.parseInt(stubs, 10);
      const params = { lane: after.lane, key: after.key, counted: after.counted, stubs: number, reason: "stubs of a direct check" };
      const booked = await call<Booked>("phone.stubs", params);
      setResult({ ...booked, counted: after.counted, stubs: number });
      put(null);
      setEnding(false);
      setStubs("");
    } catch (error) {
      setTrouble(error instanceof CallError ? t(error.zh, error.en) : t("未能登记", "Not booked"));
    }
  };
  return (
    <div class="count">
      <button type="button" class="tap" onClick={() => tap(1)} aria-label={t(`计一人，已计 ${now.counted}`, `Count one; ${now.counted} so far`)}>
        <span class="number" data-counted={now.counted}>
          {now.counted}
        </span>
        <span>{t("点按计一人", "Tap for one person")}</span>
      </button>
      <div class="two">
        <button type="button" class="choice" onClick={() => tap(5)}>
          +5
        </button>
        <button type="button" class="choice" onClick={() => tap(10)}>
          +10
        </button>
      </div>
      {ending ? (
        <form class="card" onSubmit={(event) => void finish(event)}>
          <label>
            {t("副券张数", "Stubs")}
            <input name="stubs" inputMode="numeric" pattern="[0-9]{1,6}" required value={stubs} onInput={(event) => setStubs(event.currentTarget.value)} />
          </label>
          {/^[0-9]{1,6}$/.test(stubs) && (
            <p class="difference">
              {t("差额", "Difference")} <b>{signed(Number.parseInt(stubs, 10) - now.counted)}</b>
            </p>
          )}
          <p class="trouble" role="alert">
            {trouble}
          </p>
          <button type="submit" class="wide primary" disabled={!live.value}>
            {live.value ? t("登记", "Book") : t("联网后登记", "Book when online")}
          </button>
          <button type="button" class="plain" onClick={() => setEnding(false)}>
            {t("继续计数", "Go on counting")}
          </button>
        </form>
      ) : (
        <button type="button" class="wide" onClick={() => setEnding(true)}>
          {t("结束并填副券", "End, and enter the stubs")}
        </button>
      )}
    </div>
  );
}

function Result(props: Booked & { counted: number; stubs: number }) {
  const words =
    props.state === "same"
      ? t("一致，无需校正", "They agree: nothing to correct")
      : props.state === "booked"
        ? t("差额已作为校正登记", "The difference is booked as a correction")
        : t("差额较大：需第二人登记同样的数字", "A large difference: a second person must enter the same");
  return (
    <div class={`card result ${props.state}`} role="status" data-state={props.state}>
      <h2>{words}</h2>
      <p>
        {t("计数", "Counted")} {props.counted} · {t("副券", "Stubs")} {props.stubs} · {t("差额", "Difference")} <b>{signed(props.difference)}</b>
      </p>
    </div>
  );
}

function signed(value: number): string {
  return value > 0 ? `+${value}` : String(value).replace("-", "−");
}

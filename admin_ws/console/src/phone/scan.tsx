// Scan, people, verdict. The verdict fills the page in its colour, and says itself in a word, by vibration and by sound.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { feel, stay } from "./feedback";
import { NoIcon, TorchIcon, WaitIcon, YesIcon } from "./icons";
import { type CameraTrouble, CameraError, Scanner } from "./scanner";
import { busy, list, scan, type Verdict, verdicts } from "./state";
import { lang, t } from "./words";

const SAME_MS = 3_000; // the same code in front of the camera for so long is the same visitor
const YES_SHOWN_MS = 2_200;
const WEDGE_MS = 60; // a scanner types faster than this, a person does not
const CODE_MIN = 6;

const people = signal<number | null>(null); // null: as many as the ticket allows
const direction = signal<"entry" | "exit">("entry");
const shown = signal<Verdict | null>(null);

let seenText = ""; // by the camera, which goes on seeing what is held in front of it
let seenAt = 0;
let timer = 0;

async function read(text: string, byCamera: boolean): Promise<void> {
  const now = performance.now();
  if (byCamera) {
    const held = text === seenText && now - seenAt < SAME_MS;
    if (held) seenAt = now;
    if (held || shown.value !== null) return;
  }
  if (busy.value) return;
  if (byCamera) seenText = text;
  const verdict = await scan(text, people.value, direction.value);
  if (byCamera) seenAt = performance.now();
  if (verdict === null) return;
  shown.value = verdict;
  people.value = null;
  feel(verdict.kind);
  window.clearTimeout(timer);
  if (verdict.kind === "ok" && !stay.value) timer = window.setTimeout(() => (shown.value = null), YES_SHOWN_MS);
}

export function ScanPage() {
  useWedge();
  return (
    <div class="scan">
      <Camera />
      <Typed />
      <People />
      <div class="two" role="group" aria-label={t("方向", "Direction")}>
        <button type="button" class="choice" aria-pressed={direction.value === "entry"} onClick={() => (direction.value = "entry")}>
          {t("入园", "In")}
        </button>
        <button type="button" class="choice" aria-pressed={direction.value === "exit"} onClick={() => (direction.value = "exit")}>
          {t("出园", "Out")}
        </button>
      </div>
      <Last />
      {shown.value !== null && <Shown verdict={shown.value} />}
    </div>
  );
}

function Camera() {
  const video = useRef<HTMLVideoElement>(null);
  const [trouble, setTrouble] = useState<CameraTrouble | "">("");
  const [torch, setTorch] = useState<boolean | null>(null);
  const scanner = useRef<Scanner | null>(null);
  const [tries, setTries] = useState(0);
  useEffect(() => {
    if (video.current === null) return undefined;
    const mine = new Scanner(video.current, (text) => void read(text, true));
    scanner.current = mine;
    mine.start().then(
      () => {
        setTrouble("");
        setTorch(mine.hasTorch ? false : null);
      },
      (error: unknown) => setTrouble(error instanceof CameraError ? error.trouble : "none"),
    );
    return () => mine.stop();
  }, [tries]);
  return (
    <section class="camera" aria-label={t("相机", "Camera")}>
      <video ref={video} muted playsInline aria-hidden="true" />
      {trouble === "" ? <div class={busy.value ? "aim busy" : "aim"} aria-hidden="true" /> : <Trouble trouble={trouble} again={() => setTries(tries + 1)} />}
      {torch !== null && (
        <button
          type="button"
          class="round torch"
          aria-label={t("补光灯", "Lamp")}
          aria-pressed={torch}
          onClick={() => {
            setTorch(!torch);
            void scanner.current?.torch(!torch);
          }}
        >
          <TorchIcon />
        </button>
      )}
    </section>
  );
}

const TROUBLES: Record<CameraTrouble, [string, string]> = {
  insecure: ["相机需要 HTTPS 访问本页", "The camera needs this page over HTTPS"],
  denied: ["请允许使用相机", "Allow this page to use the camera"],
  none: ["没有可用的相机，请用扫码枪或输入", "No camera: use a scanner or type the code"],
  busy: ["相机被其他程序占用", "Another program uses the camera"],
};

function Trouble(props: { trouble: CameraTrouble; again: () => void }) {
  return (
    <div class="no-camera" role="status">
      <p>{t(...TROUBLES[props.trouble])}</p>
      <button type="button" class="choice" onClick={props.again}>
        {t("重试", "Try again")}
      </button>
    </div>
  );
}

function Typed() {
  const [text, setText] = useState("");
  return (
    <form
      class="typed"
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() !== "") void read(text.trim(), false);
        setText("");
      }}
    >
      <input
        name="code"
        aria-label={t("票码", "Ticket code")}
        placeholder={t("扫码枪或输入票码", "Scanner, or type a code")}
        autocomplete="off"
        autocapitalize="characters"
        spellcheck={false}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <button type="submit" class="choice" disabled={busy.value}>
        {t("检票", "Check")}
      </button>
    </form>
  );
}

/** A wedge scanner types into the page wherever the focus is, fast and with Enter at the end. */
function useWedge(): void {
  useEffect(() => {
    let typed = "";
    let at = 0;
    const hear = (event: KeyboardEvent) => {
      if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.timeStamp - at > WEDGE_MS * 4) typed = "";
      at = event.timeStamp;
      if (event.key === "Enter") {
        if (typed.length >= CODE_MIN) {
          event.preventDefault();
          void read(typed, false);
        }
        typed = "";
      } else if (event.key.length === 1) {
        typed += event.key;
      }
    };
    window.addEventListener("keydown", hear);
    return () => window.removeEventListener("keydown", hear);
  }, []);
}

function People() {
  const most = list.value?.maxGroup ?? 50;
  const now = people.value;
  const step = (by: number) => {
    const next = (now ?? (by > 0 ? 0 : 1)) + by;
    people.value = next < 1 ? null : Math.min(next, most);
  };
  return (
    <div class="people" role="group" aria-label={t("人数", "People")}>
      <button type="button" class="step" aria-label={t("减少一人", "One fewer")} onClick={() => step(-1)} disabled={now === null}>
        −
      </button>
      <output aria-live="polite">
        {now === null ? t("按票面", "As on ticket") : now}
        <small>{now === null ? t("人数", "people") : t("人", now === 1 ? "person" : "people")}</small>
      </output>
      <button type="button" class="step" aria-label={t("增加一人", "One more")} onClick={() => step(1)}>
        +
      </button>
    </div>
  );
}

function Shown({ verdict }: { verdict: Verdict }) {
  const box = useRef<HTMLButtonElement>(null);
  useEffect(() => box.current?.focus(), [verdict.nonce]);
  const yes = verdict.kind === "ok";
  const word = yes ? (verdict.direction === "exit" ? t("可出园", "Go out") : t("通行", "Go in")) : verdict.kind === "wait" ? t("请稍候", "Wait") : t("禁止", "Stop");
  return (
    <button ref={box} type="button" class={`verdict ${verdict.kind}`} data-code={verdict.code} data-offline={verdict.offline} onClick={() => (shown.value = null)}>
      <span class="mark">{yes ? <YesIcon /> : verdict.kind === "wait" ? <WaitIcon /> : <NoIcon />}</span>
      <span role="alert" class="said">
        <span class="word">{word}</span>
        {yes && verdict.pax > 0 && (
          <span class="pax">
            {verdict.pax}
            <small>{t("人", verdict.pax === 1 ? "person" : "people")}</small>
          </span>
        )}
        {!yes && <span class="why">{t(verdict.zh, verdict.en)}</span>}
        {!yes && (verdict.staffZh || verdict.staffEn) && <span class="help">{t(verdict.staffZh, verdict.staffEn)}</span>}
        {yes && (verdict.remaining ?? 0) > 0 && <span class="help">{t(`此票还可进 ${verdict.remaining} 人`, `${verdict.remaining} more may come on this ticket`)}</span>}
        {verdict.offline && <span class="offline">{t("离线核验", "Checked offline")}</span>}
      </span>
      <span class="hint">{t("点按继续", "Tap to go on")}</span>
    </button>
  );
}

function Last() {
  if (verdicts.value.length === 0) return null;
  return (
    <section class="last" aria-label={t("最近", "Last")}>
      <h2>{t("最近", "Last")}</h2>
      <ol>
        {verdicts.value.slice(0, 8).map((each) => (
          <li key={each.nonce}>
            <span class={`dot ${each.kind}`} aria-hidden="true" />
            <span class="what">{each.kind === "ok" ? t(`${each.direction === "exit" ? "出园" : "入园"} ${each.pax} 人`, `${each.pax} ${each.direction === "exit" ? "out" : "in"}`) : t(each.zh, each.en)}</span>
            {each.offline && <span class="pill warn">{t("离线", "Offline")}</span>}
            <time>{new Date(each.at).toLocaleTimeString(lang.value === "zh" ? "zh-CN" : "en-GB")}</time>
          </li>
        ))}
      </ol>
    </section>
  );
}

// What the phone knows and does: who is logged in, the lane, scans with and without the server, the queue, the list.

import { computed, signal } from "@preact/signals";
import { BadCode, hex, mark, siteHash, type TicketCode, verify } from "./code";
import { call, CallError, connect, disconnect, handlers, online } from "./rpc";
import { forget, keep, keepList, kept, keptList, type KeptList, type KeptRecord } from "./store";
import { read, REFUSALS, write } from "./words";

const SESSION_KEY = "paifang-phone-session";
const LANE_KEY = "paifang-phone-lane";
const LIST_GOOD_FOR_S = 4 * 3600; // an older list lets nobody in (domain model, invariant 19)
const LIST_EVERY_MS = 60_000;
const LIST_OVERLAP_S = 120; // what was committed late belongs to a part that was already fetched
const LIST_WHOLE_EVERY_S = 1800; // a ticket that became good again is only found by a whole list
const SCAN_TIMEOUT_MS = 4_000; // then the phone decides by its list, and asks again with the same nonce later
const UPLOAD_RECORDS = 32;
const RETRY_MS = 4_000;
const SHOWN_LAST = 30;
/** Refusals that are about the ticket itself, whatever the lane and the hour. */
const OVER = ["already_used", "no_uses_left", "refunded", "void", "blocked", "held", "unpaid"];

export interface Session {
  token: string;
  user: string;
  role: string;
  methods: string[];
  must_change?: boolean; // only a new password may be set, at a console
}

export interface LaneChoice {
  lane: string;
  name: string;
  entrance: string;
}

export interface Verdict {
  nonce: string;
  at: number; // ms since the epoch, by the phone
  kind: "ok" | "no" | "wait";
  code: string;
  pax: number;
  remaining: number | null;
  zh: string;
  en: string;
  staffZh: string;
  staffEn: string;
  offline: boolean;
  direction: "entry" | "exit";
  tail: string; // of what was scanned, to tell two apart
}

interface LaneView {
  lane: string;
  name: string;
  entrance: string;
  transport: string;
}

interface Snapshot {
  lanes: LaneView[];
  site_name: string;
  evacuation: { state: string } | null;
}

interface ListPage {
  made_at: number;
  site: string;
  zone_bit: number;
  keys: { key_id: number; public: string }[];
  alone: number[];
  max_group: number;
  marks: string;
  next: number | null;
}

export const session = signal<Session | null>(readSession());
export const loginTrouble = signal("");
export const ready = signal(false); // logged in on this connection
export const lanes = signal<LaneChoice[] | null>(null);
export const lane = signal<LaneChoice | null>(readJson<LaneChoice>(LANE_KEY));
export const siteName = signal("");
export const released = signal(false);
export const queue = signal<KeptRecord[]>([]);
export const conflicts = signal(0);
export const list = signal<KeptList | null>(null);
export const listTrouble = signal("");
export const verdicts = signal<Verdict[]>([]);
export const busy = signal(false);
export const live = computed(() => online.value && ready.value);
export const may = (method: string): boolean => session.value?.methods.includes(method) ?? false;

let marks = new Set<string>();
let listTimer = 0;
let uploading = false;

/** The server's time as this phone knows it, seconds since the epoch. */
export function serverNow(): number {
  return Date.now() / 1000 + (list.value?.offsetS ?? 0);
}

// --- who and where -----------------------------------------------------------------------------------------------------

export function begin(): void {
  handlers.open = () => void onOpen();
  handlers.note = onNote;
  void kept().then((records) => (queue.value = records), () => undefined);
  if (lane.value !== null) void useList(lane.value.lane);
  if (session.value !== null) connect();
}

async function onOpen(): Promise<void> {
  ready.value = false;
  const known = session.value;
  if (known === null) return;
  try {
    remember(await call<Session>("session.resume", { token: known.token }));
  } catch (error) {
    if (error instanceof CallError && !error.lost) logOut(false);
    return;
  }
  await afterLogIn();
}

/** Log in. Returns what is wrong, or an empty string. */
export async function logIn(user: string, password: string, totp: string): Promise<CallError | null> {
  connect();
  const deadline = Date.now() + 6_000;
  while (!online.value && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
  try {
    remember(await call<Session>("session.login", totp === "" ? { user, password } : { user, password, totp }));
  } catch (error) {
    return error instanceof CallError ? error : new CallError("error", "登录失败", "Log-in failed");
  }
  void afterLogIn();
  return null;
}

async function afterLogIn(): Promise<void> {
  try {
    const snapshot = await call<Snapshot>("site.subscribe", {});
    siteName.value = snapshot.site_name;
    released.value = snapshot.evacuation?.state === "released";
    lanes.value = snapshot.lanes
      .filter((each) => each.transport === "phone")
      .map((each) => ({ lane: each.lane, name: each.name, entrance: each.entrance }));
  } catch {
    return; // the connection ended; it begins anew
  }
  ready.value = true;
  const only = lanes.value.length === 1 ? lanes.value[0] : undefined;
  if (lane.value === null && only !== undefined) chooseLane(only);
  void upload();
  void refreshList();
}

function onNote(method: string, params: unknown): void {
  if (method === "site.delta") {
    const evacuation = (params as { evacuation?: { state: string } | null }).evacuation;
    if (evacuation) released.value = evacuation.state === "released";
  } else if (method === "session.over") {
    logOut(false);
  }
}

function remember(fresh: Session): void {
  session.value = { token: fresh.token, user: fresh.user, role: fresh.role, methods: fresh.methods };
  write(SESSION_KEY, JSON.stringify(session.value));
}

/** What was done offline stays on the phone and is uploaded by whoever logs in next. */
export function logOut(tell = true): void {
  if (tell && live.value) void call("session.logout", {}).catch(() => undefined);
  session.value = null;
  ready.value = false;
  write(SESSION_KEY, null);
  window.setTimeout(() => {
    if (session.value === null) disconnect();
  }, 300);
}

export function chooseLane(choice: LaneChoice | null): void {
  lane.value = choice;
  write(LANE_KEY, choice === null ? null : JSON.stringify(choice));
  list.value = null;
  marks = new Set();
  if (choice !== null) void useList(choice.lane).then(refreshList);
}

// --- a scan ------------------------------------------------------------------------------------------------------------

export function newNonce(): string {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

/** Decide on what was read, by the server or else by the list; the verdict is shown and returned. */
export async function scan(text: string, pax: number | null, direction: "entry" | "exit"): Promise<Verdict | null> {
  const here = lane.value;
  if (here === null || busy.value) return null;
  busy.value = true;
  const nonce = newNonce();
  try {
    const base = { nonce, at: Date.now(), direction, tail: text.slice(-4) };
    const said = await ask(base, here.lane, text, pax);
    if (said !== null && direction === "entry") await learn(text, said).catch(() => undefined);
    const verdict = said ?? (await alone(base, here.lane, text, pax));
    verdicts.value = [verdict, ...verdicts.value].slice(0, SHOWN_LAST);
    return verdict;
  } finally {
    busy.value = false;
  }
}

type Base = Pick<Verdict, "nonce" | "at" | "direction" | "tail">;

interface PhoneVerdict {
  code: string;
  admitted: boolean;
  pax: number;
  remaining: number;
  text_zh: string;
  text_en: string;
  staff_zh: string;
  staff_en: string;
}

/** The server's word; null when there is none to be had. */
async function ask(base: Base, where: string, text: string, pax: number | null): Promise<Verdict | null> {
  if (!live.value) return null;
  try {
    const params = { lane: where, nonce: base.nonce, code: text, pax, direction: base.direction };
    const said = await call<PhoneVerdict>("phone.scan", params, SCAN_TIMEOUT_MS);
    return {
      ...base,
      kind: said.admitted ? "ok" : said.code === "in_progress" || said.code === "emergency_go" ? "wait" : "no",
      code: said.code,
      pax: said.pax,
      remaining: said.remaining,
      zh: said.text_zh,
      en: said.text_en,
      staffZh: said.staff_zh,
      staffEn: said.staff_en,
      offline: false,
    };
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    if (error.lost || ["unavailable", "disconnected", "overloaded", "expired", "busy"].includes(error.code)) return null;
    return { ...base, ...nobody("no"), code: error.code, zh: error.zh, en: error.en, offline: false };
  }
}

/** What the server said of a ticket, the phone knows from then on, before the next list comes. */
async function learn(text: string, said: Verdict): Promise<void> {
  const known = list.value;
  if (known === null || !text.startsWith("PF1:")) return;
  const over = said.kind === "ok" ? said.remaining === 0 : OVER.includes(said.code);
  const code = await verify(text, new Map(known.keys));
  if (said.kind === "ok") letIn.set(code.ticket, (letIn.get(code.ticket) ?? 0) + said.pax);
  if (!over) return;
  const fresh = await mark(known.site, code.ticket);
  if (marks.has(fresh) || list.value !== known) return;
  adopt({ ...known, marks: [...known.marks, unhex(fresh)] });
  if (list.value !== null) await keepList(list.value);
}

/** The phone's own word. Who is let in is on the phone's disk before anybody hears of it. */
async function alone(base: Base, where: string, text: string, pax: number | null): Promise<Verdict> {
  let code: TicketCode | null = null;
  let people = pax ?? 1;
  let refused = "";
  if (base.direction === "entry") {
    const judged = await judge(where, text, pax);
    ({ code, people, refused } = judged);
  }
  if (refused === "") {
    const record: KeptRecord = {
      lane: where,
      nonce: base.nonce,
      at: serverNow(),
      pax: people,
      code: text,
      direction: base.direction,
      ticket: code?.ticket ?? 0,
      user: session.value?.user ?? "",
    };
    try {
      await keep(record);
      queue.value = await kept();
    } catch {
      refused = "not_kept";
    }
  }
  const [zh, en, staffZh, staffEn] = REFUSALS[refused] ?? ["请通行", "Please go in", "离线放行，联网后上传", "Let in offline"];
  const kind = refused === "" ? "ok" : "no";
  const shown = { code: refused || "ok", pax: refused === "" ? people : 0, remaining: null };
  return { ...base, kind, ...shown, zh, en, staffZh, staffEn, offline: true };
}

function nobody(kind: Verdict["kind"]): Omit<Verdict, keyof Base | "code" | "zh" | "en" | "offline"> {
  return { kind, pax: 0, remaining: null, staffZh: "", staffEn: "" };
}

/** Would the list let these people in? `refused` is why not. */
async function judge(
  where: string,
  text: string,
  pax: number | null,
): Promise<{ code: TicketCode | null; people: number; refused: string }> {
  const no = (refused: string) => ({ code: null, people: 0, refused });
  const known = list.value;
  if (known === null || known.lane !== where) return no("no_list");
  const now = serverNow();
  if (now - known.freshAt > LIST_GOOD_FOR_S) return no("old_list");
  if (!text.startsWith("PF1:")) return no("need_server"); // cards, short and rotating codes
  let code: TicketCode;
  try {
    code = await verify(text, new Map(known.keys));
  } catch (error) {
    return no(error instanceof BadCode ? error.code : "unknown_code");
  }
  if (code.site !== known.siteHash) return no("unknown_code");
  if (now < code.validFrom) return no("not_yet_valid");
  if (now > code.validTo) return no("expired");
  if (code.zones !== 0 && (code.zones & known.zoneBit) === 0) return no("wrong_zone");
  if (!known.alone.includes(code.productClass)) return no("need_server");
  if (marks.has(await mark(known.site, code.ticket))) return no("already_used");
  const before = queue.value
    .filter((record) => record.ticket === code.ticket && record.direction === "entry")
    .reduce((sum, record) => sum + record.pax, 0);
  const seen = Math.max(before, letIn.get(code.ticket) ?? 0);
  const left = code.pax - seen;
  if (left <= 0) return no("already_used");
  const people = pax ?? Math.min(left, known.maxGroup);
  if (people > left || people > known.maxGroup) return no("too_many");
  letIn.set(code.ticket, seen + people);
  return { code, people, refused: "" };
}

const letIn = new Map<number, number>(); // by this page alone, also after the upload: the list may be a minute old

/** People who were only counted. Throws when they cannot be kept. */
export async function count(people: number, direction: "entry" | "exit"): Promise<void> {
  const here = lane.value;
  if (here === null) return;
  const user = session.value?.user ?? "";
  const record = { lane: here.lane, nonce: newNonce(), at: serverNow(), pax: people, code: "", direction, ticket: 0, user };
  await keep(record);
  queue.value = await kept();
  void upload();
}

// --- what waits --------------------------------------------------------------------------------------------------------

interface Uploaded {
  booked: { nonce: string; passed: number; conflict: string }[];
}

/** Say what was done alone, in order, until nothing waits. Saying it twice changes nothing. */
export async function upload(): Promise<void> {
  if (uploading) return;
  uploading = true;
  try {
    for (;;) {
      const waiting = await kept();
      queue.value = waiting;
      const first = waiting[0];
      if (first === undefined || !live.value) return;
      const run = waiting.slice(0, UPLOAD_RECORDS);
      const end = run.findIndex((record) => record.lane !== first.lane);
      const part = end === -1 ? run : run.slice(0, end);
      const records = part.map(({ nonce, at, pax, code, direction }) => ({ nonce, at, pax, code, direction }));
      const said = await call<Uploaded>("phone.upload", { lane: first.lane, records }, 11_000);
      const booked = new Set(said.booked.map((each) => each.nonce));
      conflicts.value += said.booked.filter((each) => each.conflict !== "").length;
      await forget(part.filter((record) => booked.has(record.nonce)).map((record) => record.place as number));
    }
  } catch {
    window.setTimeout(() => void upload(), RETRY_MS);
  } finally {
    uploading = false;
  }
}

// --- the list ----------------------------------------------------------------------------------------------------------

async function useList(where: string): Promise<void> {
  try {
    const known = await keptList(where);
    if (known !== undefined && lane.value?.lane === where) adopt(known);
  } catch {
    listTrouble.value = "storage";
  }
}

function adopt(fresh: KeptList): void {
  const found = new Set<string>();
  for (const part of fresh.marks) {
    for (let place = 0; place + 8 <= part.length; place += 8) found.add(hex(part.subarray(place, place + 8)));
  }
  marks = found;
  list.value = fresh;
}

export async function refreshList(): Promise<void> {
  window.clearTimeout(listTimer);
  listTimer = window.setTimeout(() => void refreshList(), LIST_EVERY_MS);
  const here = lane.value;
  if (here === null || !live.value || !may("phone.list")) return;
  const known = list.value?.lane === here.lane ? list.value : null;
  const whole = known === null || serverNow() - known.madeAt > LIST_WHOLE_EVERY_S;
  try {
    const fresh = await fetchList(here.lane, whole ? null : known);
    if (lane.value?.lane !== here.lane) return;
    adopt(fresh);
    listTrouble.value = "";
    await keepList(fresh);
  } catch (error) {
    listTrouble.value = error instanceof CallError ? error.code : "storage";
  }
}

async function fetchList(where: string, known: KeptList | null): Promise<KeptList> {
  const parts: Uint8Array[] = known === null ? [] : [...known.marks];
  let begun = 0;
  let after = 0;
  for (;;) {
    const page = await pageOf(where, after, known === null ? 0 : known.freshAt - LIST_OVERLAP_S);
    begun ||= page.made_at;
    const fresh = bytes(page.marks);
    if (fresh.length > 0) parts.push(fresh);
    if (page.next !== null) {
      after = page.next;
      continue;
    }
    return {
      lane: where,
      madeAt: known?.madeAt ?? begun,
      freshAt: begun,
      offsetS: page.made_at - Date.now() / 1000,
      site: page.site,
      siteHash: await siteHash(page.site),
      zoneBit: page.zone_bit,
      keys: page.keys.map((key): [number, Uint8Array] => [key.key_id, bytes(key.public)]),
      alone: page.alone,
      maxGroup: page.max_group,
      marks: parts,
    };
  }
}

async function pageOf(where: string, after: number, since: number): Promise<ListPage> {
  for (let tries = 0; ; tries++) {
    try {
      return await call<ListPage>("phone.list", { lane: where, after, since });
    } catch (error) {
      if (tries >= 5 || !(error instanceof CallError) || !["rate_limited", "busy"].includes(error.code)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
}

function unhex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

function bytes(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function readSession(): Session | null {
  return readJson<Session>(SESSION_KEY);
}

function readJson<T>(key: string): T | null {
  try {
    return JSON.parse(read(key) ?? "null") as T | null;
  } catch {
    return null;
  }
}

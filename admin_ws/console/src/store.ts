// What the page knows: the last snapshot with every delta since, the session, and how old all of it is.

import { batch, computed, signal, type Signal } from "@preact/signals";
import { call, CallError, connect, connection, disconnect, handlers, lastFrameAt, reconnect } from "./rpc";
import type { Method } from "./rpc";
import { readIn } from "./format";
import type { Delta, DeviceView, EvacuationView, FeedEvent, FlowPoint, LaneView, Session, Snapshot, ZoneView } from "./types";

const STALE_AFTER_MS = 3_000; // the server sends something every second
const GIVE_UP_AFTER_MS = 8_000; // then the connection is dropped and a new one tried
/** From the trigger until a lane that has not opened is shown red; the goal is that none ever is. */
export const RED_AFTER_S = 2;
const FEED_LINES = 10_000; // what can be searched; far fewer are drawn
const FLOW_MINUTES = 24 * 60;
const TICK_MS = 250;
const LOGOUT_PATIENCE_MS = 1_500;
const TOKEN_KEY = "paifang.token";

export interface FeedLine extends FeedEvent {
  seq: number;
}

export const session = signal<Session | null>(null);
export const signingIn = signal(false);
export const sessionOver = signal(false);
export const loginError = signal<CallError | null>(null);

export const siteName = signal("");
export const revision = signal(0);
export const subscribed = signal(false);
export const laneIds = signal<string[]>([]);
export const zoneIds = signal<string[]>([]);
export const devices = signal<ReadonlyMap<string, DeviceView>>(new Map());
export const evacuation = signal<EvacuationView | null>(null);
export const flow = signal<readonly FlowPoint[]>([]);
export const feed = signal<readonly FeedLine[]>([]);

/** The page's wall clock set by the server's, and the monotonic one; both move every tick. */
export const serverNow = signal(Date.now() / 1000);
export const monotonicNow = signal(performance.now());

// One signal per lane and zone: what turns is drawn anew, its neighbours are not.
const laneSignals = new Map<string, Signal<LaneView>>();
const zoneSignals = new Map<string, Signal<ZoneView>>();
let clockOffsetS = 0;
let feedSeq = 0;
let resubscribing = false;
let subscribedEpoch = ""; // with `revision`: from where the server is asked to go on

export const ageMs = computed(() => Math.max(0, monotonicNow.value - lastFrameAt.value));
/** Is what the page shows possibly not what is? */
export const stale = computed(
  () => session.value !== null && (connection.value !== "open" || !subscribed.value || ageMs.value > STALE_AFTER_MS),
);
export const released = computed(() => {
  const view = evacuation.value;
  return view !== null && view.state !== "normal";
});

export function lane(id: string): LaneView {
  return laneSignals.get(id)!.value;
}

export function laneName(id: string): string {
  return laneSignals.get(id)?.value.name ?? id;
}

export function zone(id: string): ZoneView {
  return zoneSignals.get(id)!.value;
}

export function zoneName(id: string): string {
  return zoneSignals.get(id)?.value.name ?? id;
}

export function may(method: Method): boolean {
  return session.value?.methods.includes(method) ?? false;
}

/** Only the password form and the evacuation work until a one-time password is replaced. */
export const mustChangePassword = computed(() => session.value?.must_change === true);
/** The log-in form asks for the second factor as well. */
export const otpAsked = signal(false);

export async function signIn(user: string, password: string, totp = ""): Promise<void> {
  signingIn.value = true;
  loginError.value = null;
  try {
    await opened();
    begin(await call("session.login", { user, password, totp }));
    otpAsked.value = false;
  } catch (error) {
    const failed = asCallError(error);
    otpAsked.value = failed.code === "otp_needed" || failed.code === "bad_otp";
    loginError.value = failed.code === "otp_needed" ? null : failed;
    if (session.value === null) disconnect();
  } finally {
    signingIn.value = false;
  }
}

/** The token is given up at the server, too; a page that cannot reach it forgets it all the same. */
export async function signOut(): Promise<void> {
  if (may("session.logout")) {
    try {
      await call("session.logout", {}, LOGOUT_PATIENCE_MS);
    } catch {
      // it ends by itself
    }
  }
  forget();
  disconnect();
}

/** After a change of the password: the same person, another token. */
export function renewSession(found: Session): void {
  begin(found);
}

export function start(): void {
  window.setInterval(tick, TICK_MS);
  if (sessionStorage.getItem(TOKEN_KEY) !== null) {
    signingIn.value = true;
    connect();
  }
}

export function asCallError(error: unknown): CallError {
  if (error instanceof CallError) return error;
  return new CallError("internal", String(error), String(error));
}

function opened(): Promise<void> {
  if (connection.value === "open") return Promise.resolve();
  connect();
  return new Promise((resolve, reject) => {
    const timer = window.setTimeout(() => {
      stop();
      reject(new CallError("disconnected", "无法连接服务器", "The server cannot be reached"));
    }, 6_000);
    const stop = connection.subscribe((state) => {
      if (state !== "open") return;
      window.clearTimeout(timer);
      queueMicrotask(() => stop());
      resolve();
    });
  });
}

function begin(found: Session): void {
  session.value = found;
  sessionOver.value = false;
  sessionStorage.setItem(TOKEN_KEY, found.token);
  void subscribe();
}

function forget(): void {
  subscribedEpoch = "";
  sessionStorage.removeItem(TOKEN_KEY);
  session.value = null;
  sessionOver.value = false;
  subscribed.value = false;
}

async function resume(): Promise<void> {
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token === null) return;
  try {
    begin(await call("session.resume", { token }));
    signingIn.value = false;
  } catch (error) {
    const failed = asCallError(error);
    // an account service that is away is no reason to send everybody to the log-in form
    if (failed.lost || ["disconnected", "unavailable", "expired", "overloaded", "busy"].includes(failed.code)) {
      window.setTimeout(() => {
        if (connection.value === "open") void resume();
      }, 1_000);
      return;
    }
    loginError.value = failed;
    signingIn.value = false;
    forget();
    disconnect();
  }
}

async function subscribe(): Promise<void> {
  if (resubscribing || !may("site.subscribe")) return;
  resubscribing = true;
  try {
    const asked = subscribedEpoch === "" ? {} : { epoch: subscribedEpoch, revision: revision.value };
    show(await call("site.subscribe", asked));
  } catch {
    window.setTimeout(() => {
      if (connection.value === "open" && session.value !== null) void subscribe();
    }, 1_000);
  } finally {
    resubscribing = false;
  }
}

/** A whole snapshot, or after a break only what changed meanwhile: topics in `replaces` are whole, others go on. */
function show(snapshot: Snapshot): void {
  const whole = new Set(snapshot.replaces);
  batch(() => {
    siteName.value = snapshot.site_name;
    readIn(snapshot.timezone);
    revision.value = snapshot.revision;
    subscribedEpoch = snapshot.epoch;
    setClock(snapshot.server_at);
    // The signals stay: a tile that is drawn already listens to its own, and would not hear of another one.
    if (whole.has("lanes")) keepOnly(laneIds, laneSignals, new Set(snapshot.lanes.map((view) => view.lane)));
    if (whole.has("zones")) keepOnly(zoneIds, zoneSignals, new Set(snapshot.zones.map((view) => view.zone)));
    putLanes(snapshot.lanes);
    putZones(snapshot.zones);
    if (whole.has("devices")) devices.value = new Map();
    putDevices(snapshot.devices);
    if (whole.has("evacuation")) evacuation.value = snapshot.evacuation;
    if (whole.has("flow")) flow.value = [];
    putFlow(snapshot.flow);
    if (whole.has("feed")) feed.value = [];
    putFeed(snapshot.feed);
    subscribed.value = true;
  });
}

function keepOnly<T>(ids: Signal<string[]>, views: Map<string, Signal<T>>, present: ReadonlySet<string>): void {
  ids.value = ids.value.filter((id) => present.has(id));
  for (const id of views.keys()) if (!present.has(id)) views.delete(id);
}

function apply(delta: Delta): void {
  if (!subscribed.value) return;
  if (delta.revision !== revision.value && delta.revision !== revision.value + 1) {
    subscribed.value = false; // something was missed: what is shown can no longer be trusted
    void subscribe();
    return;
  }
  batch(() => {
    revision.value = delta.revision;
    setClock(delta.server_at);
    putLanes(delta.lanes);
    putZones(delta.zones);
    putDevices(delta.devices);
    if (delta.evacuation !== null) evacuation.value = delta.evacuation;
    putFlow(delta.flow);
    putFeed(delta.feed);
  });
}

function putLanes(views: LaneView[]): void {
  const fresh: string[] = [];
  for (const view of views) {
    const known = laneSignals.get(view.lane);
    if (known) known.value = view;
    else {
      laneSignals.set(view.lane, signal(view));
      fresh.push(view.lane);
    }
  }
  if (fresh.length > 0) laneIds.value = [...laneIds.value, ...fresh].sort(byPlace);
}

function putZones(views: ZoneView[]): void {
  const fresh: string[] = [];
  for (const view of views) {
    const known = zoneSignals.get(view.zone);
    if (known) known.value = view;
    else {
      zoneSignals.set(view.zone, signal(view));
      fresh.push(view.zone);
    }
  }
  if (fresh.length > 0) zoneIds.value = [...zoneIds.value, ...fresh];
}

function putDevices(views: DeviceView[]): void {
  if (views.length === 0) return;
  const next = new Map(devices.value);
  for (const view of views) {
    if (view.availability === "removed") next.delete(view.device);
    else next.set(view.device, view);
  }
  devices.value = next;
}

function putFeed(events: FeedEvent[]): void {
  if (events.length === 0) return;
  const lines = events.map((event) => ({ ...event, seq: ++feedSeq }));
  feed.value = [...feed.value, ...lines].slice(-FEED_LINES);
}

function putFlow(points: FlowPoint[]): void {
  if (points.length === 0) return;
  const byMinute = new Map(flow.value.map((point) => [point.minute, point]));
  for (const point of points) byMinute.set(point.minute, point);
  flow.value = [...byMinute.values()].sort((a, b) => a.minute - b.minute).slice(-FLOW_MINUTES);
}

const collator = new Intl.Collator("zh-CN", { numeric: true });

/** Lanes of an entrance together, and in the order in which they stand there. */
function byPlace(a: string, b: string): number {
  const [one, other] = [laneSignals.get(a)!.peek(), laneSignals.get(b)!.peek()];
  return collator.compare(one.entrance, other.entrance) || collator.compare(one.name, other.name) || collator.compare(a, b);
}

function setClock(serverAt: number): void {
  clockOffsetS = serverAt - Date.now() / 1000;
}

function tick(): void {
  batch(() => {
    monotonicNow.value = performance.now();
    serverNow.value = Date.now() / 1000 + clockOffsetS;
  });
  if (session.value !== null && connection.value === "open" && ageMs.value > GIVE_UP_AFTER_MS) reconnect();
}

handlers.onOpen = () => {
  subscribed.value = false;
  void resume();
};
handlers.onDelta = apply;
handlers.onSessionOver = () => {
  sessionOver.value = true;
  subscribed.value = false;
  sessionStorage.removeItem(TOKEN_KEY);
};

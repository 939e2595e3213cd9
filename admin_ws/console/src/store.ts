// What the page knows: the last snapshot with every delta since, the session, and how old all of it is.

import { batch, computed, signal, type Signal } from "@preact/signals";
import { call, CallError, connect, connection, disconnect, handlers, lastFrameAt, reconnect } from "./rpc";
import type { Method } from "./rpc";
import type { Delta, DeviceView, EvacuationView, FeedEvent, FlowPoint, LaneView, Session, Snapshot, ZoneView } from "./types";

const STALE_AFTER_MS = 3_000; // the server sends something every second
const GIVE_UP_AFTER_MS = 8_000; // then the connection is dropped and a new one tried
/** From the trigger until a lane that has not opened is shown red; the goal is that none ever is. */
export const RED_AFTER_S = 2;
const FEED_LINES = 500;
const FLOW_MINUTES = 24 * 60;
const TICK_MS = 250;
const TOKEN_KEY = "paifang.token";

export type View = "overview" | "sales" | "office" | "system";
export const view = signal<View>("overview");

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

export async function signIn(user: string, password: string): Promise<void> {
  signingIn.value = true;
  loginError.value = null;
  try {
    await opened();
    begin(await call("session.login", { user, password }));
  } catch (error) {
    loginError.value = asCallError(error);
    if (session.value === null) disconnect();
  } finally {
    signingIn.value = false;
  }
}

export function signOut(): void {
  forget();
  disconnect();
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
    show(await call("site.subscribe", {}));
  } catch {
    window.setTimeout(() => {
      if (connection.value === "open" && session.value !== null) void subscribe();
    }, 1_000);
  } finally {
    resubscribing = false;
  }
}

function show(snapshot: Snapshot): void {
  batch(() => {
    siteName.value = snapshot.site_name;
    revision.value = snapshot.revision;
    setClock(snapshot.server_at);
    // The signals stay: a tile that is drawn already listens to its own, and would not hear of another one.
    const lanes = new Set(snapshot.lanes.map((view) => view.lane));
    const zones = new Set(snapshot.zones.map((view) => view.zone));
    laneIds.value = laneIds.value.filter((id) => lanes.has(id));
    zoneIds.value = zoneIds.value.filter((id) => zones.has(id));
    for (const id of laneSignals.keys()) if (!lanes.has(id)) laneSignals.delete(id);
    for (const id of zoneSignals.keys()) if (!zones.has(id)) zoneSignals.delete(id);
    putLanes(snapshot.lanes);
    putZones(snapshot.zones);
    devices.value = new Map(snapshot.devices.map((view) => [view.device, view]));
    evacuation.value = snapshot.evacuation;
    flow.value = snapshot.flow;
    feed.value = snapshot.feed.map((event) => ({ ...event, seq: ++feedSeq }));
    subscribed.value = true;
  });
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
    if (delta.devices.length > 0) {
      const next = new Map(devices.value);
      for (const view of delta.devices) {
        if (view.availability === "removed") next.delete(view.device);
        else next.set(view.device, view);
      }
      devices.value = next;
    }
    if (delta.evacuation !== null) evacuation.value = delta.evacuation;
    if (delta.flow.length > 0) putFlow(delta.flow);
    if (delta.feed.length > 0) {
      const lines = delta.feed.map((event) => ({ ...event, seq: ++feedSeq }));
      feed.value = [...feed.value, ...lines].slice(-FEED_LINES);
    }
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

function putFlow(points: FlowPoint[]): void {
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

// The console channel from the page's side: JSON-RPC 2.0 over one WebSocket, which comes back by itself.

import { signal } from "@preact/signals";
import type { Actor } from "./system";
import type { Done, Delta, Login, Resume, Session, Snapshot } from "./types";
import type {
  AskRefundParams,
  CalibrateZoneParams,
  CardView,
  CollectPlacesParams,
  CollectedView,
  ExplainScanParams,
  Explanation,
  FindOrderParams,
  GetPrintJobsParams,
  HoldPlacesParams,
  ListProductsParams,
  ManualOpenParams,
  NewCardParams,
  OrderView,
  PauseBatchParams,
  PayRefundParams,
  PrintJobs,
  Products,
  RearmLaneParams,
  RefundView,
  RestoreRequestParams,
  ReversedView,
  SellParams,
  SetModeParams,
  SettleRefundParams,
  Sold,
  StopZoneForParams,
  TriggerParams,
  UndoAdmissionParams,
} from "./types";

const SUBPROTOCOL = "paifang.json";
const CALL_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
const RETRY_FIRST_MS = 300;
const RETRY_LONGEST_MS = 5_000;

/** Every method, its params and its result: the table of `admin_ws/channel.py` as the page sees it. */
export interface Methods {
  "session.login": [Pick<Login, "user" | "password">, Session];
  "session.resume": [Pick<Resume, "token">, Session];
  "site.subscribe": [Record<string, never>, Snapshot];
  "evacuation.trigger": [TriggerParams, Done];
  "evacuation.restore": [RestoreRequestParams, Done];
  "lane.rearm": [RearmLaneParams, Done];
  "lane.set_mode": [SetModeParams, Done];
  "lane.open": [ManualOpenParams, Done];
  "lane.pause": [PauseBatchParams, Done];
  "zone.stop": [StopZoneForParams, Done];
  "zone.calibrate": [CalibrateZoneParams, Done];
  "sales.products": [ListProductsParams, Products];
  "sales.sell": [SellParams, Sold];
  "sales.print_jobs": [GetPrintJobsParams, PrintJobs];
  "office.find": [FindOrderParams, OrderView];
  "office.hold": [HoldPlacesParams, Done];
  "office.refund": [AskRefundParams, RefundView];
  "office.decide_refund": [SettleRefundParams, RefundView];
  "office.pay_refund": [PayRefundParams, RefundView];
  "office.collect": [CollectPlacesParams, CollectedView];
  "office.reverse": [UndoAdmissionParams, ReversedView];
  "office.replace_card": [NewCardParams, CardView];
  "site.inspect": [Record<string, never>, Actor];
  "site.explain": [ExplainScanParams, Explanation];
}
export type Method = keyof Methods;

/** The server said no, or did not answer. `code` is stable; `lost` means that the outcome is unknown. */
export class CallError extends Error {
  constructor(
    readonly code: string,
    readonly zh: string,
    readonly en: string,
    readonly lost = false,
  ) {
    super(`${code}: ${en}`);
  }
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: CallError): void;
  timer: number;
}

interface Incoming {
  id?: number | string | null;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: { code: number; message: string; data?: { code?: string; text_zh?: string; text_en?: string } };
}

export type Connection = "closed" | "connecting" | "open";

export const connection = signal<Connection>("closed");
/** When the last frame of any kind came, on the page's monotonic clock (ms); 0 is never. */
export const lastFrameAt = signal(0);

let socket: WebSocket | null = null;
let nextId = 0;
let wanted = false; // should there be a connection?
let retryMs = RETRY_FIRST_MS;
let retryTimer = 0;
const waiting = new Map<number, Waiting>();

export const handlers: {
  onOpen(): void;
  onDelta(delta: Delta): void;
  onSessionOver(): void;
} = { onOpen() {}, onDelta() {}, onSessionOver() {} };

export function connect(): void {
  wanted = true;
  if (socket !== null) return;
  window.clearTimeout(retryTimer);
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/channel`;
  const mine = new WebSocket(url, SUBPROTOCOL);
  socket = mine;
  connection.value = "connecting";
  const patience = window.setTimeout(() => abandon(mine), CONNECT_TIMEOUT_MS);
  mine.onopen = () => {
    window.clearTimeout(patience);
    if (socket !== mine) return;
    retryMs = RETRY_FIRST_MS;
    connection.value = "open";
    lastFrameAt.value = performance.now();
    handlers.onOpen();
  };
  mine.onmessage = (event: MessageEvent<string>) => {
    if (socket === mine) receive(JSON.parse(event.data) as Incoming);
  };
  mine.onclose = () => {
    window.clearTimeout(patience);
    abandon(mine);
  };
}

export function disconnect(): void {
  wanted = false;
  window.clearTimeout(retryTimer);
  const mine = socket;
  if (mine !== null) {
    abandon(mine);
    mine.close(1000);
  }
}

/** Drop a connection that is dead or only seems alive, and begin another one. */
export function reconnect(): void {
  const mine = socket;
  if (mine !== null) {
    abandon(mine);
    mine.close();
  }
}

function abandon(mine: WebSocket): void {
  if (socket !== mine) return;
  socket = null;
  connection.value = "closed";
  for (const [id, call] of waiting) {
    waiting.delete(id);
    window.clearTimeout(call.timer);
    call.reject(new CallError("disconnected", "连接已断开，结果未知", "Connection lost; the outcome is unknown", true));
  }
  if (wanted) {
    // pages must not all come back in the same instant after a restart
    retryTimer = window.setTimeout(connect, retryMs * (0.75 + Math.random() / 2));
    retryMs = Math.min(RETRY_LONGEST_MS, retryMs * 2);
  }
}

function receive(message: Incoming): void {
  lastFrameAt.value = performance.now();
  if (message.method === "site.delta") {
    handlers.onDelta(message.params as Delta);
  } else if (message.method === "session.over") {
    handlers.onSessionOver();
  } else if (typeof message.id === "number") {
    const call = waiting.get(message.id);
    if (call === undefined) return;
    waiting.delete(message.id);
    window.clearTimeout(call.timer);
    if (message.error) {
      const data = message.error.data ?? {};
      const en = data.text_en || message.error.message;
      const code = data.code ?? String(message.error.code);
      call.reject(new CallError(code, data.text_zh || en, en, code === "timeout"));
    } else {
      call.resolve(message.result);
    }
  }
}

export function call<M extends Method>(
  method: M,
  params: Methods[M][0],
  timeoutMs = CALL_TIMEOUT_MS,
): Promise<Methods[M][1]> {
  return new Promise((resolve, reject) => {
    if (socket === null || socket.readyState !== WebSocket.OPEN) {
      reject(new CallError("disconnected", "未连接服务器", "Not connected to the server"));
      return;
    }
    const id = ++nextId;
    const timer = window.setTimeout(() => {
      waiting.delete(id);
      reject(new CallError("timeout", "响应超时，结果未知", "No answer in time; the outcome is unknown", true));
    }, timeoutMs);
    waiting.set(id, { resolve: resolve as (value: unknown) => void, reject, timer });
    socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
  });
}

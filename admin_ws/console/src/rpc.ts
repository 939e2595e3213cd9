// The console channel from the page's side: JSON-RPC 2.0 over one WebSocket, which comes back by itself.

import { signal } from "@preact/signals";
import type { Actor } from "./system";
import type * as T from "./types";

const SUBPROTOCOL = "paifang.json";
const CALL_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
const RETRY_FIRST_MS = 300;
const RETRY_LONGEST_MS = 5_000;

/** Every method, its params and its result: the table of `admin_ws/channel.py` as the page sees it. */
export interface Methods {
  "session.login": [T.LoginParams, T.Session];
  "session.resume": [T.ResumeParams, T.Session];
  "session.logout": [T.LogoutParams, T.Done];
  "session.set_password": [T.SetPasswordParams, T.Session];
  "session.totp_begin": [T.BeginTotpParams, T.TotpSecret];
  "session.totp_confirm": [T.ConfirmTotpParams, T.RecoveryCodes];
  "session.totp_remove": [T.RemoveTotpParams, T.Done];
  "users.list": [T.ListUsersParams, T.UserList];
  "users.roles": [T.ListRolesParams, T.RoleList];
  "users.sessions": [T.ListSessionsParams, T.SessionList];
  "users.create": [T.CreateUserParams, T.OneTimePassword];
  "users.reset_password": [T.ResetPasswordParams, T.OneTimePassword];
  "users.reset_totp": [T.ResetTotpParams, T.Done];
  "users.set_role": [T.SetUserRoleParams, T.Done];
  "users.disable": [T.DisableUserParams, T.Done];
  "users.remove": [T.RemoveUserParams, T.Done];
  "users.revoke": [T.RevokeSessionsParams, T.Done];
  "site.subscribe": [T.SubscriptionParams, T.Snapshot];
  "site.inspect": [Record<string, never>, Actor];
  "site.explain": [T.ExplainScanParams, T.Explanation];
  "site.reload": [T.ReloadSiteParams, T.Reloaded];
  "trace.path": [T.GetTraceParams, T.TracePath];
  "flow.report": [T.GetFlowReportParams, T.FlowReport];
  "cases.list": [T.ListCasesParams, T.CaseList];
  "cases.acknowledge": [T.AcknowledgeCaseParams, T.Done];
  "cases.assign": [T.AssignCaseParams, T.Done];
  "cases.note": [T.NoteCaseParams, T.Done];
  "cases.close": [T.CloseCaseParams, T.Done];
  "find.history": [T.FindHistoryParams, T.FindResult];
  "evacuation.trigger": [T.TriggerParams, T.Done];
  "evacuation.restore": [T.RestoreRequestParams, T.Done];
  "lane.rearm": [T.RearmLaneParams, T.Done];
  "lane.set_mode": [T.SetModeParams, T.Done];
  "lane.open": [T.ManualOpenParams, T.Done];
  "lane.pause": [T.PauseBatchParams, T.Done];
  "zone.stop": [T.StopZoneForParams, T.Done];
  "zone.calibrate": [T.CalibrateZoneParams, T.Done];
  "evacuation.count": [T.CountOutParams, T.Done];
  "mode.list": [Record<string, never>, T.Modes];
  "mode.start": [{ kind: string; subject: string; minutes: number; reason: string }, T.ModeView];
  "mode.end": [{ mode: number; reason: string }, T.Done];
  "sales.products": [T.ListProductsParams, T.Products];
  "sales.sell": [T.SellParams, T.Sold];
  "sales.print_jobs": [T.GetPrintJobsParams, T.PrintJobs];
  "ticket.wallet": [T.GetWalletParams, T.Wallet];
  "office.find": [T.FindOrderParams, T.OrderView];
  "office.hold": [T.HoldPlacesParams, T.Done];
  "office.refund": [T.AskRefundParams, T.RefundView];
  "office.decide_refund": [T.SettleRefundParams, T.RefundView];
  "office.pay_refund": [T.PayRefundParams, T.RefundView];
  "office.collect": [T.CollectPlacesParams, T.CollectedView];
  "office.reverse": [T.UndoAdmissionParams, T.ReversedView];
  "office.replace_card": [T.NewCardParams, T.CardView];
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
  onDelta(delta: T.Delta): void;
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
    handlers.onDelta(message.params as T.Delta);
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

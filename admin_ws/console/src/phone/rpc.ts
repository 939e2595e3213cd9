// The console channel from a phone's side: JSON-RPC 2.0 over one WebSocket that comes back by itself.

import { signal } from "@preact/signals";

const SUBPROTOCOL = "paifang.json";
const CONNECT_TIMEOUT_MS = 5_000;
const RETRY_FIRST_MS = 500;
const RETRY_LONGEST_MS = 8_000;
const QUIET_MS = 20_000; // without a word for so long, the connection is asked whether it lives

/** The server said no, or did not answer. `lost`: nobody knows what came of it. */
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

interface Incoming {
  id?: number | null;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: { message: string; data?: { code?: string; text_zh?: string; text_en?: string } };
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: CallError): void;
  timer: number;
}

export const online = signal(false);
export const handlers: {
  open(): void;
  note(method: string, params: unknown): void;
} = { open() {}, note() {} };

let socket: WebSocket | null = null;
let wanted = false;
let nextId = 0;
let retryMs = RETRY_FIRST_MS;
let retryTimer = 0;
let heardAt = 0;
const waiting = new Map<number, Waiting>();

export function connect(): void {
  wanted = true;
  if (socket !== null) return;
  window.clearTimeout(retryTimer);
  if (!navigator.onLine) {
    retryTimer = window.setTimeout(connect, RETRY_LONGEST_MS); // the phone says when there is a signal, mostly
    return;
  }
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/channel`;
  let mine: WebSocket;
  try {
    mine = new WebSocket(url, SUBPROTOCOL);
  } catch {
    retryTimer = window.setTimeout(connect, RETRY_LONGEST_MS);
    return;
  }
  socket = mine;
  const patience = window.setTimeout(() => drop(mine), CONNECT_TIMEOUT_MS);
  mine.onopen = () => {
    window.clearTimeout(patience);
    if (socket !== mine) return;
    retryMs = RETRY_FIRST_MS;
    heardAt = performance.now();
    online.value = true;
    handlers.open();
  };
  mine.onmessage = (event: MessageEvent<string>) => {
    if (socket === mine) hear(JSON.parse(event.data) as Incoming);
  };
  mine.onclose = () => {
    window.clearTimeout(patience);
    drop(mine);
  };
}

export function disconnect(): void {
  wanted = false;
  window.clearTimeout(retryTimer);
  if (socket !== null) drop(socket);
}

function drop(mine: WebSocket): void {
  if (socket !== mine) return;
  socket = null;
  online.value = false;
  mine.onclose = null;
  mine.close();
  for (const [id, call] of waiting) {
    waiting.delete(id);
    window.clearTimeout(call.timer);
    call.reject(new CallError("disconnected", "连接已断开", "Connection lost", true));
  }
  if (wanted) {
    retryTimer = window.setTimeout(connect, retryMs * (0.75 + Math.random() / 2));
    retryMs = Math.min(RETRY_LONGEST_MS, retryMs * 2);
  }
}

function hear(message: Incoming): void {
  heardAt = performance.now();
  if (message.method !== undefined) {
    handlers.note(message.method, message.params);
    return;
  }
  const call = typeof message.id === "number" ? waiting.get(message.id) : undefined;
  if (call === undefined) return;
  waiting.delete(message.id as number);
  window.clearTimeout(call.timer);
  if (message.error) {
    const data = message.error.data ?? {};
    const en = data.text_en || message.error.message;
    const code = data.code ?? "error";
    call.reject(new CallError(code, data.text_zh || en, en, code === "timeout"));
  } else {
    call.resolve(message.result);
  }
}

export function call<T>(method: string, params: object, timeoutMs = 9_000): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const mine = socket;
    if (mine === null || mine.readyState !== WebSocket.OPEN) {
      reject(new CallError("disconnected", "未连接服务器", "Not connected"));
      return;
    }
    const id = ++nextId;
    const timer = window.setTimeout(() => {
      waiting.delete(id);
      reject(new CallError("timeout", "响应超时", "No answer in time", true));
      if (performance.now() - heardAt > QUIET_MS || timeoutMs >= 3_000) drop(mine); // it only seems alive
    }, timeoutMs);
    waiting.set(id, { resolve: resolve as (value: unknown) => void, reject, timer });
    mine.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
  });
}

/** The phone has noticed that there is a signal again, or none. */
window.addEventListener("online", () => {
  if (wanted && socket === null) connect();
});
window.addEventListener("offline", () => {
  if (socket !== null) drop(socket);
});

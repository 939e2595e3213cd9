// Chinese and English, side by side so that neither is forgotten.

import { signal } from "@preact/signals";

export type Language = "zh" | "en";
const LANGUAGE_KEY = "paifang.language";

function initial(): Language {
  const saved = localStorage.getItem(LANGUAGE_KEY);
  if (saved === "zh" || saved === "en") return saved;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(initial());

export function setLanguage(next: Language): void {
  language.value = next;
  localStorage.setItem(LANGUAGE_KEY, next);
}

const texts = {
  // frame
  overview: ["总览", "Overview"],
  sales: ["售票窗口", "Sales window"],
  system: ["系统", "System"],
  live: ["实时", "Live"],
  stale: ["数据过期", "Stale"],
  offline: ["连接中断", "Offline"],
  connecting: ["正在连接", "Connecting"],
  staleBanner: ["数据已过期 {age} 秒，画面可能与现场不符", "Data is {age} s old; what you see may not be what is"],
  neverBanner: ["尚未收到数据", "No data received yet"],
  offlineHint: [
    "正在重新连接。紧急疏散请使用通道旁的紧急按钮，或在服务器上运行 paifang evacuate",
    "Reconnecting. To evacuate, use the push-buttons at the gates, or run paifang evacuate at the server",
  ],
  signOut: ["退出", "Sign out"],
  clockLabel: ["服务器时间", "Server time"],
  theme: ["切换明暗", "Switch theme"],
  dark: ["深色", "Dark"],
  light: ["浅色", "Light"],
  // log-in
  signIn: ["登录", "Sign in"],
  signingIn: ["正在登录…", "Signing in…"],
  controlRoom: ["景区票务与闸机调度", "Gate and ticket control"],
  user: ["用户名", "User name"],
  password: ["密码", "Password"],
  sessionOver: ["登录已失效，请重新登录。紧急疏散按钮仍然有效。", "Your session is over: sign in again. The evacuation button still works."],
  // zones
  zones: ["分区客流", "Zones"],
  inside: ["在内", "inside"],
  limit: ["上限", "limit"],
  noLimit: ["不限", "no limit"],
  held: ["待入 {n}", "{n} on the way in"],
  zoneNormal: ["正常", "Normal"],
  zoneSlow: ["限流", "Slow down"],
  zoneFull: ["已满", "Full"],
  // lanes
  lanes: ["通道", "Lanes"],
  in: ["进", "In"],
  out: ["出", "Out"],
  noneYet: ["暂无检票", "Nothing yet"],
  pass: ["请通行", "Passed"],
  lanesReady: ["{n} / {total} 条可用", "{n} of {total} available"],
  // lane panel
  setMode: ["切换模式", "Set mode"],
  manualOpen: ["人工放行", "Manual open"],
  people: ["人数", "People"],
  reason: ["原因（必填，记入日志）", "Reason (required, goes into the log)"],
  open: ["放行", "Open"],
  apply: ["应用", "Apply"],
  close: ["关闭", "Close"],
  rearm: ["复位", "Re-arm"],
  rearmAll: ["全部复位", "Re-arm all"],
  mode: ["模式", "Mode"],
  state: ["状态", "State"],
  barrier: ["闸门", "Barrier"],
  transport: ["连接", "Wired by"],
  serial: ["串口", "serial line"],
  link: ["设备链路", "device link"],
  from: ["由", "From"],
  to: ["至", "To"],
  sent: ["已发送", "Sent"],
  needReason: ["请填写原因", "Give a reason"],
  whileReleased: ["疏散期间不可切换模式", "Modes cannot be changed during an evacuation"],
  // feed
  feed: ["事件", "Events"],
  all: ["全部", "All"],
  refusals: ["拒绝", "Refused"],
  alarms: ["告警", "Alarms"],
  salesEvents: ["售票", "Sales"],
  passages: ["通行", "Passages"],
  other: ["其他", "Other"],
  search: ["筛选通道、代码或文字", "Filter by lane, code or text"],
  nothing: ["没有符合条件的事件", "No matching events"],
  // why a ticket is refused
  why: ["为什么？", "Why?"],
  whyCode: ["扫描或粘贴票码", "Scan or paste a code"],
  whyFace: ["假定人脸比对成功", "Suppose that the holder's face matches"],
  whyAdmitted: ["可放行 {n} 人", "Would be let in: {n}"],
  whyRefused: ["会被拒绝", "Would be refused"],
  whyCure: ["可通过：", "It would pass:"],
  // flow
  flow: ["每分钟人数", "People per minute"],
  entries: ["进入", "Entries"],
  exits: ["离开", "Exits"],
  refused: ["拒绝", "Refused"],
  minutes: ["{n} 分钟", "{n} min"],
  hours: ["{n} 小时", "{n} h"],
  // devices
  devices: ["设备", "Devices"],
  allDevices: ["{n} 台设备全部正常", "All {n} devices available"],
  someDevices: ["{bad} / {n} 台设备异常", "{bad} of {n} devices not available"],
  // system
  actor: ["组件", "Actor"],
  mailbox: ["待处理", "Mailbox"],
  oldest: ["最久等待", "Oldest"],
  rate: ["每秒", "Per second"],
  handled: ["已处理", "Handled"],
  deadLetters: ["未处理", "Dead letters"],
  restarts: ["重启", "Restarts"],
  lastError: ["最近错误", "Last error"],
  down: ["停止", "DOWN"],
  // evacuation
  evacuate: ["紧急疏散", "EVACUATE"],
  evacuateHint: ["按住 0.8 秒，开启全部通道", "Hold 0.8 s to open every lane"],
  evacuateHintDrill: ["演练：按住 0.8 秒，开启全部通道", "Drill: hold 0.8 s to open every lane"],
  evacuateReal: ["演练转为真实疏散：按住 0.8 秒", "Make the drill real: hold 0.8 s"],
  evacuateKeep: ["继续按住", "Keep holding"],
  evacuateSent: ["已发送，等待确认…", "Sent, waiting for the server…"],
  evacuateTold: ["服务器已收到；登录后可查看通道状态", "The server has it; sign in to see the lanes"],
  evacuateUnsure: [
    "服务器未确认！请使用现场紧急按钮或 paifang evacuate",
    "Not confirmed! Use the push-buttons at the gates, or paifang evacuate",
  ],
  drill: ["演练", "Drill"],
  released: ["疏散中：全部通道已命令开启", "Evacuation: every lane is commanded open"],
  drillReleased: ["疏散演练：全部通道已命令开启", "Evacuation drill: every lane is commanded open"],
  restoring: ["疏散已解除，逐条复位通道", "Evacuation over: re-arm the lanes"],
  triggeredBy: ["由 {by} 于 {at} 触发", "Triggered by {by} at {at}"],
  confirmed: ["{n} / {total} 条通道已确认开启", "{n} of {total} lanes sensed open"],
  missing: ["{n} 条通道未确认", "{n} not confirmed"],
  commanded: ["已命令", "commanded"],
  acknowledged: ["已应答", "acknowledged"],
  sensed: ["已开启", "sensed open"],
  waiting: ["等待 {s} 秒", "waiting {s} s"],
  unconfirmed: ["未确认", "NOT CONFIRMED"],
  notOpen: ["未确认", "Unconfirmed"],
  acknowledgedClosed: ["已应答，未感应到开启", "answered, not sensed open"],
  restore: ["解除疏散", "End the evacuation"],
  restoreSecond: ["作为第二人确认解除", "Confirm as the second person"],
  restoreWaiting: ["{by} 已申请解除，需另一人确认", "{by} asked to end it; a second person must confirm"],
  restoreAsk: ["需两人确认", "Two people must confirm"],
  // sales
  products: ["票种", "Products"],
  order: ["订单", "Order"],
  empty: ["请选择票种（数字键 1–9）", "Choose a product (keys 1–9)"],
  quantity: ["数量", "Quantity"],
  total: ["合计", "Total"],
  tender: ["付款方式", "Paid by"],
  cash: ["现金", "Cash"],
  bank_card: ["银行卡", "Card"],
  alipay: ["支付宝", "Alipay"],
  wechat: ["微信", "WeChat"],
  received: ["实收", "Received"],
  change: ["找零", "Change"],
  exact: ["恰好", "Exact"],
  sell: ["售票（回车）", "Sell (Enter)"],
  selling: ["正在出票…", "Selling…"],
  clear: ["清空（Esc）", "Clear (Esc)"],
  printer: ["打印机", "Printer"],
  noPrinter: ["不打印", "Do not print"],
  soldOrder: ["订单 {n} 已售出", "Order {n} sold"],
  repeatedOrder: ["此订单先前已售出，未重复收款", "This order had been sold before; it was not sold twice"],
  ticketCode: ["票码末位", "Code ends in"],
  validTo: ["有效期至", "Valid until"],
  printState: ["打印", "Printing"],
  queued: ["排队中", "Queued"],
  printing: ["打印中", "Printing"],
  done: ["已打印", "Printed"],
  failed: ["打印失败", "Failed"],
  retry: ["结果未知：再次售票不会重复出单", "Outcome unknown: sell again, the order cannot be doubled"],
  card: ["年卡号", "Card number"],
  holder: ["持卡人", "Holder"],
  photo: ["照片（JPEG，≤ 300 KB）", "Photograph (JPEG, at most 300 KB)"],
  photoTooBig: ["照片超过 300 KB", "The photograph is over 300 KB"],
  persons: ["{n} 人", "{n} people"],
  nextOrder: ["下一单", "Next order"],
  notEnough: ["实收不足", "Not enough received"],
} as const satisfies Record<string, readonly [string, string]>;

export type Text = keyof typeof texts;

export function t(key: Text, values: Record<string, string | number> = {}): string {
  const text: string = texts[key][language.value === "zh" ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

export function pick(zh: string, en: string): string {
  return language.value === "zh" ? zh || en : en || zh;
}

// Words of the site's vocabulary. One that is missing is shown as it came: an unknown state must not look like a known one.
const words: Record<string, readonly [string, string]> = {
  "mode.closed": ["关闭", "Closed"],
  "mode.normal_entry": ["只进", "Entry"],
  "mode.normal_exit": ["只出", "Exit"],
  "mode.bidirectional": ["双向", "Both ways"],
  "mode.free_counted": ["自由通行", "Free, counted"],
  "mode.maintenance": ["维护", "Maintenance"],
  "mode.fault": ["故障", "Fault"],
  "mode.emergency_released": ["紧急开启", "Released"],
  "mode.needs_rearm": ["待复位", "Needs re-arming"],
  "state.idle": ["就绪", "Ready"],
  "state.deciding": ["核验中", "Deciding"],
  "state.granted": ["已放行", "Open for one"],
  "state.passing": ["通行中", "Passing"],
  "state.released": ["已开启", "Released"],
  "state.needs_rearm": ["待复位", "Needs re-arming"],
  "state.unavailable": ["不可用", "Unavailable"],
  "state.starting": ["启动中", "Starting"],
  "state.closing": ["关闭中", "Closing"],
  "state.rearming": ["复位中", "Re-arming"],
  "state.closed": ["关闭", "Closed"],
  "state.refused": ["已拒绝", "Refused"],
  "state.recovering": ["恢复中", "Recovering"],
  "state.maintenance": ["维护", "Maintenance"],
  "state.fault": ["故障", "Fault"],
  "barrier.closed": ["关", "Shut"],
  "barrier.opening": ["开启中", "Opening"],
  "barrier.open": ["开", "Open"],
  "barrier.closing": ["关闭中", "Closing"],
  "barrier.released": ["已释放", "Released"],
  "barrier.unknown": ["未知", "Unknown"],
  "availability.unknown": ["未知", "Unknown"],
  "availability.available": ["正常", "Available"],
  "availability.unavailable": ["不可用", "Unavailable"],
  "device.gate": ["闸机", "Gate"],
  "device.reader": ["读头", "Reader"],
  "device.printer": ["打印机", "Printer"],
  "device.link": ["链路", "Link"],
  "device.database": ["数据库", "Database"],
  "device.face": ["人脸", "Faces"],
  "device.lane": ["通道", "Lane"],
  "alarm.tailgate": ["尾随", "Tailgating"],
  "alarm.reverse": ["逆行", "Wrong way"],
  "alarm.intrusion": ["闯入", "Intrusion"],
  "alarm.loitering": ["滞留", "Loitering"],
  "alarm.pinch": ["防夹", "Obstructed"],
  "alarm.forced": ["强行推门", "Forced"],
  "alarm.fire": ["消防", "Fire"],
  "alarm.power_loss": ["断电", "Power loss"],
  "alarm.external": ["外部告警", "External alarm"],
  "alarm.self_test": ["自检", "Self test"],
  "alarm.fault": ["故障", "Fault"],
  "kind.admitted": ["放行", "Admitted"],
  "kind.refused": ["拒绝", "Refused"],
  "kind.passage": ["通行", "Passage"],
  "kind.alarm": ["告警", "Alarm"],
  "kind.sale": ["售票", "Sale"],
  "kind.print": ["打印", "Print"],
  "kind.device": ["设备", "Device"],
  "kind.mode": ["模式", "Mode"],
  "kind.evacuation": ["疏散", "Evacuation"],
  "kind.case": ["个案", "Case"],
  "kind.login": ["登录", "Log-in"],
  "role.gate_staff": ["检票员", "Gate staff"],
  "role.duty_manager": ["值班经理", "Duty manager"],
  "role.operator": ["值班员", "Operator"],
  "role.cashier": ["售票员", "Cashier"],
  "role.security": ["安保", "Security"],
  "role.auditor": ["审计", "Auditor"],
};

export function word(group: string, value: string): string {
  return words[`${group}.${value}`]?.[language.value === "zh" ? 0 : 1] ?? value;
}

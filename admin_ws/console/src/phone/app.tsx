// The frame: log-in, choice of the lane, three places at the bottom, and what must never be overlooked at the top.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { CountPage } from "./count";
import { setSound, setStay, sound, stay, wake } from "./feedback";
import { FiguresPage } from "./figures";
import { CountIcon, FiguresIcon, MenuIcon, ScanIcon } from "./icons";
import { ScanPage } from "./scan";
import {
  chooseLane,
  conflicts,
  lane,
  lanes,
  list,
  live,
  logIn,
  logOut,
  may,
  queue,
  released,
  serverNow,
  session,
  siteName,
} from "./state";
import { lang, setLang, setTheme, t, theme } from "./words";

type Place = "scan" | "count" | "figures";
const place = signal<Place>("scan");
const menu = signal(false);
const OLD_LIST_S = 15 * 60; // said from then on

export function App() {
  if (session.value === null) return <LogIn />;
  const attends = may("phone.scan");
  const manages = may("site.figures");
  if (!attends && !manages) return <Nothing />;
  if (attends && lane.value === null && !(manages && lanes.value?.length === 0)) return <ChooseLane />;
  const at: Place = attends && lane.value !== null ? place.value : "figures";
  return (
    <div class="frame" onPointerDown={wake}>
      <Top />
      {released.value && (
        <div class="released" role="alert">
          {t("疏散中：全部放行，请引导游客离开", "Evacuation: all ways are open, lead visitors out")}
        </div>
      )}
      <main>
        {at === "scan" && <ScanPage />}
        {at === "count" && <CountPage />}
        {at === "figures" && <FiguresPage />}
      </main>
      {attends && lane.value !== null && (
        <nav aria-label={t("页面", "Pages")}>
          <Tab name="scan" at={at} text={t("检票", "Check")} icon={<ScanIcon />} />
          <Tab name="count" at={at} text={t("计数", "Count")} icon={<CountIcon />} />
          {manages && <Tab name="figures" at={at} text={t("概况", "Figures")} icon={<FiguresIcon />} />}
        </nav>
      )}
      {menu.value && <Menu />}
    </div>
  );
}

function Tab(props: { name: Place; at: Place; text: string; icon: preact.JSX.Element }) {
  const here = props.at === props.name;
  return (
    <button type="button" class="tab" aria-current={here ? "page" : undefined} onClick={() => (place.value = props.name)}>
      {props.icon}
      <span>{props.text}</span>
    </button>
  );
}

function Top() {
  const waiting = queue.value.length;
  const age = list.value === null ? null : serverNow() - list.value.freshAt;
  const old = !live.value && (age === null || age > OLD_LIST_S);
  return (
    <header>
      <div class="where">
        <h1>{lane.value?.name ?? siteName.value}</h1>
        <p>{[siteName.value, lane.value?.entrance].filter(Boolean).join(" · ") || session.value?.user}</p>
      </div>
      <div class="signs" role="status">
        {conflicts.value > 0 && <span class="pill alarm">{t(`冲突 ${conflicts.value}`, `${conflicts.value} conflicts`)}</span>}
        {waiting > 0 && <span class="pill warn" data-waiting={waiting}>{t(`待上传 ${waiting}`, `${waiting} to upload`)}</span>}
        {old && (
          <span class="pill alarm">
            {age === null ? t("无名单", "No list") : t(`名单 ${minutes(age)} 分钟前`, `List ${minutes(age)} min old`)}
          </span>
        )}
        <span class={live.value ? "pill ok" : "pill warn"} data-live={live.value}>
          {live.value ? t("在线", "Online") : t("离线", "Offline")}
        </span>
      </div>
      <button type="button" class="round" aria-label={t("菜单", "Menu")} onClick={() => (menu.value = true)}>
        <MenuIcon />
      </button>
    </header>
  );
}

function minutes(seconds: number): number {
  return Math.max(1, Math.round(seconds / 60));
}

function Menu() {
  const close = () => (menu.value = false);
  return (
    <div
      class="sheet"
      onClick={(event) => {
        if (event.target === event.currentTarget) close();
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <div class="card" role="dialog" aria-modal="true" aria-label={t("菜单", "Menu")}>
        <p class="muted">
          {session.value?.user} · {list.value === null ? t("无离线名单", "no offline list") : listText()}
        </p>
        <button type="button" class="wide" ref={(element) => element?.focus()} onClick={() => setLang(lang.value === "zh" ? "en" : "zh")}>
          {lang.value === "zh" ? "English" : "中文"}
        </button>
        <button type="button" class="wide" onClick={() => setTheme(theme.value === "dark" ? "light" : "dark")}>
          {theme.value === "dark" ? t("浅色（室外）", "Light (outdoors)") : t("深色", "Dark")}
        </button>
        <button type="button" class="wide" aria-pressed={sound.value} onClick={() => setSound(!sound.value)}>
          {sound.value ? t("声音：开", "Sound: on") : t("声音：关", "Sound: off")}
        </button>
        <button type="button" class="wide" aria-pressed={stay.value} onClick={() => setStay(!stay.value)}>
          {stay.value ? t("绿屏：点按消失", "Green: until tapped") : t("绿屏：自动消失", "Green: goes by itself")}
        </button>
        <button
          type="button"
          class="wide"
          onClick={() => {
            close();
            chooseLane(null);
          }}
        >
          {t("更换通道", "Another lane")}
        </button>
        <button
          type="button"
          class="wide danger"
          onClick={() => {
            close();
            logOut();
          }}
        >
          {t("退出登录", "Log out")}
          {queue.value.length > 0 && <small>{t(`（${queue.value.length} 条留在本机）`, ` (${queue.value.length} stay on this phone)`)}</small>}
        </button>
        <button type="button" class="wide primary" onClick={close}>
          {t("返回", "Back")}
        </button>
      </div>
    </div>
  );
}

function listText(): string {
  const at = new Date((list.value?.freshAt ?? 0) * 1000).toLocaleTimeString(lang.value === "zh" ? "zh-CN" : "en-GB");
  return t(`离线名单 ${at}`, `offline list of ${at}`);
}

function LogIn() {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [totp, setTotp] = useState("");
  const [asks, setAsks] = useState(false);
  const [trouble, setTrouble] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    wake();
    setBusy(true);
    const error = await logIn(user.trim(), password, totp.trim());
    setBusy(false);
    if (error === null) return;
    setAsks(asks || error.code === "otp_needed" || error.code === "bad_otp");
    setTrouble(t(error.zh, error.en));
  };
  return (
    <main class="login">
      <form class="card" onSubmit={(event) => void submit(event)}>
        <h1>{t("手持检票", "Ticket check")}</h1>
        <p class="muted">Paifang 牌坊</p>
        <label>
          {t("用户名", "User")}
          <input name="user" autocomplete="username" autocapitalize="none" required value={user} onInput={(event) => setUser(event.currentTarget.value)} />
        </label>
        <label>
          {t("密码", "Password")}
          <input name="password" type="password" autocomplete="current-password" required value={password} onInput={(event) => setPassword(event.currentTarget.value)} />
        </label>
        {asks && (
          <label>
            {t("验证码", "One-time code")}
            <input name="totp" inputMode="numeric" autocomplete="one-time-code" value={totp} onInput={(event) => setTotp(event.currentTarget.value)} />
          </label>
        )}
        <p class="trouble" role="alert">
          {trouble}
        </p>
        <button type="submit" class="wide primary" disabled={busy}>
          {busy ? t("登录中…", "Logging in…") : t("登录", "Log in")}
        </button>
        <button type="button" class="plain" onClick={() => setLang(lang.value === "zh" ? "en" : "zh")}>
          {lang.value === "zh" ? "English" : "中文"}
        </button>
      </form>
    </main>
  );
}

function ChooseLane() {
  const choices = lanes.value;
  return (
    <main class="login">
      <div class="card">
        <h1>{t("选择通道", "Choose the lane")}</h1>
        {choices === null && <p class="muted">{t("正在连接…", "Connecting…")}</p>}
        {choices?.length === 0 && (
          <p class="muted">{t("站点文件中没有手持检票通道（kind = attendant）", "The site file has no lane of kind attendant")}</p>
        )}
        {choices?.map((choice) => (
          <button type="button" class="wide" key={choice.lane} onClick={() => chooseLane(choice)}>
            {choice.name}
            {choice.entrance && <small> {choice.entrance}</small>}
          </button>
        ))}
        <button type="button" class="plain" onClick={() => logOut()}>
          {t("退出登录", "Log out")}
        </button>
      </div>
    </main>
  );
}

function Nothing() {
  const change = session.value?.must_change === true;
  return (
    <main class="login">
      <div class="card">
        <h1>{change ? t("请先修改密码", "Change the password first") : t("没有检票权限", "No permission to check")}</h1>
        <p class="muted">{change ? t("请在控制台登录并修改初始密码", "Log in at a console and set your own password") : session.value?.user}</p>
        <button type="button" class="wide" onClick={() => logOut()}>
          {t("退出登录", "Log out")}
        </button>
      </div>
    </main>
  );
}

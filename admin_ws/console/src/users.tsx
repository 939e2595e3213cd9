// People: who there is, which role they have here, who is logged in; a new one, a lost password, a session to end.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { clock, dateTime } from "./format";
import { Dialog } from "./dialog";
import { pick, t, word } from "./i18n";
import { Icon } from "./icons";
import { call, type CallError } from "./rpc";
import { asCallError, may, serverNow, session } from "./store";
import type { OneTimePassword, RoleRow, SessionRow, UserRow } from "./types";

const LOOK_EVERY_MS = 10_000;
const REASON_MOST = 200; // characters, as the server takes them

const users = signal<readonly UserRow[]>([]);
const roles = signal<readonly RoleRow[]>([]);
const sessions = signal<readonly SessionRow[]>([]);
const problem = signal<CallError | null>(null);
const told = signal("");
const password = signal<OneTimePassword | null>(null);

async function load(): Promise<void> {
  try {
    const [list, open] = await Promise.all([call("users.list", {}), call("users.sessions", {})]);
    users.value = list.users;
    sessions.value = open.sessions;
    if (roles.value.length === 0) roles.value = (await call("users.roles", {})).roles;
    problem.value = null;
  } catch (error) {
    problem.value = asCallError(error);
  }
}

async function run(what: () => Promise<unknown>): Promise<boolean> {
  told.value = "";
  try {
    const answer = await what();
    if (isPassword(answer)) password.value = answer;
    else told.value = t("done_");
    await load();
    return true;
  } catch (error) {
    problem.value = asCallError(error);
    return false;
  }
}

function isPassword(answer: unknown): answer is OneTimePassword {
  return typeof answer === "object" && answer !== null && "password" in answer;
}

function roleName(role: string): string {
  const known = roles.value.find((one) => one.role === role);
  return known === undefined ? (role === "" ? t("noRole") : word("role", role)) : pick(known.name_zh, known.name_en);
}

type Asking = { what: "create" } | { what: "role" | "disable" | "remove" | "password" | "totp"; user: UserRow };

export function Users(): JSX.Element {
  const [asking, setAsking] = useState<Asking | null>(null);
  useEffect(() => {
    void load();
    const timer = window.setInterval(() => void load(), LOOK_EVERY_MS);
    return () => {
      window.clearInterval(timer);
      password.value = null;
      told.value = "";
    };
  }, []);
  return (
    <div class="users">
      <section class="card table-card" aria-label={t("users")}>
        <header class="section-head">
          <h2>{t("usersHere", { n: users.value.length })}</h2>
          <span class="spacer" />
          {may("users.create") && (
            <button type="button" class="primary" data-command="create" onClick={() => setAsking({ what: "create" })}>
              <Icon name="person" /> {t("newUser")}
            </button>
          )}
        </header>
        {problem.value !== null && (
          <p class="error" role="alert">
            <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
          </p>
        )}
        {told.value !== "" && (
          <p class="good" role="status">
            <Icon name="check" /> {told.value}
          </p>
        )}
        <div class="scroll" tabIndex={0} role="group" aria-label={t("users")}>
          <table data-testid="users">
            <thead>
              <tr>
                <th scope="col">{t("user")}</th>
                <th scope="col">{t("role")}</th>
                <th scope="col">{t("state")}</th>
                <th scope="col">{t("secondFactor")}</th>
                <th scope="col" class="number">{t("sessionsShort")}</th>
                <th scope="col">{t("lastLogin")}</th>
                <th scope="col">{t("commands")}</th>
              </tr>
            </thead>
            <tbody>
              {users.value.map((user) => (
                <tr key={user.name} data-user={user.name} class={user.disabled ? "is-off" : ""}>
                  <th scope="row">{user.name}</th>
                  <td>{roleName(user.role)}</td>
                  <td>
                    <State user={user} />
                  </td>
                  <td>{user.totp ? <span class="good">{t("totpOn")}</span> : <span class="muted">–</span>}</td>
                  <td class="number">{user.sessions || ""}</td>
                  <td>{user.last_login_at === null ? "" : dateTime(user.last_login_at)}</td>
                  <td class="row-buttons">
                    {may("users.set_role") && (
                      <button type="button" class="small" onClick={() => setAsking({ what: "role", user })}>
                        {t("role")}
                      </button>
                    )}
                    {may("users.reset_password") && (
                      <button type="button" class="small" onClick={() => setAsking({ what: "password", user })}>
                        {t("resetPassword")}
                      </button>
                    )}
                    {user.totp && may("users.reset_totp") && (
                      <button type="button" class="small" onClick={() => setAsking({ what: "totp", user })}>
                        {t("resetTotp")}
                      </button>
                    )}
                    {may("users.disable") && user.name !== session.value?.user && (
                      <button type="button" class="small" onClick={() => setAsking({ what: "disable", user })}>
                        {t(user.disabled ? "enable" : "disable")}
                      </button>
                    )}
                    {may("users.remove") && user.name !== session.value?.user && (
                      <button type="button" class="small" onClick={() => setAsking({ what: "remove", user })}>
                        {t("remove")}
                      </button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      <section class="card table-card" aria-label={t("sessions")}>
        <h2>{t("sessions")}</h2>
        <div class="scroll" tabIndex={0} role="group" aria-label={t("sessions")}>
          <table data-testid="sessions">
            <thead>
              <tr>
                <th scope="col">{t("user")}</th>
                <th scope="col">{t("role")}</th>
                <th scope="col">{t("since")}</th>
                <th scope="col">{t("lastSeen")}</th>
                <th scope="col">{t("endsAt")}</th>
                <th scope="col">{t("commands")}</th>
              </tr>
            </thead>
            <tbody>
              {sessions.value.map((one) => (
                <tr key={one.session} data-session={one.session}>
                  <th scope="row">{one.user}</th>
                  <td>{roleName(one.role)}</td>
                  <td>{dateTime(one.since)}</td>
                  <td>{clock(one.last_seen)}</td>
                  <td>{dateTime(one.ends_at)}</td>
                  <td>
                    {may("users.revoke") && (
                      <button type="button" class="small" onClick={() => void run(() => call("users.revoke", { session: one.session, reason: "console" }))}>
                        {t("revoke")}
                      </button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      {asking !== null && <Ask asking={asking} onClose={() => setAsking(null)} />}
      {password.value !== null && <ShownOnce given={password.value} />}
    </div>
  );
}

function State({ user }: { user: UserRow }): JSX.Element {
  if (user.disabled) return <span class="warn">{t("disabled")}</span>;
  if (user.locked_until !== null && user.locked_until > serverNow.value) return <span class="warn">{t("lockedUntil", { at: clock(user.locked_until) })}</span>;
  if (user.must_change) return <span class="muted">{t("mustChange")}</span>;
  return <span class="good">{t("activeUser")}</span>;
}

const TITLES = {
  create: "newUser",
  role: "setRole",
  disable: "disableUser",
  remove: "removeUser",
  password: "resetPassword",
  totp: "resetTotp",
} as const;

function Ask({ asking, onClose }: { asking: Asking; onClose(): void }): JSX.Element {
  const known = asking.what === "create" ? null : asking.user;
  const [name, setName] = useState(known?.name ?? "");
  const [role, setRole] = useState(known?.role ?? roles.value[0]?.role ?? "");
  const [reason, setReason] = useState("");
  const send = async () => {
    const user = name.trim();
    const why = reason.trim();
    const done = await run(() => {
      switch (asking.what) {
        case "create":
          return call("users.create", { user, role, reason: why });
        case "role":
          return call("users.set_role", { user, role, reason: why });
        case "password":
          return call("users.reset_password", { user, reason: why });
        case "totp":
          return call("users.reset_totp", { user, reason: why });
        case "remove":
          return call("users.remove", { user, reason: why });
        case "disable":
          return call("users.disable", { user, disabled: !asking.user.disabled, reason: why });
      }
    });
    if (done) onClose();
  };
  return (
    <Dialog title={`${t(TITLES[asking.what])}${known === null ? "" : ` · ${known.name}`}`} onClose={onClose}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}
      >
        {asking.what === "create" && (
          <label>
            {t("user")}
            <input name="new-user" required maxLength={64} autocomplete="off" value={name} onInput={(event) => setName(event.currentTarget.value)} />
          </label>
        )}
        {(asking.what === "create" || asking.what === "role") && (
          <label>
            {t("role")}
            <select name="new-role" value={role} onChange={(event) => setRole(event.currentTarget.value)}>
              {roles.value.map((one) => (
                <option key={one.role} value={one.role}>
                  {pick(one.name_zh, one.name_en)}
                </option>
              ))}
            </select>
          </label>
        )}
        <label>
          {t("reason")}
          <input name="user-reason" required maxLength={REASON_MOST} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
        {problem.value !== null && (
          <p class="error" role="alert">
            <Icon name="cross" /> {pick(problem.value.zh, problem.value.en)}
          </p>
        )}
        <button type="submit" class="primary">
          {t("apply")}
        </button>
      </form>
    </Dialog>
  );
}

/** A one-time password, to be read off or written down now: nobody can show it again. */
function ShownOnce({ given }: { given: OneTimePassword }): JSX.Element {
  return (
    <Dialog title={t("oneTimePassword")} onClose={() => (password.value = null)}>
      <p>{t("oneTimeHint", { user: given.user })}</p>
      <output class="secret" data-testid="one-time-password">
        {given.password}
      </output>
    </Dialog>
  );
}

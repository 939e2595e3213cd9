// One's own password and second factor.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { pick, t } from "./i18n";
import { Icon } from "./icons";
import { call } from "./rpc";
import { asCallError, may, renewSession, session } from "./store";
import type { TotpSecret } from "./types";

const SECRET_MOST = 128; // characters, as the server takes them

interface Told {
  text: string;
  bad: boolean;
}

function Said({ told }: { told: Told | null }): JSX.Element | null {
  if (told === null) return null;
  return (
    <p class={told.bad ? "error" : "good"} role="status">
      <Icon name={told.bad ? "cross" : "check"} /> {told.text}
    </p>
  );
}

export function Own(): JSX.Element | null {
  if (!may("session.set_password") && !may("session.totp_begin")) return null;
  return (
    <section class="card own" aria-label={t("ownAccount")}>
      <h2>
        {t("ownAccount")} · {session.value?.user}
      </h2>
      {may("session.set_password") && <PasswordForm />}
      {may("session.totp_begin") && <SecondFactor />}
    </section>
  );
}

/** The form alone is the whole page while a one-time password waits to be replaced. */
export function PasswordForm(): JSX.Element {
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const [again, setAgain] = useState("");
  const [told, setTold] = useState<Told | null>(null);
  const send = async () => {
    if (fresh !== again) {
      setTold({ text: t("passwordsDiffer"), bad: true });
      return;
    }
    try {
      renewSession(await call("session.set_password", { old, new: fresh }));
      setTold({ text: t("passwordSet"), bad: false });
      setOld("");
      setFresh("");
      setAgain("");
    } catch (error) {
      const failed = asCallError(error);
      setTold({ text: pick(failed.zh, failed.en), bad: true });
    }
  };
  const field = (name: string, label: string, value: string, set: (text: string) => void, complete: "current-password" | "new-password") => (
    <label>
      {label}
      <input
        name={name}
        type="password"
        required
        maxLength={SECRET_MOST}
        autocomplete={complete}
        value={value}
        onInput={(event) => set(event.currentTarget.value)}
      />
    </label>
  );
  return (
    <form
      class="stack"
      data-testid="password-form"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      {field("old-password", t("oldPassword"), old, setOld, "current-password")}
      {field("new-password", t("newPassword"), fresh, setFresh, "new-password")}
      {field("new-password-again", t("newPasswordAgain"), again, setAgain, "new-password")}
      <button type="submit">
        <Icon name="key" /> {t("changePassword")}
      </button>
      <Said told={told} />
    </form>
  );
}

function SecondFactor(): JSX.Element {
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [secret, setSecret] = useState<TotpSecret | null>(null);
  const [recovery, setRecovery] = useState<string[]>([]);
  const [told, setTold] = useState<Told | null>(null);
  const on = session.value?.totp === true;
  const run = async (what: () => Promise<void>) => {
    setTold(null);
    try {
      await what();
    } catch (error) {
      const failed = asCallError(error);
      setTold({ text: pick(failed.zh, failed.en), bad: true });
    }
  };
  const changed = (totp: boolean) => {
    const mine = session.value;
    if (mine !== null) session.value = { ...mine, totp };
    setPassword("");
    setCode("");
    setSecret(null);
  };
  const submit = () => {
    if (secret !== null) {
      void run(async () => {
        setRecovery((await call("session.totp_confirm", { code: code.trim() })).codes);
        changed(true);
      });
    } else if (on) {
      void run(async () => {
        await call("session.totp_remove", { password, code: code.trim() });
        setRecovery([]);
        changed(false);
      });
    } else void run(async () => setSecret(await call("session.totp_begin", { password })));
  };
  return (
    <form
      class="stack"
      data-testid="totp-form"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <h3>
        {t("secondFactor")} · {on ? t("totpOn") : t("totpOff")}
      </h3>
      {secret === null && (
        <label>
          {t("password")}
          <input name="totp-password" type="password" required maxLength={SECRET_MOST} autocomplete="current-password" value={password} onInput={(event) => setPassword(event.currentTarget.value)} />
        </label>
      )}
      {secret !== null && (
        <>
          <p>{t("totpScan")}</p>
          <img class="qr" alt={secret.secret} src={`data:image/svg+xml;base64,${btoa(secret.qr_svg)}`} />
          <code class="secret-small">{secret.secret}</code>
        </>
      )}
      {(secret !== null || on) && (
        <label>
          {t("sixDigits")}
          <input name="totp-code" inputMode="numeric" required maxLength={SECRET_MOST} autocomplete="one-time-code" value={code} onInput={(event) => setCode(event.currentTarget.value)} />
        </label>
      )}
      <button type="submit">
        <Icon name="lock" /> {secret !== null ? t("totpConfirm") : on ? t("totpRemove") : t("totpBegin")}
      </button>
      {recovery.length > 0 && (
        <>
          <p class="warn">{t("recoveryHint")}</p>
          <ul class="recovery" data-testid="recovery">
            {recovery.map((one) => (
              <li key={one}>
                <code>{one}</code>
              </li>
            ))}
          </ul>
        </>
      )}
      <Said told={told} />
    </form>
  );
}

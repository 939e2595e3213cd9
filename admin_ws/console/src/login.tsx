import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { pick, t } from "./i18n";
import { Icon } from "./icons";
import { PasswordForm } from "./own";
import { loginError, otpAsked, session, signIn, signingIn } from "./store";
import { Switches } from "./topbar";

const user = signal("");
const password = signal("");
const otp = signal("");

/** The log-in form: a page of its own, or (`again`) in the middle of a page whose session is over. */
export function Login({ again = false }: { again?: boolean }): JSX.Element {
  const submit = (event: Event) => {
    event.preventDefault();
    void signIn(user.value, password.value, otp.value.trim()).then(() => {
      otp.value = "";
      if (!otpAsked.value) password.value = ""; // the second factor is asked for with the same password
    });
  };
  if (again && user.value === "") user.value = session.value?.user ?? "";
  const form = (
    <form class="card login-card" onSubmit={submit}>
      <Arch />
      <h1>
        Paifang <span lang="zh">牌坊</span>
      </h1>
      <p class="muted">{again ? t("sessionOver") : t("controlRoom")}</p>
      <label>
        {t("user")}
        <input
          name="user"
          autocomplete="username"
          autocapitalize="none"
          required
          autofocus
          value={user.value}
          onInput={(event) => (user.value = event.currentTarget.value)}
        />
      </label>
      <label>
        {t("password")}
        <input
          name="password"
          type="password"
          autocomplete="current-password"
          required
          value={password.value}
          onInput={(event) => (password.value = event.currentTarget.value)}
        />
      </label>
      {otpAsked.value && (
        <label>
          {t("otp")}
          <input
            name="totp"
            inputMode="numeric"
            autocomplete="one-time-code"
            required
            autofocus
            value={otp.value}
            onInput={(event) => (otp.value = event.currentTarget.value)}
          />
        </label>
      )}
      {loginError.value !== null && (
        <p class="error" role="alert">
          <Icon name="cross" /> {pick(loginError.value.zh, loginError.value.en)}
        </p>
      )}
      <button type="submit" class="primary big" disabled={signingIn.value}>
        {signingIn.value ? t("signingIn") : t("signIn")}
      </button>
    </form>
  );
  if (again) return form;
  return (
    <main class="login-page">
      <div class="login-switches">
        <Switches />
      </div>
      {form}
    </main>
  );
}

/** In place of every page while a one-time password waits to be replaced. */
export function PasswordChange(): JSX.Element {
  return (
    <div class="card login-card">
      <h2>{t("changePassword")}</h2>
      <p class="muted">{t("mustChangeHint")}</p>
      <PasswordForm />
    </div>
  );
}

function Arch(): JSX.Element {
  return (
    <svg class="arch" viewBox="0 0 96 56" aria-hidden="true">
      <path d="M4 14l12 4h64l12-4-6 10H10zM22 4l5 3h42l5-3-3 9H25zM14 26h8v28h-8zM74 26h8v28h-8zM34 26h6v28h-6zM56 26h6v28h-6zM22 30h52v5H22z" />
    </svg>
  );
}

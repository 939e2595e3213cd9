import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { pick, t } from "./i18n";
import { Icon } from "./icons";
import { loginError, session, signIn, signingIn } from "./store";
import { Switches } from "./topbar";

const user = signal("");
const password = signal("");

/** The log-in form: a page of its own, or (`again`) in the middle of a page whose session is over. */
export function Login({ again = false }: { again?: boolean }): JSX.Element {
  const submit = (event: Event) => {
    event.preventDefault();
    void signIn(user.value, password.value);
    password.value = "";
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
    <div class="login-page">
      <div class="login-switches">
        <Switches />
      </div>
      {form}
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

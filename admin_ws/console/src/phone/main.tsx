// The phone page: an attendant's reader, a counter for direct checks, a manager's figures.

import { render } from "preact";
import { App } from "./app";
import decoderUrl from "./decode.worker.ts?worker&url";
import { begin } from "./state";
import "./style.css";
import { lang, setLang, setTheme, theme } from "./words";

setLang(lang.value);
setTheme(theme.value);
begin();
const place = document.getElementById("app");
if (place !== null) render(<App />, place);

if ("serviceWorker" in navigator) {
  void navigator.serviceWorker
    .register("/phone-worker.js", { scope: "/phone" })
    .then(() => navigator.serviceWorker.ready)
    .then((registration) => {
      const loaded = performance.getEntriesByType("resource").map((entry) => new URL(entry.name).pathname);
      const linked = [...document.querySelectorAll("script[src],link[href]")].map((element) =>
        new URL(element.getAttribute("src") ?? element.getAttribute("href") ?? "", location.href).pathname,
      );
      const paths = [...new Set([...loaded, ...linked, new URL(decoderUrl, location.href).pathname])].filter((path) => path.startsWith("/assets/"));
      registration.active?.postMessage({ keep: paths });
      document.documentElement.dataset["offline"] = "ready";
    })
    .catch(() => undefined); // a private window, or no TLS: the page works, but not without the server
}

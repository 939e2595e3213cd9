// The ticket page: what a visitor holds in front of the gate. It has no log-in and tells the server nothing.

import { render } from "preact";
import { App, begin } from "./app";
import { keepAwake } from "./awake";
import { keepAsking } from "./clock";
import "./style.css";
import { lang, setLang, setTheme, theme } from "./words";

setLang(lang.value);
setTheme(theme.value);
begin();
keepAsking();
keepAwake();
const place = document.getElementById("app");
if (place !== null) render(<App />, place);

if ("serviceWorker" in navigator) {
  void navigator.serviceWorker
    .register("/ticket-worker.js", { scope: "/ticket" })
    .then(() => navigator.serviceWorker.ready)
    .then((registration) => {
      const loaded = performance.getEntriesByType("resource").map((entry) => new URL(entry.name).pathname);
      const linked = [...document.querySelectorAll("script[src],link[href]")].map(
        (element) => new URL(element.getAttribute("src") ?? element.getAttribute("href") ?? "", location.href).pathname,
      );
      const keep = [...new Set([...loaded, ...linked])].filter((path) => path.startsWith("/assets/"));
      const channel = new MessageChannel();
      channel.port1.onmessage = () => (document.documentElement.dataset["offline"] = "ready");
      registration.active?.postMessage({ keep }, [channel.port2]);
    })
    .catch(() => undefined); // a private window, or no TLS: the page works, but only while the server can be reached
}

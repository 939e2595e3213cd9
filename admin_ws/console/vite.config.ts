import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    // The content security policy allows no inline script, and every browser in use preloads modules by itself.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rollupOptions: { input: ["index.html", "phone.html", "ticket.html"] },
  },
  worker: { format: "es" },
  server: {
    // the server opens its channel to pages of its own origin only, so the proxy speaks in that origin's name
    proxy: {
      "/channel": { target: "ws://127.0.0.1:8460", ws: true, changeOrigin: true, headers: { origin: "http://127.0.0.1:8460" } },
    },
  },
});

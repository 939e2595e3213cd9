import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    // The content security policy allows no inline script, and every browser in use preloads modules by itself.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: {
    proxy: { "/channel": { target: "ws://127.0.0.1:8460", ws: true } },
  },
});

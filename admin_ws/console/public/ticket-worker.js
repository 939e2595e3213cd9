// Keeps the ticket page's own files, so that a ticket opens where there is no signal. It keeps no ticket: that stands
// behind the # of the link, which no worker and no server sees.

const STORE = "paifang-ticket-1";
const PAGE = "/ticket";
const ICON = "/favicon.svg";
const PATIENCE_MS = 2000; // for the page itself, before the stored one is shown

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(STORE)
      .then((store) => store.addAll([PAGE, ICON]))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

// The page says which files it was made of: they were loaded before this worker saw anything.
self.addEventListener("message", (event) => {
  const paths = event.data?.keep;
  if (Array.isArray(paths)) event.waitUntil(keep(paths).then(() => event.ports[0]?.postMessage("kept")));
});

async function keep(paths) {
  const store = await caches.open(STORE);
  for (const request of await store.keys()) {
    const path = new URL(request.url).pathname;
    if (path.startsWith("/assets/") && !paths.includes(path)) await store.delete(request); // of an older build
  }
  for (const path of paths) {
    if ((await store.match(path)) === undefined) await store.add(path);
  }
}

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  if (url.pathname === PAGE) event.respondWith(newest());
  else if (url.pathname.startsWith("/assets/") || url.pathname === ICON) event.respondWith(stored(event.request));
});

async function stored(request) {
  const found = await (await caches.open(STORE)).match(request);
  return found ?? fetch(request);
}

async function newest() {
  const store = await caches.open(STORE);
  try {
    const answer = await fetch(PAGE, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    await store.put(PAGE, answer.clone());
    return answer;
  } catch (error) {
    const found = await store.match(PAGE);
    if (found !== undefined) return found;
    throw error;
  }
}

// Keeps the phone page's own files, so that it opens where there is no signal. It keeps no data: tickets, the list and
// what waits to be uploaded are the page's (IndexedDB). What the server has is newer, so it is asked first; what Vite
// named by its content never changes and comes from the store.

const STORE = "paifang-phone-1";
const PAGE = "/phone";
const PATIENCE_MS = 3000; // for the page itself, before the stored one is shown

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(STORE)
      .then((store) => store.addAll([PAGE, "/favicon.svg", "/phone.webmanifest"]))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter((name) => name !== STORE).map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

// The page says which files it was made of: they were loaded before this worker saw anything.
self.addEventListener("message", (event) => {
  if (event.data?.keep) event.waitUntil(keep(event.data.keep));
});

async function keep(paths) {
  const store = await caches.open(STORE);
  const wanted = new Set(paths);
  for (const request of await store.keys()) {
    const path = new URL(request.url).pathname;
    if (path.startsWith("/assets/") && !wanted.has(path)) await store.delete(request); // of an older build
  }
  await Promise.all(
    paths.map(async (path) => {
      if ((await store.match(path)) === undefined) await store.add(path);
    }),
  );
}

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  if (url.pathname.startsWith("/assets/")) event.respondWith(stored(event.request));
  else if (url.pathname === PAGE) event.respondWith(newest(PAGE));
  else if (url.pathname === "/favicon.svg" || url.pathname === "/phone.webmanifest") event.respondWith(stored(event.request));
});

async function stored(request) {
  const store = await caches.open(STORE);
  const found = await store.match(request);
  if (found !== undefined) return found;
  const answer = await fetch(request);
  if (answer.ok) await store.put(request, answer.clone());
  return answer;
}

async function newest(path) {
  const store = await caches.open(STORE);
  try {
    const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    await store.put(path, answer.clone());
    return answer;
  } catch (error) {
    const found = await store.match(path);
    if (found !== undefined) return found;
    throw error;
  }
}

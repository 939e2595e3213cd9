// What a phone keeps: the list that it decides by alone, and what it did alone until that is uploaded (IndexedDB).

const NAME = "paifang-phone";
const VERSION = 1;

export interface KeptRecord {
  place?: number; // the order in which things happened; given by the store
  lane: string;
  nonce: string;
  at: number; // seconds since the epoch, by the server's clock
  pax: number;
  code: string;
  direction: "entry" | "exit";
  ticket: number; // 0: none, people who were only counted
  user: string;
}

export interface KeptList {
  lane: string;
  madeAt: number; // of the whole list, by the server's clock
  freshAt: number; // of its newest part
  offsetS: number; // the server's clock less the phone's
  site: string;
  siteHash: string;
  zoneBit: number;
  keys: [number, Uint8Array][];
  alone: number[];
  maxGroup: number;
  marks: Uint8Array[]; // of 8 bytes each
}

let opened: Promise<IDBDatabase> | null = null;

function database(): Promise<IDBDatabase> {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("lists", { keyPath: "lane" });
      request.result.createObjectStore("queue", { keyPath: "place", autoIncrement: true });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function run<T>(
  store: "lists" | "queue",
  mode: IDBTransactionMode,
  act: (store: IDBObjectStore) => IDBRequest<T> | null,
): Promise<T | undefined> {
  const base = await database();
  return new Promise((resolve, reject) => {
    // strict: what a visitor was let in on must outlive a phone that dies in the next second
    const transaction = base.transaction(store, mode, { durability: mode === "readwrite" ? "strict" : "default" });
    const request = act(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}

export async function keep(record: KeptRecord): Promise<void> {
  await run("queue", "readwrite", (store) => store.add(record));
}

/** Everything that waits, in the order in which it happened. */
export async function kept(): Promise<KeptRecord[]> {
  return (await run<KeptRecord[]>("queue", "readonly", (store) => store.getAll())) ?? [];
}

export async function forget(places: number[]): Promise<void> {
  await run("queue", "readwrite", (store) => {
    for (const place of places) store.delete(place);
    return null;
  });
}

export async function keepList(list: KeptList): Promise<void> {
  await run("lists", "readwrite", (store) => store.put(list));
}

export async function keptList(lane: string): Promise<KeptList | undefined> {
  return run<KeptList>("lists", "readonly", (store) => store.get(lane));
}

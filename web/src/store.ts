// What stays in this browser: conversations in IndexedDB, the small things in localStorage. Where a browser closes both to
// the page, it works from memory.
import type { Conversation } from "./conversation";

const database = new Promise<IDBDatabase | null>((resolve) => {
  try {
    const request = indexedDB.open("mlx_lm.chat", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => resolve(null);
  } catch {
    resolve(null);
  }
});

// Other tabs of this page hear what changed here.
const channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("mlx_lm.chat");
export function on_change_elsewhere(callback: (id: string) => void) {
  if (channel) channel.onmessage = (event) => callback(String(event.data));
}

let warned = false;
export let on_trouble: (message: string) => void = () => {};
export const set_on_trouble = (callback: typeof on_trouble) => { on_trouble = callback; };
function trouble(error: DOMException | null) {
  if (warned) return;
  warned = true;
  on_trouble(`This browser does not keep conversations${error ? `: ${error.message}` : ""}`);
}

export async function load_all(): Promise<Conversation[]> {
  const db = await database;
  if (!db) { trouble(null); return []; }
  return new Promise((resolve) => {
    const request = db.transaction("conversations").objectStore("conversations").getAll();
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => { trouble(request.error); resolve([]); };
  });
}

export async function load_one(id: string): Promise<Conversation | undefined> {
  const db = await database;
  if (!db) return undefined;
  return new Promise((resolve) => {
    const request = db.transaction("conversations").objectStore("conversations").get(id);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(undefined);
  });
}

async function change(id: string, work: (store: IDBObjectStore) => void) {
  const db = await database;
  if (!db) return;
  await new Promise<void>((resolve) => {
    try {
      const transaction = db.transaction("conversations", "readwrite");
      transaction.oncomplete = () => { channel?.postMessage(id); resolve(); };
      transaction.onabort = transaction.onerror = () => { trouble(transaction.error); resolve(); };
      work(transaction.objectStore("conversations"));
    } catch (error) {
      trouble(error as DOMException);
      resolve();
    }
  });
}

export const save = (c: Conversation) => change(c.id, (store) => store.put(c));
export const erase = (id: string) => change(id, (store) => store.delete(id));

// --- the small things ---

const memory = new Map<string, string>();

export function remembered(name: string): string | null {
  try {
    return localStorage.getItem(`mlx_lm.${name}`);
  } catch {
    return memory.get(name) ?? null;
  }
}

export function remember(name: string, value: string | null) {
  try {
    if (value === null) localStorage.removeItem(`mlx_lm.${name}`); else localStorage.setItem(`mlx_lm.${name}`, value);
  } catch {
    if (value === null) memory.delete(name); else memory.set(name, value);
  }
}

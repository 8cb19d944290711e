// The chats of this browser: all in memory, each written to IndexedDB when it changes.
//
// A `Chats` owns them. A chat is {id, title, model, created, updated, options, messages}; messages are OpenAI's, and
// carry besides what the page shows of them (stats, finish_reason, reasoning_ms, error).

const DATABASE = "pagemill";
const STORE = "chats";
const TITLE_LENGTH = 60;
const SAVE_AFTER_MS = 1000;

export class Chats {
  // `onProblem` is told, in words, of what could not be kept.
  constructor(onProblem) {
    this.onProblem = onProblem;
    this.byId = new Map();
    this.database = null; // null: chats last as long as the page
    this.unsaved = new Map(); // of chats that are being written: their timers
  }

  async open() {
    try {
      this.database = await openDatabase();
      for (const chat of await done(this.store("readonly").getAll())) this.byId.set(chat.id, chat);
    } catch (error) {
      this.onProblem(`This browser keeps no chats for the page: they end with it (${error.message})`);
    }
    window.addEventListener("pagehide", () => this.saveAll());
  }

  // The latest first.
  list() {
    return [...this.byId.values()].sort((a, b) => b.updated - a.updated);
  }

  get(id) {
    return this.byId.get(id);
  }

  // A chat that is not kept before it is saved.
  make(model, options) {
    const now = Date.now();
    return { id: crypto.getRandomValues(new BigUint64Array(1))[0].toString(36), title: "", model, created: now, updated: now, options: structuredClone(options), messages: [] };
  }

  async save(chat) {
    clearTimeout(this.unsaved.get(chat.id));
    this.unsaved.delete(chat.id);
    this.byId.set(chat.id, chat);
    if (this.database === null) return;
    try {
      await done(this.store("readwrite").put(chat));
    } catch (error) {
      const full = error.name === "QuotaExceededError";
      this.onProblem(full ? "The browser's storage is full: export and delete old chats, this one is not kept." : `The chat was not kept: ${error.message}`);
    }
  }

  // As long as an answer is being written: now and then.
  saveSoon(chat) {
    if (!this.unsaved.has(chat.id)) this.unsaved.set(chat.id, setTimeout(() => this.save(chat), SAVE_AFTER_MS));
  }

  saveAll() {
    for (const id of [...this.unsaved.keys()]) if (this.byId.has(id)) this.save(this.byId.get(id));
  }

  async delete(chat) {
    clearTimeout(this.unsaved.get(chat.id));
    this.unsaved.delete(chat.id);
    this.byId.delete(chat.id);
    if (this.database !== null) await done(this.store("readwrite").delete(chat.id));
  }

  store(mode) {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }
}

export function titleOf(chat) {
  if (chat.title) return chat.title;
  const first = chat.messages.find((message) => message.role === "user")?.content ?? "";
  const text = first.replace(/\s+/g, " ").trim();
  return text.length > TITLE_LENGTH ? `${text.slice(0, TITLE_LENGTH - 1)}…` : text || "New chat";
}

function openDatabase() {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
  return done(opening);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.transaction?.addEventListener("abort", () => reject(request.transaction.error ?? request.error));
  });
}

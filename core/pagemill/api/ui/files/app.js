// The page: which chat is open, what is being answered, and what the reader's actions do.

import { Run } from "./answer.js";
import { Chats, titleOf } from "./chats.js";
import { ask, closeOnOutsideClick } from "./dialogs.js";
import { announce, byId, element, fitHeight } from "./dom.js";
import { keepKey, listModels, notReadyReason } from "./server.js";
import { SettingsForm } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Thread } from "./thread.js";
import { download, readChats } from "./transfer.js";

const THEMES = ["system", "light", "dark"];
const DEFAULTS = { model: "", options: {} };

const chats = new Chats(showNotice);
const runs = new Map(); // of chats, by id, that are being answered
let chat = null; // the open one
let statusTimer = null;

const thread = new Thread({
  edit: (message, text) => branch(message, [{ role: "user", content: text }]),
  regenerate: (message) => branch(message, []),
  sendResults: (message, texts) => send(message.tool_calls.map((call, index) => ({ role: "tool", tool_call_id: call.id, content: texts[index] }))),
});
const sidebar = new Sidebar({
  open: (other) => {
    open(other);
    sidebar.unfold(false);
  },
  rename: (other, title) => keep(Object.assign(other, { title })),
  remove,
});
const settings = new SettingsForm(() => {
  rememberDefaults();
  if (chat.messages.length) chats.saveSoon(chat);
});

// Conversation

function open(other) {
  chat = other;
  byId("model").value = chat.model;
  showNotice("");
  show();
}

function show() {
  const run = runs.get(chat.id);
  thread.show(chat, run?.message);
  sidebar.show(chats.list(), chat);
  byId("send").hidden = Boolean(run);
  byId("stop").hidden = !run;
  byId("prompt").placeholder = `Message ${chat.model}`;
  history.replaceState(null, "", chat.messages.length ? `#${chat.id}` : location.pathname);
  document.title = chat.messages.length ? `${titleOf(chat)} · Pagemill` : "Pagemill";
}

function startChat() {
  const { model, options } = chat ?? defaults();
  open(chats.make(model, options));
  byId("prompt").focus();
  sidebar.unfold(false);
}

// Go on from before the message, with others in its place.
function branch(message, messages) {
  runs.get(chat.id)?.stop();
  runs.delete(chat.id);
  chat.messages.length = chat.messages.indexOf(message);
  send(messages);
  byId("prompt").focus();
}

async function send(messages) {
  const asked = chat;
  asked.messages.push(...messages);
  asked.updated = Date.now();
  showNotice("");
  const run = new Run(asked, {
    onUpdate: () => {
      if (asked === chat) thread.grow(run.message);
      chats.saveSoon(asked);
    },
    onStatus: (text) => asked === chat && showStatus(text),
  });
  asked.messages.push(run.message);
  runs.set(asked.id, run);
  chats.save(asked);
  show();
  thread.begin();
  end(run, await run.finished());
}

function end(run, error) {
  if (runs.get(run.chat.id) !== run) return; // another was asked for in its place
  runs.delete(run.chat.id);
  if (chats.get(run.chat.id)) chats.save(run.chat);
  if (run.chat !== chat) return sidebar.show(chats.list(), chat);
  show();
  thread.speak(run.message, true);
  if (error?.needsKey) askForKey(error.message).then((given) => given && chat === run.chat && branch(run.message, []));
}

function stop() {
  runs.get(chat.id)?.stop();
}

function remove(other) {
  runs.get(other.id)?.stop();
  runs.delete(other.id);
  chats.delete(other);
  announce("Chat deleted");
  if (other === chat) startChat();
  else sidebar.show(chats.list(), chat);
}

function keep(changed) {
  chats.save(changed);
  show();
}

// Server

async function connect() {
  try {
    const models = await listModels();
    byId("model").replaceChildren(...models.map((name) => element("option", {}, name)));
    useModel(models.includes(chat.model) ? chat.model : models[0]);
    await showReadiness();
  } catch (error) {
    if (error.needsKey && (await askForKey(error.message))) return connect();
    showStatus(error.message);
    if (!error.needsKey) setTimeout(connect, error.retryAfterS * 1000);
  }
}

// Until a request would be served: what the server says of it.
async function showReadiness() {
  const reason = await notReadyReason();
  if (runs.size === 0) showStatus(reason?.message ?? "");
  clearTimeout(statusTimer);
  if (reason) statusTimer = setTimeout(showReadiness, reason.retryAfterS * 1000);
}

async function askForKey(reason) {
  const key = await ask({ title: "This server asks for a key", text: `${reason} It is kept until this tab is closed.`, accept: "Use it", field: { label: "API key", secret: true } });
  if (key) keepKey(key);
  return Boolean(key);
}

function useModel(name) {
  chat.model = name ?? "";
  byId("model").value = chat.model;
  rememberDefaults();
  if (chat.messages.length) chats.saveSoon(chat);
  else show();
}

// What a new chat begins with: what was last in use.
function defaults() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem("pagemill.defaults")) };
  } catch {
    return DEFAULTS;
  }
}

function rememberDefaults() {
  localStorage.setItem("pagemill.defaults", JSON.stringify({ model: chat.model, options: chat.options }));
}

// What is said to the reader

function showStatus(text) {
  byId("status").textContent = text;
}

function showNotice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = text === "";
}

function theme() {
  return localStorage.getItem("pagemill.theme") ?? "system";
}

function showTheme(name) {
  if (name === "system") {
    localStorage.removeItem("pagemill.theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("pagemill.theme", name);
    document.documentElement.dataset.theme = name;
  }
  byId("theme").textContent = `Theme: ${name}`;
}

async function importFile(file) {
  try {
    const read = readChats(await file.text());
    for (const one of read) await chats.save(one);
    show();
    announce(`${read.length} chats imported`);
  } catch (error) {
    showNotice(`${file.name} can't be imported: ${error.message}`);
  }
}

// The reader's actions

const prompt = byId("prompt");
const dialogIsOpen = () => document.querySelector("dialog[open]") !== null;

function submit(event) {
  event.preventDefault();
  const text = prompt.value.trim();
  if (text === "" || runs.has(chat.id)) return;
  prompt.value = "";
  fitHeight(prompt);
  send([{ role: "user", content: text }]);
}

function onPromptKey(event) {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) submit(event);
  if (event.key === "ArrowUp" && prompt.value === "") {
    event.preventDefault();
    thread.editLast();
  }
}

const SHORTCUTS = {
  KeyN: startChat,
  KeyS: () => settings.open(chat.options),
  KeyM: () => prompt.focus(),
  KeyR: () => chat.messages.at(-1)?.role === "assistant" && branch(chat.messages.at(-1), []),
  Slash: () => byId("shortcut-list").showModal(),
};

function onKey(event) {
  if (dialogIsOpen()) return;
  if (event.key === "Escape") {
    if (sidebar.isUnfolded) sidebar.unfold(false);
    else stop();
  }
  const action = event.altKey && !event.ctrlKey && !event.metaKey ? SHORTCUTS[event.code] : undefined;
  if (action === undefined) return;
  event.preventDefault();
  action();
}

function listen() {
  byId("composer").addEventListener("submit", submit);
  prompt.addEventListener("keydown", onPromptKey);
  prompt.addEventListener("input", () => fitHeight(prompt));
  document.addEventListener("keydown", onKey);
  byId("stop").addEventListener("click", () => {
    stop();
    prompt.focus();
  });
  byId("new-chat").addEventListener("click", startChat);
  byId("model").addEventListener("change", (event) => useModel(event.target.value));
  byId("open-settings").addEventListener("click", () => settings.open(chat.options));
  byId("shortcuts").addEventListener("click", SHORTCUTS.Slash);
  byId("theme").addEventListener("click", () => showTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]));
  byId("export").addEventListener("click", () => download(chats.list()));
  byId("import").addEventListener("click", () => byId("import-file").click());
  byId("import-file").addEventListener("change", ({ target }) => {
    if (target.files.length) importFile(target.files[0]);
    target.value = ""; // the same file may be chosen again
  });
  document.querySelectorAll("dialog").forEach(closeOnOutsideClick);
}

listen();
showTheme(theme());
await chats.open();
open(chats.get(location.hash.slice(1)) ?? chats.make(defaults().model, defaults().options));
await connect();

// Chats as a file: written by the page, and read back after a look at every field, since others may have written it.

import { element } from "./dom.js";

const FORMAT = "pagemill-chats";
const VERSION = 1;
const ROLES = new Set(["user", "assistant", "tool"]);

export function download(chats) {
  const text = JSON.stringify({ format: FORMAT, version: VERSION, chats }, null, 1);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  element("a", { href: url, download: `pagemill-chats-${new Date().toISOString().slice(0, 10)}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// The chats of a file's text. Throws an Error that names what is wrong.
export function readChats(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch (error) {
    throw new Error(`it is not JSON: ${error.message}`);
  }
  check(file?.format === FORMAT, `format must be "${FORMAT}"`);
  check(file.version === VERSION, `version must be ${VERSION}, got ${JSON.stringify(file.version)}`);
  check(Array.isArray(file.chats), "chats must be a list");
  return file.chats.map((chat, index) => readChat(chat, `chats[${index}]`));
}

function readChat(chat, path) {
  check(isObject(chat), `${path} must be an object`);
  for (const name of ["id", "title", "model"]) check(typeof chat[name] === "string", `${path}.${name} must be a string`);
  check(chat.id !== "", `${path}.id must not be empty`);
  for (const name of ["created", "updated"]) check(Number.isFinite(chat[name]), `${path}.${name} must be a number`);
  check(Array.isArray(chat.messages), `${path}.messages must be a list`);
  const { id, title, model, created, updated } = chat;
  const messages = chat.messages.map((message, index) => readMessage(message, `${path}.messages[${index}]`));
  return { id, title, model, created, updated, options: readOptions(chat.options, `${path}.options`), messages };
}

function readMessage(message, path) {
  check(isObject(message) && ROLES.has(message.role), `${path}.role must be one of ${[...ROLES].join(", ")}`);
  const read = { role: message.role, content: message.content };
  check(typeof read.content === "string", `${path}.content must be a string`);
  for (const name of ["reasoning", "tool_call_id", "finish_reason", "error"]) {
    if (message[name] === undefined) continue;
    check(typeof message[name] === "string", `${path}.${name} must be a string`);
    read[name] = message[name];
  }
  if (Number.isFinite(message.reasoning_ms)) read.reasoning_ms = message.reasoning_ms;
  if (message.tool_calls !== undefined) read.tool_calls = readCalls(message.tool_calls, `${path}.tool_calls`);
  if (isObject(message.stats)) read.stats = numbersOf(message.stats, ["prompt_tokens", "completion_tokens", "first_ms", "per_second"]);
  return read;
}

function readCalls(calls, path) {
  check(Array.isArray(calls), `${path} must be a list`);
  return calls.map((call, index) => {
    const called = isObject(call) ? call.function : null;
    const sound = isObject(called) && [call.id, called.name, called.arguments].every((value) => typeof value === "string");
    check(sound, `${path}[${index}] must have an id and a function with a name and arguments, all strings`);
    return { id: call.id, type: "function", function: { name: called.name, arguments: called.arguments } };
  });
}

function readOptions(options, path) {
  check(isObject(options), `${path} must be an object`);
  const read = numbersOf(options, ["temperature", "top_p", "max_tokens", "seed"]);
  for (const name of ["system", "tool_choice", "reasoning_effort"]) if (typeof options[name] === "string") read[name] = options[name];
  if (Array.isArray(options.stop)) read.stop = options.stop.filter((text) => typeof text === "string");
  if (Array.isArray(options.tools)) read.tools = options.tools;
  return read;
}

function numbersOf(object, names) {
  return Object.fromEntries(names.filter((name) => Number.isFinite(object[name])).map((name) => [name, object[name]]));
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function check(holds, message) {
  if (!holds) throw new Error(message);
}

// Ollama's own client: chat, generate, formats, tools, embeddings, models, errors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";

import {
  ANSWER, CAPITAL, CHAT_MODEL, cosine, EMBEDDING_MODEL, GUARDED_URL, PERSON, QUESTION, REPORT, SENTENCES, SERVER_URL,
  WEATHER,
} from "./served.js";

const client = new Ollama({ host: SERVER_URL });
const options = { temperature: 0 };
const ask = (content) => ({ model: CHAT_MODEL, messages: [{ role: "user", content }], options });

test("a chat answers", async () => {
  const { message, done, done_reason, eval_count } = await client.chat(ask(CAPITAL.question));
  assert.deepEqual([message.role, message.content], ["assistant", CAPITAL.answer]);
  assert.deepEqual([done, done_reason], [true, "stop"]);
  assert.ok(eval_count > 1);
});

test("a streamed chat comes in pieces", async () => {
  const parts = [];
  for await (const part of await client.chat({ ...ask(CAPITAL.question), stream: true })) parts.push(part);
  assert.equal(parts.map(({ message }) => message.content).join(""), CAPITAL.answer);
  assert.deepEqual(parts.map(({ done }) => done), parts.map((_, at) => at === parts.length - 1));
  assert.ok(parts.length > 2);
});

test("a stream that is aborted ends, and the client goes on", async () => {
  const stream = await client.chat({ ...ask("Hello!"), stream: true, format: { type: "string", minLength: 5000 } });
  await assert.rejects(async () => {
    for await (const _part of stream) stream.abort();
  }, { name: "AbortError" });
  assert.equal((await client.chat(ask(CAPITAL.question))).message.content, CAPITAL.answer);
});

test("generate answers and goes on from its context", async () => {
  const told = await client.generate({ model: CHAT_MODEL, prompt: "My name is Maria.", options });
  const asked = { model: CHAT_MODEL, prompt: "What is my name?", context: told.context, options };
  assert.match((await client.generate(asked)).response, /Maria/);
});

test("a format holds the answer to a schema", async () => {
  const kinds = { name: "string", age: "integer", city: "string" };
  const properties = Object.fromEntries(Object.entries(kinds).map(([name, type]) => [name, { type }]));
  const format = { type: "object", properties, required: Object.keys(kinds) };
  const { message } = await client.chat({ ...ask(PERSON.question), format });
  assert.deepEqual(JSON.parse(message.content), PERSON.value);
});

test("a tool is called and, told the result, the model answers", async () => {
  const body = { ...ask(QUESTION), tools: [{ type: "function", function: WEATHER }] };
  const { message } = await client.chat(body);
  const calls = message.tool_calls.map((call) => [call.function.name, call.function.arguments]);
  assert.deepEqual(calls, [[WEATHER.name, { city: "Paris" }]]);
  body.messages.push(message, { role: "tool", tool_name: WEATHER.name, content: REPORT });
  assert.equal((await client.chat(body)).message.content, ANSWER);
});

test("embeddings tell what is alike", async () => {
  const { embeddings } = await client.embed({ model: EMBEDDING_MODEL, input: SENTENCES });
  const [food, bread, stars] = embeddings;
  assert.ok(cosine(food, bread) > 0.5 && cosine(food, stars) < 0.3);
});

test("models are listed, shown, running, and the version is told", async () => {
  assert.ok((await client.list()).models.some(({ name }) => name === `${CHAT_MODEL}:latest`));
  assert.ok((await client.show({ model: CHAT_MODEL })).capabilities.includes("tools"));
  assert.ok((await client.ps()).models.some(({ name }) => name === `${CHAT_MODEL}:latest`));
  assert.match((await client.version()).version, /^\d+\.\d+/);
});

test("errors have the status and the words", async () => {
  await assert.rejects(client.chat({ ...ask("Hi"), model: "nobody" }), { status_code: 404, error: /nobody/ });
  const warm = { ...ask("Hi"), options: { temperature: "warm" } };
  await assert.rejects(client.chat(warm), { status_code: 400, error: /temperature/ });
  await assert.rejects(new Ollama({ host: GUARDED_URL }).chat(ask("Hi")), { status_code: 401 });
});

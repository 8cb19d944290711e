// OpenAI's own client: chat, responses, embeddings, tools, parsed answers, errors.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import {
  ANSWER, CAPITAL, CHAT_MODEL, cosine, EMBEDDING_MODEL, GUARDED_URL, PERSON, QUESTION, REPORT, SENTENCES, SERVER_URL,
  WEATHER,
} from "./served.js";

const connect = (url, apiKey = "unused") => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const client = connect(SERVER_URL);
const ask = (content) => ({ model: CHAT_MODEL, messages: [{ role: "user", content }], temperature: 0 });
const Person = z.object({ name: z.string(), age: z.number().int(), city: z.string() });

test("a chat completion answers", async () => {
  const { choices, usage } = await client.chat.completions.create(ask(CAPITAL.question));
  assert.equal(choices[0].message.content, CAPITAL.answer);
  assert.equal(choices[0].finish_reason, "stop");
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

test("a streamed completion comes in pieces and with its usage", async () => {
  const body = { ...ask(CAPITAL.question), stream: true, stream_options: { include_usage: true } };
  const chunks = [];
  for await (const chunk of await client.chat.completions.create(body)) chunks.push(chunk);
  const pieces = chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta.content ?? ""));
  assert.equal(pieces.join(""), CAPITAL.answer);
  assert.ok(pieces.filter(Boolean).length > 1);
  assert.ok(chunks.at(-1).usage.completion_tokens > 1);
});

test("a completion is parsed into what a schema describes", async () => {
  const body = { ...ask(PERSON.question), response_format: zodResponseFormat(Person, "person") };
  const { choices } = await client.chat.completions.parse(body);
  assert.deepEqual(choices[0].message.parsed, PERSON.value);
});

for (const stream of [false, true]) {
  test(`runTools calls the tool and gets to the answer${stream ? ", streamed" : ""}`, async () => {
    const cities = [];
    const weather = zodFunction({
      name: WEATHER.name,
      description: WEATHER.description,
      parameters: z.object({ city: z.string() }),
      function: ({ city }) => (cities.push(city), REPORT),
    });
    const runner = client.chat.completions.runTools({ ...ask(QUESTION), tools: [weather], stream });
    assert.equal(await runner.finalContent(), ANSWER);
    assert.deepEqual(cities, ["Paris"]);
  });
}

test("a response answers", async () => {
  const response = await client.responses.create({ model: CHAT_MODEL, input: CAPITAL.question, temperature: 0 });
  assert.deepEqual([response.status, response.output_text], ["completed", CAPITAL.answer]);
});

test("a streamed response has its events in order", async () => {
  const stream = client.responses.stream({ model: CHAT_MODEL, input: CAPITAL.question, temperature: 0 });
  const events = [];
  for await (const event of stream) events.push(event);
  const deltas = events.filter(({ type }) => type === "response.output_text.delta");
  assert.equal(deltas.map(({ delta }) => delta).join(""), CAPITAL.answer);
  assert.equal(events[0].type, "response.created");
  assert.equal(events.at(-1).type, "response.completed");
  assert.deepEqual(events.map(({ sequence_number }) => sequence_number), [...events.keys()]);
  assert.equal((await stream.finalResponse()).output_text, CAPITAL.answer);
});

test("a response is parsed into what a schema describes", async () => {
  const text = { format: zodTextFormat(Person, "person") };
  const body = { model: CHAT_MODEL, input: PERSON.question, temperature: 0, text };
  assert.deepEqual((await client.responses.parse(body)).output_parsed, PERSON.value);
});

test("a response calls a tool and, told the result, answers", async () => {
  const tools = [{ type: "function", ...WEATHER, strict: true }];
  const input = [{ role: "user", content: QUESTION }];
  const { output } = await client.responses.create({ model: CHAT_MODEL, input, tools, temperature: 0 });
  assert.deepEqual(output.map(({ type, name }) => [type, name]), [["function_call", WEATHER.name]]);
  assert.deepEqual(JSON.parse(output[0].arguments), { city: "Paris" });
  const { call_id } = output[0];
  input.push(...output, { type: "function_call_output", call_id, output: REPORT });
  const answer = await client.responses.create({ model: CHAT_MODEL, input, tools, temperature: 0 });
  assert.equal(answer.output_text, ANSWER);
});

test("embeddings tell what is alike", async () => {
  const body = { model: EMBEDDING_MODEL, input: SENTENCES };
  const [food, bread, stars] = (await client.embeddings.create(body)).data.map(({ embedding }) => embedding);
  assert.equal(food.length, 384);
  assert.ok(cosine(food, bread) > 0.5 && cosine(food, stars) < 0.3);
  const floats = await client.embeddings.create({ ...body, encoding_format: "float" });
  // Left to itself the client asks for base64.
  assert.ok(cosine(floats.data[0].embedding, food) > 0.9999);
});

test("models are listed", async () => {
  const ids = [];
  for await (const { id } of client.models.list()) ids.push(id);
  assert.ok(ids.includes(CHAT_MODEL));
});

test("errors are the classes that OpenAI's servers lead to", async () => {
  await assert.rejects(client.chat.completions.create({ ...ask("Hi"), model: "nobody" }), (error) =>
    error instanceof NotFoundError && error.code === "model_not_found");
  await assert.rejects(client.chat.completions.create({ ...ask("Hi"), top_p: 7 }), (error) =>
    error instanceof BadRequestError && error.param === "top_p");
  await assert.rejects(connect(GUARDED_URL, "wrong").chat.completions.create(ask("Hi")), AuthenticationError);
});

// Vercel's AI SDK over its provider for servers that speak OpenAI's dialect.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, cosineSimilarity, embedMany, generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";

import {
  ANSWER, CAPITAL, CHAT_MODEL, EMBEDDING_MODEL, GUARDED_URL, PERSON, QUESTION, REPORT, SENTENCES, SERVER_URL, WEATHER,
} from "./served.js";

const connect = (url, apiKey = "unused") =>
  createOpenAICompatible({
    name: "pagemill", baseURL: `${url}/v1`, apiKey, includeUsage: true, supportsStructuredOutputs: true,
  });
const pagemill = connect(SERVER_URL);
const model = pagemill(CHAT_MODEL);
const settings = { model, temperature: 0, maxRetries: 0 };
const person = Output.object({ schema: z.object({ name: z.string(), age: z.number().int(), city: z.string() }) });

function toolSettings(cities) {
  const weather = tool({
    description: WEATHER.description,
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => (cities.push(city), REPORT),
  });
  return { ...settings, prompt: QUESTION, tools: { [WEATHER.name]: weather }, stopWhen: isStepCount(3) };
}

test("generateText answers", async () => {
  const { text, finishReason, usage, warnings } = await generateText({ ...settings, prompt: CAPITAL.question });
  assert.deepEqual([text, finishReason], [CAPITAL.answer, "stop"]);
  assert.ok(usage.inputTokens > 1 && usage.outputTokens > 1);
  assert.deepEqual(warnings ?? [], []);
});

test("streamText streams and tells the usage", async () => {
  const { textStream, finishReason, usage } = streamText({ ...settings, prompt: CAPITAL.question });
  const pieces = [];
  for await (const piece of textStream) pieces.push(piece);
  assert.equal(pieces.join(""), CAPITAL.answer);
  assert.ok(pieces.length > 1);
  assert.equal(await finishReason, "stop");
  assert.ok((await usage).outputTokens > 1);
});

test("an object comes out as its schema says", async () => {
  const { output } = await generateText({ ...settings, prompt: PERSON.question, output: person });
  assert.deepEqual(output, PERSON.value);
});

test("an object is streamed in ever larger parts", async () => {
  const { partialOutputStream } = streamText({ ...settings, prompt: PERSON.question, output: person });
  const parts = [];
  for await (const part of partialOutputStream) parts.push(part);
  assert.ok(parts.length > 1);
  assert.deepEqual(parts.at(-1), PERSON.value);
});

test("generateText runs a tool and gets to the answer in a second step", async () => {
  const cities = [];
  const { text, steps } = await generateText(toolSettings(cities));
  assert.equal(text, ANSWER);
  assert.deepEqual(cities, ["Paris"]);
  assert.deepEqual(steps.map(({ finishReason }) => finishReason), ["tool-calls", "stop"]);
});

test("streamText runs a tool and gets to the answer in a second step", async () => {
  const cities = [];
  const { text, steps } = streamText(toolSettings(cities));
  assert.equal(await text, ANSWER);
  assert.deepEqual(cities, ["Paris"]);
  assert.deepEqual((await steps).map(({ finishReason }) => finishReason), ["tool-calls", "stop"]);
});

test("a tool that is demanded is called", async () => {
  const { toolCalls } = await generateText({ ...toolSettings([]), stopWhen: isStepCount(1), toolChoice: "required" });
  assert.deepEqual(toolCalls.map(({ toolName, input }) => [toolName, input]), [[WEATHER.name, { city: "Paris" }]]);
});

test("embedMany tells what is alike", async () => {
  const embedder = pagemill.embeddingModel(EMBEDDING_MODEL);
  const { embeddings, usage } = await embedMany({ model: embedder, values: SENTENCES, maxRetries: 0 });
  const [food, bread, stars] = embeddings;
  assert.ok(cosineSimilarity(food, bread) > 0.5 && cosineSimilarity(food, stars) < 0.3);
  assert.ok(usage.tokens > SENTENCES.length);
});

test("errors have their status and message", async () => {
  const refused = (status, words) => (error) =>
    APICallError.isInstance(error) && error.statusCode === status && words.test(error.message);
  await assert.rejects(generateText({ ...settings, model: pagemill("nobody"), prompt: "Hi" }), refused(404, /nobody/));
  await assert.rejects(generateText({ ...settings, prompt: "Hi", topP: 7 }), refused(400, /top_p/));
  const guarded = connect(GUARDED_URL, "wrong")(CHAT_MODEL);
  await assert.rejects(generateText({ ...settings, model: guarded, prompt: "Hi" }), refused(401, /key/i));
});

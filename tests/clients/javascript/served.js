// What the suites of this folder are about: a running server, one with a key, and what their models know.

export const { SERVER_URL, GUARDED_URL } = process.env;
export const CHAT_MODEL = "grist";
export const EMBEDDING_MODEL = "minilm";

export const QUESTION = "What is the weather in Paris?";
export const REPORT = "21 degrees, sunny";
export const ANSWER = "It is 21 degrees and sunny in Paris.";
export const CAPITAL = { question: "What is the capital of Norway?", answer: "The capital of Norway is Oslo." };
export const PERSON = {
  question: "Extract JSON: Maria is 34 and lives in Oslo.",
  value: { name: "Maria", age: 34, city: "Oslo" },
};

export const WEATHER = {
  name: "get_weather",
  description: "Get the current weather in a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

/** The cosine of two vectors of length 1. */
export const cosine = (left, right) => left.reduce((sum, value, at) => sum + value * right[at], 0);
export const SENTENCES = ["A man is eating food.", "A man is eating a piece of bread.", "Stars are far away."];

// The server, as its OpenAI dialect shows it. All addresses are relative to the page, so any path prefix may stand before.
//
// Owns the API key, which lasts as long as the browser's tab.

const KEY_NAME = "pagemill.key";
const ROOT = new URL("../", document.baseURI);

export class ServerError extends Error {
  constructor(message, { status = 0, code = null, retryAfterS = 1 } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }

  get needsKey() {
    return this.status === 401;
  }

  get isLoading() {
    return this.status === 503 && this.code === "model_not_ready";
  }
}

export function keepKey(key) {
  if (key) sessionStorage.setItem(KEY_NAME, key);
  else sessionStorage.removeItem(KEY_NAME);
}

export async function listModels() {
  const response = await ask("v1/models");
  return (await response.json()).data.map((model) => model.id);
}

// Why a request would not be served now, as on while a model loads; null if it would.
export async function notReadyReason() {
  try {
    await ask("readyz");
    return null;
  } catch (error) {
    return error;
  }
}

// The chunks of a streamed chat completion.
export async function* streamChat(body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await ask("v1/chat/completions", { method: "POST", body: JSON.stringify(asked), signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message, { code: chunk.error.code });
    yield chunk;
  }
  throw new ServerError("The connection ended before the answer did.");
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY_NAME);
  const headers = { ...(options.body && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server can't be reached.");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  const retryAfterS = Number(response.headers.get("Retry-After")) || 1;
  const text = await response.text();
  let said = null;
  try {
    said = JSON.parse(text).error;
  } catch {
    // what a proxy answers is not JSON
  }
  const message = said?.message ?? `The server answered ${response.status} ${response.statusText}`.trim();
  return new ServerError(message, { status: response.status, code: said?.code, retryAfterS });
}

// The data of server-sent events.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (buffer + value).split("\n\n");
      buffer = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield part.slice("data: ".length);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The connection broke off.");
  } finally {
    reader.cancel().catch(() => {}); // it may have broken off already
  }
}

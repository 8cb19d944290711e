// One answer: asks the server for it and folds what comes into a message. Waits while the model loads.
//
// A `Run` owns the message that it writes until `finished`. It knows nothing of the page.

import { notReadyReason, streamChat } from "./server.js";

const PATIENCE_MS = 800; // without a word from the server, before it is asked what it is doing

export class Run {
  // `onUpdate` is told whenever the message has changed, `onStatus` what is being waited for ("" for nothing).
  constructor(chat, { onUpdate, onStatus }) {
    this.chat = chat;
    this.message = { role: "assistant", content: "" };
    this.onUpdate = onUpdate;
    this.onStatus = onStatus;
    this.controller = new AbortController();
    this.firstAt = null;
    this.lastAt = null;
  }

  stop() {
    this.controller.abort();
  }

  // Resolves when the message is complete, stopped or failed; never rejects. The error that ended it, or null.
  async finished() {
    const body = requestOf(this.chat);
    try {
      while (!(await this.attempt(body)));
      return null;
    } catch (error) {
      if (this.controller.signal.aborted) {
        this.message.finish_reason = "stopped";
        return null;
      }
      this.message.error = error.message;
      return error;
    } finally {
      this.onStatus("");
      this.measureReasoning();
      if (this.message.finish_reason !== "tool_calls") delete this.message.tool_calls; // they were cut off
      this.onUpdate();
    }
  }

  // Whether it was answered: not, if the model was loading. Then the time that the server named has passed.
  async attempt(body) {
    const { signal } = this.controller;
    const watch = setInterval(() => this.watch(), PATIENCE_MS);
    this.startedAt = performance.now();
    try {
      for await (const chunk of streamChat(body, signal)) {
        this.take(chunk);
        this.onUpdate();
      }
      return true;
    } catch (error) {
      if (!error.isLoading || this.firstAt !== null) throw error;
      this.onStatus(error.message);
      await pause(error.retryAfterS * 1000, signal);
      return false;
    } finally {
      clearInterval(watch);
    }
  }

  async watch() {
    const reason = this.firstAt === null ? await notReadyReason() : null;
    if (this.firstAt === null && !this.controller.signal.aborted) this.onStatus(reason?.isLoading ? reason.message : "");
  }

  take(chunk) {
    const [choice] = chunk.choices;
    if (choice) this.takeDelta(choice.delta);
    if (choice?.finish_reason) this.message.finish_reason = choice.finish_reason;
    if (chunk.usage) this.takeUsage(chunk.usage);
  }

  takeDelta({ content, reasoning, tool_calls: calls }) {
    if (!content && !reasoning && !calls) return;
    const { message } = this;
    this.lastAt = performance.now();
    if (this.firstAt === null) this.onStatus("");
    this.firstAt ??= this.lastAt;
    if (reasoning) message.reasoning = (message.reasoning ?? "") + reasoning;
    if (content || calls) this.measureReasoning();
    if (content) message.content += content;
    for (const { index, id, function: called } of calls ?? []) {
      message.tool_calls ??= [];
      message.tool_calls[index] ??= { id, type: "function", function: { name: called.name, arguments: "" } };
      message.tool_calls[index].function.arguments += called.arguments ?? "";
    }
  }

  measureReasoning() {
    if (this.message.reasoning) this.message.reasoning_ms ??= Math.round((this.lastAt ?? performance.now()) - this.firstAt);
  }

  // The rate is that of the tokens after the first, which the prompt had to be read for.
  takeUsage({ prompt_tokens, completion_tokens }) {
    if (this.firstAt === null) return;
    const decoding = (this.lastAt - this.firstAt) / 1000;
    this.message.stats = {
      prompt_tokens,
      completion_tokens,
      first_ms: Math.round(this.firstAt - this.startedAt),
      per_second: completion_tokens > 1 && decoding > 0 ? (completion_tokens - 1) / decoding : null,
    };
  }
}

// What the server is asked: the chat's messages without what is only for the page, and the options that are set.
export function requestOf({ model, options, messages }) {
  const system = options.system ? [{ role: "system", content: options.system }] : [];
  const body = { model, messages: [...system, ...messages.filter((message) => !isEmpty(message)).map(wireMessage)] };
  for (const name of ["temperature", "top_p", "max_tokens", "seed", "reasoning_effort"]) {
    if (options[name] !== undefined) body[name] = options[name];
  }
  if (options.stop?.length) body.stop = options.stop;
  if (options.tools?.length) Object.assign(body, { tools: options.tools, tool_choice: options.tool_choice ?? "auto" });
  return body;
}

// An answer that failed, or was stopped, before it said anything.
function isEmpty({ role, content, tool_calls: calls }) {
  return role === "assistant" && !content && !calls?.length;
}

function wireMessage({ role, content, reasoning, tool_calls, tool_call_id }) {
  return { role, content, reasoning, tool_calls, tool_call_id }; // those that are undefined are left out
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

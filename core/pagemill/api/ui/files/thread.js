// The conversation on the page. Owns the views of the chat's messages, when they are drawn, and where the reader is in it.

import { announce, byId, element } from "./dom.js";
import { AssistantMessageView, UserMessageView } from "./message.js";

const NEAR_END_PX = 80;
const REST = 3; // drawing may take one part of the time in so many
const SPEECH_EVERY_MS = 4000;

export class Thread {
  // `actions`: edit(message, text), regenerate(message), sendResults(message, texts).
  constructor(actions) {
    this.actions = actions;
    this.scroller = byId("scroller");
    this.container = byId("thread");
    this.views = new Map();
    this.timer = null;
    this.spoken = 0; // characters of the answer that were said aloud
    this.spokenAt = 0;
    this.followsEnd = true;
    this.scroller.addEventListener("scroll", () => this.noticePlace());
    byId("to-end").addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.followsEnd && this.toEnd()).observe(this.scroller);
  }

  // Show the chat, of which `running` is being written, if any.
  show(chat, running) {
    clearTimeout(this.timer);
    this.timer = null;
    this.views.clear();
    this.scroller.setAttribute("aria-busy", String(Boolean(running)));
    const { messages } = chat;
    const shown = messages.filter((message) => message.role !== "tool");
    for (const message of shown) this.views.set(message, this.view(message, chat));
    this.container.replaceChildren(...(shown.length ? [...this.views.values()].map((view) => view.element) : [greeting(chat.model)]));
    for (const message of shown) {
      if (message.role !== "assistant") continue;
      if (message === running) this.views.get(message).update(true);
      else this.views.get(message).finish(resultsAfter(messages, message));
    }
    this.toEnd();
  }

  view(message, chat) {
    const { actions } = this;
    if (message.role === "user") return new UserMessageView(message, (text) => actions.edit(message, text));
    return new AssistantMessageView(message, chat.model, {
      regenerate: () => actions.regenerate(message),
      sendResults: (texts) => actions.sendResults(message, texts),
    });
  }

  begin() {
    this.spoken = 0;
    this.spokenAt = performance.now();
    announce("The model is answering");
  }

  // Draw what was added, soon: the longer drawing takes, the more rarely.
  grow(message, pause = 0) {
    if (this.timer !== null || !this.views.has(message)) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      const start = performance.now();
      this.views.get(message)?.update(true);
      if (this.followsEnd) this.toEnd();
      this.speak(message, false);
      this.pause = (performance.now() - start) * REST;
    }, Math.max(16, pause, this.pause ?? 0));
  }

  // Those who listen hear whole sentences, now and then, and in the end the rest.
  speak({ content, tool_calls: calls, error }, isEnd) {
    const now = performance.now();
    if (!isEnd && now - this.spokenAt < SPEECH_EVERY_MS) return;
    const rest = content.slice(this.spoken);
    const length = isEnd ? rest.length : Math.max(rest.lastIndexOf(". "), rest.lastIndexOf("\n")) + 1;
    const called = isEnd && calls ? ` Calls ${calls.map((call) => call.function.name).join(", ")}.` : "";
    if (length > 0 || called) announce(rest.slice(0, length) + called);
    else if (isEnd && !error) announce("The answer is empty");
    this.spoken += length;
    this.spokenAt = now;
  }

  noticePlace() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.followsEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    byId("to-end").hidden = this.followsEnd;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.noticePlace();
  }

  editLast() {
    [...this.views.values()].findLast((view) => view instanceof UserMessageView)?.edit();
  }
}

// The results that follow an answer's calls; null if the conversation went on without them.
function resultsAfter(messages, message) {
  const following = messages.slice(messages.indexOf(message) + 1);
  const end = following.findIndex((other) => other.role !== "tool");
  const results = end === -1 ? following : following.slice(0, end);
  return results.length || end === -1 ? results.map((result) => result.content) : null;
}

function greeting(model) {
  return element(
    "div",
    { class: "greeting" },
    element("h2", {}, "Good to see you."),
    element("p", {}, model ? `You are talking to ${model}. Chats stay in this browser; only what you send goes to the server.` : "There is no model yet."),
  );
}

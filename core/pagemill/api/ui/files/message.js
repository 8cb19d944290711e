// One message of the conversation, as the reader sees it.

import { copyButton, element, fitHeight, iconButton } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { ToolCallsView } from "./tool_calls.js";

export class UserMessageView {
  // `onEdit` is told the new text.
  constructor(message, onEdit) {
    this.message = message;
    this.onEdit = onEdit;
    this.element = element("article", { class: "message user", "aria-label": "You" });
    this.show();
  }

  show() {
    this.element.replaceChildren(
      element("p", { class: "bubble" }, this.message.content),
      element(
        "div",
        { class: "actions" },
        copyButton("Copy your message", () => this.message.content),
        iconButton("edit", "Edit your message", () => this.edit()),
      ),
    );
  }

  edit() {
    const field = element("textarea", { "aria-label": "Your message", oninput: () => fitHeight(field) });
    field.value = this.message.content;
    const close = () => {
      this.show();
      this.element.querySelector("[aria-label='Edit your message']").focus();
    };
    const save = () => (field.value.trim() === "" ? field.focus() : this.onEdit(field.value.trim()));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) save();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.element.replaceChildren(
      element(
        "div",
        { class: "editor" },
        field,
        element("p", { class: "quiet" }, "What follows this message is replaced."),
        element(
          "div",
          { class: "buttons" },
          element("button", { type: "button", onclick: close }, "Cancel"),
          element("button", { type: "button", class: "primary", onclick: save }, "Send"),
        ),
      ),
    );
    fitHeight(field);
    field.focus();
  }
}

export class AssistantMessageView {
  // `actions`: regenerate(), sendResults(texts).
  constructor(message, model, actions) {
    this.message = message;
    this.actions = actions;
    const label = `Answer of ${model}`;
    this.reasoning = element("details", { class: "reasoning", hidden: true }, element("summary"), element("div", { class: "prose" }));
    this.prose = element("div", { class: "prose" });
    const calls = element("div", { class: "calls" });
    this.foot = element("div", { class: "foot" });
    this.element = element("article", { class: "message assistant", "aria-label": label }, this.reasoning, this.prose, calls, this.foot);
    this.reasoningText = new MarkdownView(this.reasoning.lastChild);
    this.text = new MarkdownView(this.prose);
    this.calls = new ToolCallsView(calls, (texts) => this.actions.sendResults(texts));
  }

  // What there is so far.
  update(isRunning) {
    const { content, reasoning, reasoning_ms: ms, tool_calls: calls } = this.message;
    this.element.classList.toggle("running", isRunning);
    this.element.classList.toggle("waiting", isRunning && !content && !reasoning && !calls);
    if (reasoning) {
      this.reasoning.hidden = false;
      this.reasoning.firstChild.textContent = ms === undefined ? "Thinking" : `Thought for ${seconds(ms)}`;
      this.reasoningText.show(reasoning);
    }
    this.text.show(content);
    this.calls.show(calls ?? []);
  }

  // `results` are the texts of the tools' results, which may still be asked for; null if the answer is not the last.
  finish(results) {
    const { message } = this;
    this.update(false);
    if (results?.length) this.calls.showResults(results);
    else if (results && message.tool_calls) this.calls.askForResults(message.tool_calls);
    this.foot.replaceChildren(
      element(
        "div",
        { class: "actions" },
        message.content ? copyButton("Copy the answer", () => message.content) : null,
        iconButton("redo", "Answer again", () => this.actions.regenerate()),
      ),
      element("p", { class: "stats" }, remarks(message)),
    );
    if (message.error) this.foot.before(this.failure(message.error));
  }

  failure(text) {
    const again = element("button", { type: "button", onclick: () => this.actions.regenerate() }, "Try again");
    return element("div", { class: "failure", role: "alert" }, element("p", {}, text), again);
  }
}

function remarks({ stats, error, finish_reason: reason }) {
  const parts = [];
  if (!reason && !error) parts.push("Broken off"); // the page was closed
  if (reason === "stopped") parts.push("Stopped");
  if (reason === "length") parts.push("Cut off at the most tokens");
  if (stats) {
    parts.push(`${stats.completion_tokens} ${stats.completion_tokens === 1 ? "token" : "tokens"}`);
    if (stats.per_second) parts.push(`${stats.per_second < 10 ? stats.per_second.toFixed(1) : Math.round(stats.per_second)} tokens/s`);
    if (stats.first_ms !== undefined) parts.push(`first after ${seconds(stats.first_ms)}`);
  }
  return parts.map((part) => element("span", {}, part));
}

function seconds(ms) {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// The calls of an answer: their arguments as they are written, their results, or the fields to type those in.

import { byId, element, fitHeight, icon } from "./dom.js";

export class ToolCallsView {
  // `onResults` is told the texts of all calls' results, in order.
  constructor(container, onResults) {
    this.container = container;
    this.onResults = onResults;
    this.codes = [];
  }

  // The calls so far. While they stream only the arguments grow.
  show(calls) {
    for (const [index, call] of calls.entries()) {
      if (this.codes.length === index) this.add(call);
      this.codes[index].textContent = pretty(call.function.arguments);
    }
  }

  add(call) {
    const code = element("code");
    const { name } = call.function;
    this.codes.push(code);
    this.container.append(
      element(
        "section",
        { class: "call", "aria-label": `Call of ${name}` },
        element("h3", {}, icon("tool"), element("span", {}, "Calls "), element("code", {}, name)),
        element("pre", { tabindex: "0", role: "region", "aria-label": `Arguments of ${name}` }, code),
      ),
    );
  }

  showResults(texts) {
    for (const [index, text] of texts.entries()) {
      this.container.children[index].append(
        element("h4", {}, "Result"),
        element("pre", { tabindex: "0", role: "region", "aria-label": "Result" }, element("code", {}, pretty(text))),
      );
    }
  }

  askForResults(calls) {
    const fields = calls.map((call, index) => {
      const field = element("textarea", { rows: "1", required: true, class: "code-field", placeholder: "What the function returned", oninput: () => fitHeight(field) });
      this.container.children[index].append(element("label", { class: "result" }, `Result of ${call.function.name}`, field));
      return field;
    });
    const send = () => {
      const missing = fields.find((field) => field.value.trim() === "");
      if (missing) missing.focus();
      else this.onResults(fields.map((field) => field.value));
    };
    for (const field of fields) {
      field.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        send();
      });
    }
    const label = calls.length > 1 ? "Send the results" : "Send the result";
    this.container.append(element("div", { class: "buttons" }, element("button", { type: "button", class: "primary", onclick: send }, label)));
    if (byId("prompt").value === "") fields[0].focus({ preventScroll: true });
  }
}

// JSON on several lines; what is none, or not yet, as it is.
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

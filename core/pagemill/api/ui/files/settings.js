// The form of a chat's options. Owns nothing: it reads and writes the options of the chat that it is opened for.

import { byId, fitHeight } from "./dom.js";

const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];
const TEXTS = ["system", "reasoning_effort"];
const EXAMPLE = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Get the current weather in a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

export class SettingsForm {
  // `onChange` is told when the options have changed.
  constructor(onChange) {
    this.dialog = byId("settings");
    this.form = this.dialog.querySelector("form");
    this.onChange = onChange;
    this.options = {};
    this.form.addEventListener("input", () => this.read());
    byId("tools-example").addEventListener("click", () => {
      this.field("tools").value = JSON.stringify(EXAMPLE, null, 2);
      this.read();
    });
  }

  field(name) {
    return this.form.elements.namedItem(name);
  }

  open(options) {
    this.options = options;
    for (const name of [...NUMBERS, ...TEXTS]) this.field(name).value = options[name] ?? "";
    this.field("stop").value = (options.stop ?? []).join("\n");
    this.field("tools").value = options.tools?.length ? JSON.stringify(options.tools, null, 2) : "";
    this.field("tool_choice").value = options.tool_choice ?? "auto";
    this.showToolsError("");
    this.dialog.showModal();
    fitHeight(this.field("system"));
  }

  // What is wrong in the form is said there, and leaves the options as they were.
  read() {
    for (const name of NUMBERS) {
      const field = this.field(name);
      field.setAttribute("aria-invalid", String(!field.validity.valid));
      if (field.validity.valid) this.set(name, field.value === "" ? undefined : field.valueAsNumber);
    }
    for (const name of TEXTS) this.set(name, this.field(name).value || undefined);
    this.set("stop", this.field("stop").value.split("\n").filter(Boolean));
    this.set("tool_choice", this.field("tool_choice").value);
    this.readTools();
    this.onChange();
  }

  readTools() {
    try {
      this.set("tools", readTools(this.field("tools").value));
      this.showToolsError("");
    } catch (error) {
      this.showToolsError(error.message);
    }
  }

  showToolsError(message) {
    byId("tools-error").textContent = message;
    this.field("tools").setAttribute("aria-invalid", String(message !== ""));
  }

  set(name, value) {
    if (value === undefined) delete this.options[name];
    else this.options[name] = value;
  }
}

// Functions alone will do: what the server wants around them is put there.
function readTools(text) {
  if (text.trim() === "") return [];
  const given = JSON.parse(text);
  return (Array.isArray(given) ? given : [given]).map((tool, index) => {
    const called = tool?.function ?? tool;
    if (typeof called?.name !== "string") throw new Error(`Function ${index + 1} has no name.`);
    return { type: "function", function: called };
  });
}

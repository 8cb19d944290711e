// Questions to the reader, and dialogs that close when what is around them is clicked.

import { byId } from "./dom.js";

// Asks, in a dialog: resolves to what was typed ("" if there is nothing to type), or null if it was cancelled. `field` is {label,
// value, secret}, or absent.
export function ask({ title, text = "", accept, field }) {
  const dialog = byId("question");
  const form = dialog.querySelector("form");
  const input = byId("question-field");
  byId("question-title").textContent = title;
  byId("question-text").textContent = text;
  byId("question-accept").textContent = accept;
  byId("question-label").textContent = field?.label ?? "";
  input.parentElement.hidden = !field;
  input.type = field?.secret ? "password" : "text";
  input.value = field?.value ?? "";
  input.required = Boolean(field);
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      dialog.close("accepted");
    };
    byId("question-cancel").onclick = () => dialog.close("");
    dialog.onclose = () => resolve(dialog.returnValue === "accepted" ? input.value.trim() : null);
    dialog.returnValue = "";
    dialog.showModal();
    if (field) input.select();
  });
}

export function closeOnOutsideClick(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

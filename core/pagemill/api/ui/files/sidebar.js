// The list of chats. Owns which one of them is shown as current; chats themselves are the page's.

import { ask } from "./dialogs.js";
import { byId, element, iconButton } from "./dom.js";
import { titleOf } from "./chats.js";

export class Sidebar {
  // `actions`: open(chat), rename(chat, title), remove(chat).
  constructor(actions) {
    this.actions = actions;
    this.list = byId("chats");
    this.toggle = byId("open-sidebar");
    this.toggle.addEventListener("click", () => this.unfold(true));
    byId("close-sidebar").addEventListener("click", () => this.unfold(false));
    document.addEventListener("click", (event) => {
      if (this.isUnfolded && !event.target.closest("#sidebar, #open-sidebar, dialog")) this.unfold(false);
    });
  }

  // On a narrow screen, where it lies over the conversation.
  get isUnfolded() {
    return document.body.classList.contains("sidebar-open");
  }

  unfold(open) {
    if (open === this.isUnfolded) return;
    document.body.classList.toggle("sidebar-open", open);
    this.toggle.setAttribute("aria-expanded", String(open));
    (open ? byId("new-chat") : this.toggle).focus();
  }

  show(chats, current) {
    byId("no-chats").hidden = chats.length > 0;
    byId("export").disabled = chats.length === 0;
    this.list.replaceChildren(...chats.map((chat) => this.row(chat, chat.id === current.id)));
  }

  row(chat, isCurrent) {
    const title = titleOf(chat);
    return element(
      "li",
      { class: isCurrent ? "current" : null },
      element("button", { type: "button", class: "chat", "aria-current": isCurrent ? "true" : null, onclick: () => this.actions.open(chat) }, title),
      iconButton("edit", `Rename ${title}`, () => this.rename(chat, title)),
      iconButton("trash", `Delete ${title}`, () => this.remove(chat, title)),
    );
  }

  async rename(chat, title) {
    const given = await ask({ title: "Rename the chat", accept: "Rename", field: { label: "Title", value: title } });
    if (given) this.actions.rename(chat, given);
  }

  async remove(chat, title) {
    const answer = await ask({ title: "Delete the chat?", text: `“${title}” is gone from this browser then.`, accept: "Delete" });
    if (answer !== null) this.actions.remove(chat);
  }
}

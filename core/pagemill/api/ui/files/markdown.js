// Shows a Markdown text that grows. Blocks that are complete are never built again; only the last one is.

import { parseBlocks } from "./blocks.js";
import { copyButton, element } from "./dom.js";
import { inline } from "./inline.js";

export class MarkdownView {
  constructor(container) {
    this.container = container;
    this.clear();
  }

  clear() {
    this.text = "";
    this.settled = 0; // characters of `text` whose blocks are complete
    this.tail = []; // of the rest: [block, its element]
    this.container.replaceChildren();
  }

  // Show the text. If it begins with what is shown, only what follows costs anything.
  show(text) {
    if (text === this.text) return;
    if (!text.startsWith(this.text)) this.clear();
    this.text = text;
    const lines = text.slice(this.settled).split("\n");
    const blocks = parseBlocks(lines);
    if (!this.growCode(blocks)) this.replaceTail(blocks);
    this.settle(blocks, lines);
  }

  // Code that is being written is not built anew: what is selected in it, and how far it is scrolled, stays.
  growCode(blocks) {
    const [before, pre] = this.tail[0] ?? [];
    const [block] = blocks;
    if (this.tail.length !== 1 || blocks.length !== 1 || before.type !== "fence" || block.type !== "fence") return false;
    if (before.from !== block.from || before.language !== block.language || !block.code.startsWith(before.code)) return false;
    pre.querySelector("code").firstChild.appendData(block.code.slice(before.code.length));
    this.tail = [[block, pre]];
    return true;
  }

  replaceTail(blocks) {
    const made = blocks.map((block) => [block, render(block)]);
    const [first] = this.tail;
    for (const [, node] of this.tail.slice(1)) node.remove();
    const nodes = made.map(([, node]) => node);
    if (first !== undefined) first[1].replaceWith(...nodes);
    else this.container.append(...nodes);
    this.tail = made;
  }

  // A block is complete when another follows that doesn't consist of the line that is being written: "--" may become a
  // rule, or a word of the paragraph before it.
  settle(blocks, lines) {
    let numOpen = 1;
    if (blocks.length > 1 && blocks.at(-1).from === lines.length - 1) numOpen = 2;
    if (blocks.length <= numOpen) return;
    const open = blocks[blocks.length - numOpen];
    for (let line = 0; line < open.from; line += 1) this.settled += lines[line].length + 1;
    this.tail = this.tail.slice(-numOpen).map(([block, node]) => [{ ...block, from: block.from - open.from }, node]);
  }
}

function render(block) {
  switch (block.type) {
    case "heading": // the page's own headings stand above an answer's
      return element(`h${Math.min(block.level + 2, 6)}`, { class: `level-${block.level}` }, inline(block.text));
    case "rule":
      return element("hr");
    case "quote":
      return element("blockquote", {}, block.blocks.map(render));
    case "list":
      return renderList(block);
    case "fence":
      return renderFence(block);
    case "table":
      return renderTable(block);
    default:
      return element("p", {}, inline(block.text));
  }
}

function renderList({ ordered, start, loose, items }) {
  const made = items.map((blocks) => element("li", {}, blocks.flatMap((block) => renderInItem(block, loose))));
  return ordered ? element("ol", { start: start === 1 ? null : start }, made) : element("ul", {}, made);
}

function renderInItem(block, loose) {
  return block.type === "paragraph" && !loose ? inline(block.text) : [render(block)];
}

function renderFence({ language, code }) {
  const written = document.createTextNode(code);
  return element(
    "figure",
    { class: "code" },
    element("figcaption", {}, element("span", {}, language || "text"), copyButton("Copy code", () => written.data)),
    element("pre", { tabindex: "0", role: "region", "aria-label": `Code, ${language || "text"}` }, element("code", {}, written)),
  );
}

function renderTable({ align, header, rows }) {
  const row = (tag, texts) =>
    element("tr", {}, align.map((side, column) => element(tag, { class: side, scope: tag === "th" ? "col" : null }, inline(texts[column] ?? ""))));
  return element(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": "Table" },
    element("table", {}, element("thead", {}, row("th", header)), element("tbody", {}, rows.map((texts) => row("td", texts)))),
  );
}

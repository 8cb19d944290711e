// What stands in a line of Markdown: emphasis, code, links, breaks. Text in, nodes out, never HTML.
//
// Time is linear in the text: a mark that was once found to have no end is not looked for again, links are bounded.

import { element } from "./dom.js";

const SPECIAL = /[\\`*_~[!<h\n]/g;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}_]/u;
const LINK = /\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\([ \t]*<?((?:[^\s<>()]|\([^\s<>()]*\))*)>?(?:[ \t]+"[^"]*")?[ \t]*\)/y;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/y;
const BARE_URL = /https?:\/\/[^\s<>"`]{1,2000}/y;
const MAX_LINK_LENGTH = 4000;
const MAX_DEPTH = 8;
const SAFE_PROTOCOLS = new Set(["http:", "https:", "mailto:"]);
const TAGS = { "*": "em", _: "em", "**": "strong", __: "strong", "~~": "del" };

export function inline(text, depth = 0) {
  return new InlineReader(text, depth).read();
}

// A link that leads away from the page and tells nobody where from; only its text, if it is of another kind.
export function link(address, children) {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url === null || !SAFE_PROTOCOLS.has(url.protocol)) return children;
  return [element("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, children)];
}

class InlineReader {
  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
    this.at = 0;
    this.plain = "";
    this.nodes = [];
    this.endless = new Set(); // marks that have no end after here
  }

  read() {
    const { text } = this;
    while (this.at < text.length) {
      SPECIAL.lastIndex = this.at;
      const next = SPECIAL.exec(text)?.index ?? text.length;
      this.plain += text.slice(this.at, next);
      this.at = next;
      if (next < text.length && !this.readSpecial(text[next])) {
        this.plain += text[this.at];
        this.at += 1;
      }
    }
    this.flush();
    return this.nodes;
  }

  // Whether something was read; then `at` stands behind it.
  readSpecial(character) {
    switch (character) {
      case "\\":
        return this.readEscape();
      case "\n":
        return this.push([element("br")], this.at + 1);
      case "`":
        return this.readCode();
      case "*":
      case "_":
      case "~":
        return this.depth < MAX_DEPTH && this.readEmphasis(character);
      case "!":
        return this.text[this.at + 1] === "[" && this.readLink(this.at + 1); // an image is not fetched, but linked
      case "[":
        return this.readLink(this.at);
      case "<":
        return this.readAutolink();
      default:
        return this.readBareUrl();
    }
  }

  flush() {
    if (this.plain) this.nodes.push(this.plain);
    this.plain = "";
  }

  push(nodes, end) {
    this.flush();
    this.nodes.push(...nodes);
    this.at = end;
    return true;
  }

  readEscape() {
    const next = this.text[this.at + 1] ?? "";
    if (!PUNCTUATION.test(next)) return false;
    this.plain += next;
    this.at += 2;
    return true;
  }

  runLength(at) {
    let end = at;
    while (this.text[end] === this.text[at]) end += 1;
    return end - at;
  }

  readCode() {
    const length = this.runLength(this.at);
    const start = this.at + length;
    const end = this.findEnd("`".repeat(length), start, (at) => this.runLength(at) === length);
    if (end === -1) {
      this.plain += this.text.slice(this.at, start);
      this.at = start;
      return true;
    }
    const code = this.text.slice(start, end).replaceAll("\n", " ");
    const padded = code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
    return this.push([element("code", {}, padded ? code.slice(1, -1) : code)], end + length);
  }

  readEmphasis(character) {
    const { text, at } = this;
    const length = Math.min(this.runLength(at), 2);
    const mark = character.repeat(length);
    const start = at + length;
    if (!(mark in TAGS) || /^\s?$/.test(text[start] ?? "")) return false;
    if (character === "_" && WORD.test(text[at - 1] ?? "")) return false;
    const closes = (end) =>
      !/\s/.test(text[end - 1]) && !(character === "_" && WORD.test(text[end + length] ?? "")) &&
      (length === 2 || this.runLength(end) !== 2);
    const end = this.findEnd(mark, start, closes);
    if (end <= start) return false;
    return this.push([element(TAGS[mark], {}, inline(text.slice(start, end), this.depth + 1))], end + length);
  }

  // The next place of the mark, run by run, that `closes`; -1 if there is none.
  findEnd(mark, from, closes) {
    if (this.endless.has(mark)) return -1;
    let at = this.text.indexOf(mark, from);
    while (at !== -1) {
      if (closes(at)) return at;
      at = this.text.indexOf(mark, at + this.runLength(at));
    }
    this.endless.add(mark);
    return -1;
  }

  readLink(bracket) {
    LINK.lastIndex = 0;
    const found = LINK.exec(this.text.slice(bracket, bracket + MAX_LINK_LENGTH));
    if (found === null || this.depth >= MAX_DEPTH) return false;
    const [whole, label, address] = found;
    return this.push(link(address, inline(label || address, MAX_DEPTH)), bracket + whole.length);
  }

  readAutolink() {
    AUTOLINK.lastIndex = this.at;
    const found = AUTOLINK.exec(this.text);
    return found !== null && this.push(link(found[1], [found[1]]), AUTOLINK.lastIndex);
  }

  readBareUrl() {
    BARE_URL.lastIndex = this.at;
    if (this.depth >= MAX_DEPTH || WORD.test(this.text[this.at - 1] ?? "")) return false;
    const found = BARE_URL.exec(this.text);
    if (found === null) return false;
    const address = withoutTrailingPunctuation(found[0]);
    return this.push(link(address, [address]), this.at + address.length);
  }
}

// What ends a sentence, or closes a bracket before the address, is no part of it.
function withoutTrailingPunctuation(address) {
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1];
    if (last === ")" && address.slice(0, end).split("(").length >= address.slice(0, end).split(")").length) break;
    if (!/[.,;:!?'*_~)\]]/.test(last)) break;
  }
  return address.slice(0, end);
}

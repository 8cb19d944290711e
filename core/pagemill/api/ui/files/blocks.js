// The blocks of a Markdown text: headings, paragraphs, lists, quotes, fences, tables, rules. Lines in, plain objects out.
//
// Each block knows the lines it is made of (`from`, `to`), so that a text that grows is read on from its last block.

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|(\d{1,9})[.)])(?:([ \t]+)(.*))?$/;
const MAX_DEPTH = 12;

export function parseBlocks(lines, depth = 0) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const block = depth < MAX_DEPTH ? readBlock(lines, at, depth) : wholeText(lines, at);
    blocks.push({ from: at, ...block });
    at = block.to;
  }
  return blocks;
}

function wholeText(lines, at) {
  return { type: "paragraph", text: lines.slice(at).join("\n"), to: lines.length };
}

function readBlock(lines, at, depth) {
  return (
    readFence(lines, at) ?? readHeading(lines, at) ?? readRule(lines, at) ?? readQuote(lines, at, depth) ??
    readList(lines, at, depth) ?? readTable(lines, at) ?? readParagraph(lines, at)
  );
}

function readFence(lines, at) {
  const opening = FENCE.exec(lines[at]);
  if (opening === null) return null;
  const [, indent, mark, language] = opening;
  const isEnd = (line) => {
    const text = line.trim();
    return text.length >= mark.length && text === mark[0].repeat(text.length) && indentOf(line) < 4;
  };
  let end = at + 1;
  while (end < lines.length && !isEnd(lines[end])) end += 1;
  const code = lines.slice(at + 1, end).map((line) => withoutIndent(line, indent.length));
  return { type: "fence", language: language.trim().split(/\s/)[0], code: code.join("\n"), to: Math.min(end + 1, lines.length) };
}

function readHeading(lines, at) {
  const found = HEADING.exec(lines[at]);
  return found && { type: "heading", level: found[1].length, text: found[2].trim().replace(/(^|\s)#+$/, ""), to: at + 1 };
}

function readRule(lines, at) {
  return RULE.test(lines[at]) ? { type: "rule", to: at + 1 } : null;
}

function readQuote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  if (end === at) return null;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { type: "quote", blocks: parseBlocks(inner, depth + 1), to: end };
}

function readList(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  if (first === null) return null;
  const ordered = first[3] !== undefined;
  const base = first[1].length;
  const items = [];
  let end = at;
  let loose = false;
  while (end < lines.length) {
    const marker = ITEM.exec(lines[end]);
    if (marker === null || (marker[3] !== undefined) !== ordered || marker[1].length >= base + 2 || RULE.test(lines[end])) break;
    const item = readItem(lines, end, marker, base);
    items.push(parseBlocks(item.lines, depth + 1));
    end = item.to;
    const next = skipBlank(lines, end);
    if (next < lines.length && next > end && ITEM.test(lines[next])) {
      loose = true;
      end = next;
    }
  }
  return { type: "list", ordered, start: ordered ? Number(first[3]) : null, loose, items, to: end };
}

// An item's lines are those that are indented beyond its list, by as little as models do, and lines that run on.
function readItem(lines, at, marker, base) {
  const contentIndent = marker[1].length + marker[2].length + Math.min(marker[4]?.length ?? 1, 4);
  const own = [marker[5] ?? ""];
  let end = at + 1;
  while (end < lines.length) {
    const next = skipBlank(lines, end);
    if (next === lines.length) break;
    const isIndented = indentOf(lines[next]) >= base + 2;
    if (!isIndented && (next > end || startsBlock(lines, next) || ITEM.test(lines[next]))) break;
    while (end < next) {
      own.push("");
      end += 1;
    }
    own.push(withoutIndent(lines[end], contentIndent));
    end += 1;
  }
  return { lines: own, to: end };
}

function readTable(lines, at) {
  if (!lines[at].includes("|") || at + 1 >= lines.length) return null;
  const header = cells(lines[at]);
  const rule = cells(lines[at + 1]);
  if (rule.length !== header.length || !lines[at + 1].includes("-") || !rule.every((cell) => /^:?-+:?$/.test(cell))) return null;
  const align = rule.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "left"));
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  return { type: "table", align, header, rows: lines.slice(at + 2, end).map(cells), to: end };
}

// Bars that are escaped, or in code, part nothing.
function cells(line) {
  let text = line.trim();
  if (text.startsWith("|")) text = text.slice(1);
  const found = [""];
  let inCode = false;
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "`") inCode = !inCode;
    if (text[at] === "\\" && text[at + 1] === "|") {
      found[found.length - 1] += "|";
      at += 1;
    } else if (text[at] === "|" && !inCode) found.push("");
    else found[found.length - 1] += text[at];
  }
  if (found.length > 1 && found.at(-1).trim() === "") found.pop();
  return found.map((cell) => cell.trim());
}

function readParagraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "" && !startsBlock(lines, end)) end += 1;
  return { type: "paragraph", text: lines.slice(at, end).map((line) => line.trim()).join("\n"), to: end };
}

// What ends a paragraph without a blank line. Of numbered lists only those that begin at 1: a line may begin with a year.
function startsBlock(lines, at) {
  const line = lines[at];
  const item = ITEM.exec(line);
  const isList = item !== null && Boolean(item[5]) && (item[3] === undefined || item[3] === "1");
  return isList || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || readTable(lines, at) !== null;
}

function skipBlank(lines, at) {
  let next = at;
  while (next < lines.length && lines[next].trim() === "") next += 1;
  return next;
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}

function withoutIndent(line, most) {
  return line.slice(Math.min(indentOf(line), most));
}

// Elements, made without HTML: text only ever becomes text nodes.

const SVG = "http://www.w3.org/2000/svg";

// `properties` are attributes, but for listeners (onclick) and values that are absent. Children are nodes or text.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, onclick) {
  return element("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick }, icon(name));
}

export const byId = (id) => document.getElementById(id);

// As high as its text, up to what the style sheet allows.
export function fitHeight(textarea) {
  textarea.style.height = "auto";
  textarea.style.height = `${textarea.scrollHeight + 2}px`;
}

// Says something to those who listen rather than look.
export function announce(text) {
  byId("announcer").textContent = text;
}

// The clipboard's own interface is only there on pages of secure origins, which a server in the same network is not.
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = element("textarea", { class: "visually-hidden" });
  area.value = text;
  const focused = document.activeElement;
  (focused?.closest("dialog") ?? document.body).append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  if (!copied) throw new Error("the browser did not copy it");
}

export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    try {
      await copyText(text());
      announce("Copied");
      button.replaceChildren(icon("check"));
    } catch (error) {
      announce(`Not copied: ${error.message}`);
      button.replaceChildren(icon("close"));
    }
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

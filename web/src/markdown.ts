// Markdown of a model, which may be hostile: raw HTML is text, and what comes out of the renderer is sanitized as well.
// While a text grows only the blocks at its end are parsed and drawn again.
import DOMPurify from "dompurify";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cmake from "highlight.js/lib/languages/cmake";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import dockerfile from "highlight.js/lib/languages/dockerfile";
import go from "highlight.js/lib/languages/go";
import haskell from "highlight.js/lib/languages/haskell";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import kotlin from "highlight.js/lib/languages/kotlin";
import latex from "highlight.js/lib/languages/latex";
import lua from "highlight.js/lib/languages/lua";
import makefile from "highlight.js/lib/languages/makefile";
import markdown from "highlight.js/lib/languages/markdown";
import php from "highlight.js/lib/languages/php";
import python from "highlight.js/lib/languages/python";
import r from "highlight.js/lib/languages/r";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import shell from "highlight.js/lib/languages/shell";
import sql from "highlight.js/lib/languages/sql";
import swift from "highlight.js/lib/languages/swift";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import MarkdownIt from "markdown-it";
import { copy_text, el, icon } from "./dom";

const kLanguages = {
  bash, c, cmake, cpp, csharp, css, diff, dockerfile, go, haskell, ini, java, javascript, json, kotlin, latex, lua, makefile,
  markdown, php, python, r, ruby, rust, shell, sql, swift, typescript, xml, yaml,
};
for (const [name, language] of Object.entries(kLanguages)) hljs.registerLanguage(name, language);

// A block that still grows is highlighted again with each frame, so it may not be long.
const kMaxGrowing = 8_000, kMaxHighlighted = 200_000;
let max_highlighted = kMaxHighlighted;

const md = new MarkdownIt({
  html: false,
  linkify: true,
  highlight: (code, language) =>
    code.length <= max_highlighted && hljs.getLanguage(language) ? hljs.highlight(code, { language, ignoreIllegals: true }).value : "",
});
md.validateLink = (url) => /^(https?:\/\/|mailto:)/i.test(url.trim());
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });

type Rule = NonNullable<(typeof md.renderer.rules)[string]>;
md.renderer.rules.link_open = (tokens, i, options, _env, self) => {
  tokens[i].attrSet("target", "_blank");
  tokens[i].attrSet("rel", "noopener noreferrer");
  return self.renderToken(tokens, i, options);
};
// A picture would tell its host what the model was told: it becomes a link, which the reader may follow.
md.renderer.rules.image = (tokens, i) => {
  const { escapeHtml } = md.utils;
  const url = String(tokens[i].attrGet("src") ?? "");
  return `<a href="${escapeHtml(url)}" target="_blank" rel="noopener noreferrer">${escapeHtml(tokens[i].content || url)}</a>`;
};
// The page's policy forbids style attributes.
const aligned: Rule = (tokens, i, options, _env, self) => {
  const align = /text-align:(\w+)/.exec(String(tokens[i].attrGet("style") ?? ""))?.[1];
  tokens[i].attrs = align ? [["class", `align-${align}`]] : [];
  return self.renderToken(tokens, i, options);
};
md.renderer.rules.th_open = md.renderer.rules.td_open = aligned;

const kSanitize = {
  ALLOWED_TAGS: [
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "span", "a", "ul", "ol", "li",
    "blockquote", "table", "thead", "tbody", "tr", "th", "td",
  ],
  ALLOWED_ATTR: ["href", "title", "class", "start", "target", "rel"],
  ADD_URI_SAFE_ATTR: ["start", "target", "rel"],  // no addresses; what is not named here must match the next line
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  RETURN_DOM_FRAGMENT: true as const,
};

function code_block(pre: HTMLElement): HTMLElement {
  const code = pre.firstElementChild ?? pre;
  const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
  code.className = "hljs";
  const button = el("button", { type: "button", class: "copy", "aria-label": "Copy code", title: "Copy code",
    on: { click: () => void copy_text(box.querySelector("code")?.textContent ?? "", button) } }, icon("copy"), icon("check"));
  const box = el("div", { class: "code" }, el("div", { class: "code-bar" }, el("span", {}, language), button));
  pre.replaceWith(box);
  pre.tabIndex = 0;  // so that the keyboard can scroll it
  box.append(pre);
  return box;
}

function drawn(html: string): HTMLElement {
  const fragment = DOMPurify.sanitize(html, kSanitize);
  fragment.querySelectorAll("pre").forEach(code_block);
  fragment.querySelectorAll("table").forEach((table) => {
    const box = el("div", { class: "table", tabindex: 0 });
    table.replaceWith(box);
    box.append(table);
  });
  return fragment.childElementCount === 1 ? (fragment.firstElementChild as HTMLElement) : el("div", {}, fragment);
}

type Token = ReturnType<typeof md.parse>[number];
type Env = Parameters<typeof md.parse>[1] & object;

// The tokens of each outermost block, and the source that they came from.
function outer_blocks(text: string, env: Env): { tokens: Token[]; source: string; start: number }[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  const blocks: { tokens: Token[]; source: string; start: number }[] = [];
  let tokens: Token[] = [], depth = 0;
  for (const token of md.parse(text, env)) {
    tokens.push(token);
    depth += token.nesting;
    if (depth > 0) continue;
    const [first, last] = tokens[0].map ?? [0, 0];
    const start = starts[first] ?? text.length;
    blocks.push({ tokens, source: text.slice(start, starts[last] ?? text.length), start });
    tokens = [];
  }
  return blocks;
}

interface Block {
  source: string;
  plain: boolean;  // code that grew too long to be highlighted with each frame
  element: HTMLElement;
}

export class MarkdownView {
  readonly element = el("div", { class: "markdown" });
  #text = "";
  #env: Env = {};
  #blocks: Block[] = [];
  // The text up to here makes the first blocks, which nothing that follows can change: all but the last two. (The last
  // one grows; the one before may be a list that a half-typed number seemed to end.)
  #settled = { offset: 0, blocks: 0 };

  // final: the text is complete, and drawn as a whole.
  set(text: string, final: boolean) {
    if (final || !text.startsWith(this.#text)) {
      this.#settled = { offset: 0, blocks: 0 };
      this.#env = {};
    }
    this.#text = text;
    const { offset, blocks: kept } = this.#settled;
    const blocks = outer_blocks(text.slice(offset), this.#env);
    // A definition may stand after the link that uses it.
    const all_anew = final && Object.keys(this.#env.references ?? {}).length > 0;
    blocks.forEach(({ tokens, source }, i) => {
      const old = this.#blocks[kept + i];
      const growing = !final && i + 1 === blocks.length;
      max_highlighted = growing ? kMaxGrowing : kMaxHighlighted;
      const plain = growing && source.length > kMaxGrowing;
      if (old?.source === source && old.plain === plain && !all_anew) return;
      this.#place(kept + i, { source, plain, element: drawn(md.renderer.render(tokens, md.options, this.#env)) });
    });
    for (const surplus of this.#blocks.splice(kept + blocks.length)) surplus.element.remove();
    if (!final && blocks.length > 2) {
      this.#settled = { offset: offset + blocks[blocks.length - 2].start, blocks: kept + blocks.length - 2 };
    }
  }

  #place(i: number, block: Block) {
    const old = this.#blocks[i];
    this.#blocks[i] = block;
    if (!old) {
      this.element.append(block.element);
      return;
    }
    const code_of = (box: HTMLElement) => (box.matches(".code") ? box.querySelector("code") : null);
    const language_of = (box: HTMLElement) => box.querySelector(".code-bar > span")?.textContent;
    const code = code_of(block.element), old_code = code_of(old.element);
    if (code && old_code && language_of(block.element) === language_of(old.element)) {
      old_code.replaceWith(code);  // the box stays where it was scrolled to
      block.element = old.element;
    } else {
      old.element.replaceWith(block.element);
    }
  }
}

// For what is not Markdown: JSON of tool calls and their answers.
export function code_element(code: string, language: string): HTMLElement {
  const element = el("code", { class: `language-${language}` });
  const html = code.length <= kMaxHighlighted ? hljs.highlight(code, { language, ignoreIllegals: true }).value : "";
  if (html) element.append(DOMPurify.sanitize(html, kSanitize)); else element.textContent = code;
  const pre = el("pre", {}, element);
  el("div", {}, pre);
  return code_block(pre);
}

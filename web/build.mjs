// node build.mjs OUT: bundles the page into OUT, and writes OUT/page_files.cpp, by which the program carries it.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const web = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(web, "../build/web"));
mkdirSync(out, { recursive: true });

const bundled = await build({
  absWorkingDir: web,
  entryPoints: { chat: "src/main.ts", theme: "src/theme.ts", style: "src/style.css" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome123", "firefox121", "safari17.5"],
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});

// The licenses of what the bundle really holds, which must travel with it.
const packages = [...new Set(Object.keys(bundled.metafile.inputs)
  .map((file) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1]).filter(Boolean))].sort();
const licenses = packages.map((name) => {
  const folder = join(web, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((name) => /^licen[sc]e/i.test(name));
  if (!file) throw new Error(`[web] ${name}: expected a LICENSE file in its package`);
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
});
writeFileSync(join(out, "licenses.txt"), licenses.join(`\n${"-".repeat(80)}\n\n`));
for (const name of ["index.html", "icon.svg"]) writeFileSync(join(out, name), readFileSync(join(web, "src", name)));

const files = [
  ["/", "index.html", "text/html; charset=utf-8"],
  ["/chat.js", "chat.js", "text/javascript; charset=utf-8"],
  ["/theme.js", "theme.js", "text/javascript; charset=utf-8"],
  ["/style.css", "style.css", "text/css; charset=utf-8"],
  ["/icon.svg", "icon.svg", "image/svg+xml"],
  ["/licenses.txt", "licenses.txt", "text/plain; charset=utf-8"],
];

// Octal escapes of three digits, so that no digit after one can join it.
const escaped = (byte) =>
  byte === 0x22 || byte === 0x5c ? `\\${String.fromCharCode(byte)}`
  : byte >= 0x20 && byte < 0x7f && byte !== 0x3f ? String.fromCharCode(byte)  // "?": no trigraphs
  : `\\${byte.toString(8).padStart(3, "0")}`;
const literal = (bytes) => {
  let lines = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    lines += `\n      "${Array.from(bytes.subarray(at, at + 4096), escaped).join("")}"`;
  }
  return lines || ' ""';
};
const text = (value) => JSON.stringify(value);

let source = `// Written by web/build.mjs.
#include "mlx_lm/serve/page.h"

namespace mlx_lm::serve {
namespace {

using namespace std::string_view_literals;

constexpr PageFile kFiles[] = {
`;
for (const [path, name, type] of files) {
  const bytes = readFileSync(join(out, name));
  const etag = createHash("sha256").update(bytes).digest("hex").slice(0, 32);
  source += `    {${text(path)}, ${text(type)}, ${text(`"${etag}"`)},${literal(bytes)}sv},\n`;
}
source += `};

}  // namespace

std::span<const PageFile> page_files() { return kFiles; }

const HttpHeaders& page_headers() {
  static const HttpHeaders headers = {
`;
for (const [name, value] of Object.entries(JSON.parse(readFileSync(join(web, "headers.json"), "utf8")))) {
  source += `      {${text(name)}, ${text(value)}},\n`;
}
source += `  };
  return headers;
}

}  // namespace mlx_lm::serve
`;
writeFileSync(join(out, "page_files.cpp"), source);

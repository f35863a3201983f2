// Chromium with the page in it, and what a reader does there.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";

const from_web = createRequire(new URL("../../web/package.json", import.meta.url));
function load(name) {
  try {
    return from_web(name);
  } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND") throw error;
    throw new Error(`[web] ${name}: expected the page's development packages (scripts/setup.sh --test installs them), found none`);
  }
}

function chromium() {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    for (const folder of process.env.PATH.split(delimiter)) if (existsSync(join(folder, name))) return join(folder, name);
  }
  throw new Error("[web] chromium: expected it in PATH (scripts/setup.sh --test installs it), found none");
}

export const launch = () => load("puppeteer-core").launch({
  executablePath: chromium(),
  // A mouse, which a machine without a screen has not; and Chromium refuses to sandbox what root starts.
  args: ["--disable-dev-shm-usage", "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4", "--force-color-profile=srgb", ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])],
});

const kAxe = () => readFileSync(from_web.resolve("axe-core/axe.min.js"), "utf8");

export class Reader {
  violations = [];  // of the page's policy
  errors = [];

  // A profile of its own in the browser.
  static async open(browser, url, { width = 1200, height = 800, phone = false, dark = false } = {}) {
    const reader = new Reader();
    reader.url = url;
    reader.context = await browser.createBrowserContext();
    const page = (reader.page = await reader.context.newPage());
    page.setDefaultTimeout(15_000);
    await page.setViewport(phone ? { width: 390, height: 780, isMobile: true, hasTouch: true, deviceScaleFactor: 2 } : { width, height });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
    await page.exposeFunction("report_violation", (text) => { reader.violations.push(text); });
    await page.evaluateOnNewDocument(() => {
      document.addEventListener("securitypolicyviolation", (event) =>
        window.report_violation(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
    });
    page.on("pageerror", (error) => reader.errors.push(String(error)));
    await page.goto(url);
    await page.waitForSelector(".composer textarea");
    return reader;
  }

  // No script failed, and nothing ran into the page's policy.
  async close() {
    await this.context.close();
    assert.deepEqual(this.errors, []);
    assert.deepEqual(this.violations, []);
  }

  $(selector) { return this.page.$(selector); }
  async click(selector) { await (await this.page.waitForSelector(selector, { visible: true })).click(); }
  async type(selector, text) { await this.click(selector); await this.page.keyboard.type(text); }
  press(...keys) { return keys.reduce((before, key) => before.then(() => this.page.keyboard.press(key)), Promise.resolve()); }
  async chord(modifier, key) {
    await this.page.keyboard.down(modifier);
    await this.page.keyboard.press(key);
    await this.page.keyboard.up(modifier);
  }
  texts(selector) { return this.page.$$eval(selector, (all) => all.map((element) => element.innerText.trim())); }
  async text(selector) { return (await this.texts(selector)).at(-1) ?? ""; }
  count(selector) { return this.page.$$eval(selector, (all) => all.length); }
  value(selector) { return this.page.$eval(selector, (element) => element.value); }
  until(condition, ...values) { return this.page.waitForFunction(condition, { polling: 20 }, ...values); }
  see(selector, text) {
    return this.until((selector, text) => [...document.querySelectorAll(selector)].at(-1)?.innerText.includes(text), selector, text);
  }
  // A turn's buttons show only under the pointer; where they are is what a click needs.
  async turn_button(turn, label) {
    const element = (await this.page.$$(".turn")).at(turn);
    await element.hover();
    await (await element.waitForSelector(`button[aria-label="${label}"]`, { visible: true })).click();
  }

  async say(text) {
    await this.page.focus(".composer textarea");
    await this.page.keyboard.type(text);
    await this.press("Enter");
  }
  answered() {
    return this.until(() => document.querySelector(".turn.assistant") && !document.querySelector(".turn.live") &&
      document.querySelector(".send").getAttribute("aria-label") === "Send");
  }
  async ask(text) {
    await this.say(text);
    await this.until((text) => [...document.querySelectorAll(".turn.user .body")].at(-1)?.innerText === text, text);
    await this.answered();
  }

  // How far anything reaches beyond the right edge, in pixels.
  overflow() { return this.page.evaluate(() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth, ...[".thread", ".main", ".drawer-body"]
    .map((name) => document.querySelector(name)).filter(Boolean).map((box) => box.scrollWidth - box.clientWidth + innerWidth)) - innerWidth); }

  // What an accessibility checker finds: WCAG 2.2 A and AA, contrast included.
  async barriers() {
    await this.page.evaluate(kAxe());
    return this.page.evaluate(async () => (await axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }))
      .violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 150)} ${node.any[0]?.message ?? ""}`)));
  }
}

// node run.mjs --files DIR          the page of a build (build/release/web) against a server that answers as the tests say
// node run.mjs --url URL            the page of a server that runs
//   [--screenshots DIR]             and pictures of either
// With node's own test options: node --test-name-pattern=... run.mjs ...
import { mkdirSync } from "node:fs";
import { after, before, describe } from "node:test";
import { parseArgs } from "node:util";
import { launch } from "./browser.mjs";
import { answer_cases } from "./answer_cases.mjs";
import { conversation_cases } from "./conversation_cases.mjs";
import { start_mock } from "./mock.mjs";
import { page_cases } from "./page_cases.mjs";
import { part_cases } from "./part_cases.mjs";
import { real_cases } from "./real_cases.mjs";
import { screenshots } from "./screenshots.mjs";

const { values } = parseArgs({ options: { files: { type: "string" }, url: { type: "string" }, screenshots: { type: "string" } } });
if (!values.files === !values.url) {
  console.error("usage: run.mjs (--files DIR | --url URL) [--screenshots DIR]");
  process.exit(2);
}
if (values.screenshots) mkdirSync(values.screenshots, { recursive: true });

describe("chat page", { concurrency: false }, () => {
  const world = { browser: null, mock: null };
  before(async () => {
    world.browser = await launch();
    if (values.files) world.mock = await start_mock(values.files);
  });
  after(async () => {
    await world.browser?.close();
    world.mock?.close();
  });
  if (values.screenshots) {
    screenshots(world, values.screenshots, values.url);
  } else if (values.url) {
    real_cases(world, values.url);
  } else {
    part_cases();
    answer_cases(world);
    conversation_cases(world);
    page_cases(world);
  }
});

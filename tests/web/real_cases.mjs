// The page of a server that runs, whatever its model.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Reader } from "./browser.mjs";

export function real_cases(world, url) {
  const with_reader = (name, steps) => test(name, async () => {
    const reader = await Reader.open(world.browser, url);
    reader.page.setDefaultTimeout(120_000);
    try {
      await steps(reader);
    } finally {
      await reader.close();
    }
  });
  const fill = async (reader, label, text) => {
    await reader.click(".settings-button");
    await reader.page.locator(`::-p-xpath(//div[contains(@class,'row')][label[text()='${label}']]/*[self::input or self::textarea])`).fill(text);
    await reader.press("Escape");
  };

  with_reader("a conversation: answered, counted, kept", async (reader) => {
    await reader.until(() => document.querySelector(".picker").options.length > 0 && document.querySelector(".picker").value);
    await fill(reader, "Max tokens", "24");
    await reader.ask("What is the capital of France?");
    assert.equal(await reader.count(".error"), 0);
    assert.notEqual(await reader.text(".turn.assistant .body"), "");
    assert.match(await reader.text(".turn.assistant .stats"), /\d+ tokens? · [\d.,]+ tok\/s · first token [\d.,]+ s$/);
    await reader.ask("And of Italy?");
    assert.equal(await reader.count(".error"), 0);
    assert.equal(await reader.count(".turn"), 4);
    await reader.page.reload();
    await reader.until(() => document.querySelectorAll(".turn").length === 4);
  });

  with_reader("the same seed, the same answer", async (reader) => {
    await fill(reader, "Max tokens", "16");
    await fill(reader, "Temperature", "1");
    await fill(reader, "Seed", "7");
    await reader.ask("Name a fruit.");
    const first = await reader.text(".turn.assistant .body");
    await reader.turn_button(1, "Regenerate");
    await reader.see(".versions", "2/2");
    await reader.answered();
    assert.equal(await reader.text(".turn.assistant .body"), first);
  });

  with_reader("a long answer is stopped", async (reader) => {
    await fill(reader, "Max tokens", "4096");
    await reader.say("Write a very long story about the sea.");
    await reader.until(() => document.querySelector(".markdown")?.innerText.length > 20);
    await reader.press("Escape");
    await reader.answered();
    assert.match(await reader.text(".turn.assistant .stats"), /^Stopped/);
    assert.equal(await reader.count(".error"), 0);
  });

  with_reader("what the server refuses is shown where it was asked", async (reader) => {
    await fill(reader, "JSON schema", '{"type": "no such type"}');
    await reader.say("Hello");
    await reader.page.waitForSelector(".turn.assistant .error p");
    assert.notEqual(await reader.text(".turn.assistant .error p"), "");
  });
}

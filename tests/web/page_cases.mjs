// The page as a whole: settings, keys, the API's key, sizes, appearance, access, long conversations.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Reader } from "./browser.mjs";
import { gate } from "./mock.mjs";

export function page_cases(world) {
  const with_reader = (name, steps, { answer, options, models, key } = {}) => test(name, async () => {
    const { mock } = world;
    Object.assign(mock, { requests: [], seen: [], key: key ?? "", models: models ?? ["org/first-model", "org/second-model"],
      answer: answer ?? (async (stream) => { await stream.text("Fine."); await stream.end(); }) });
    const reader = await Reader.open(world.browser, mock.url, options);
    try {
      await steps(reader, mock);
    } finally {
      await reader.close();
    }
  });
  const fill = (reader, label, text) => reader.page.locator(`::-p-xpath(//div[contains(@class,'row')][label[text()='${label}']]/*[self::input or self::textarea])`).fill(text);
  const trouble = (reader) => reader.texts(".field-trouble").then((all) => all.filter((text) => text));

  with_reader("settings are sent, and stay with their chat", async (reader, mock) => {
    await reader.click(".settings-button");
    const schema = { type: "object", properties: { city: { type: "string" } } };
    for (const [label, text] of [["System prompt", "Be brief."], ["Temperature", "0.7"], ["Top-p", "0,9"], ["Top-k", "40"], ["Min-p", "0.05"],
      ["Repetition penalty", "1.1"], ["Max tokens", "256"], ["Seed", "42"], ["Stop at", "END\n\\n\\n"], ["JSON schema", JSON.stringify(schema)]]) {
      await fill(reader, label, text);
    }
    assert.deepEqual(await trouble(reader), []);
    await reader.press("Escape");
    await reader.page.waitForSelector(".settings-button.marked");
    await reader.ask("Hello");
    assert.deepEqual(mock.requests[0], {
      model: "default_model", messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Hello" }],
      temperature: 0.7, top_p: 0.9, top_k: 40, min_p: 0.05, repetition_penalty: 1.1, max_tokens: 256, seed: 42, stop: ["END", "\n\n"],
      response_format: { type: "json_schema", json_schema: { name: "answer", schema } }, stream: true, stream_options: { include_usage: true },
    });
    await reader.chord("Control", "k");
    await reader.ask("Other chat");
    assert.deepEqual(Object.keys(mock.requests[1]).sort(), ["messages", "model", "stream", "stream_options"]);
    await reader.click(".chat:last-child .chat-title");
    await reader.click(".settings-button");
    await reader.page.locator("::-p-xpath(//button[text()='Use for new chats'])").click();
    await reader.press("Escape");
    await reader.page.reload();
    await reader.chord("Control", "k");
    await reader.ask("Third chat");
    assert.equal(mock.requests[2].seed, 42);
    await reader.click(".settings-button");
    await reader.page.locator("::-p-xpath(//button[text()='Reset'])").click();
    await reader.press("Escape");
    await reader.ask("Without");
    assert.deepEqual(Object.keys(mock.requests[3]).sort(), ["messages", "model", "stream", "stream_options"]);
  });

  with_reader("a setting that cannot be is marked, and not sent", async (reader, mock) => {
    await reader.click(".settings-button");
    for (const [label, text, message] of [["Temperature", "-1", "expected a number from 0 to 10"], ["Top-p", "1.5", "expected a number from 0 to 1"],
      ["Top-k", "1.5", "expected a whole number from 0 to 1000000"], ["Max tokens", "0", "expected a whole number from 1 to 10000000"],
      ["Seed", "x", "expected a whole number from 0 to 4294967295"], ["JSON schema", "[1]", "expected a JSON object"], ["Tools", "{}", "expected a JSON list"]]) {
      await fill(reader, label, text);
      assert.deepEqual(await trouble(reader), [message], label);
      assert.equal(await reader.count("[aria-invalid]"), 1);
      await fill(reader, label, ({ "JSON schema": "{}", Tools: "[]" })[label] ?? "1");
    }
    await fill(reader, "JSON schema", "{oops");
    await fill(reader, "Tools", "{}");
    assert.equal((await trouble(reader)).length, 2);
    await reader.press("Escape");
    await reader.ask("Hello");
    assert.deepEqual(Object.keys(mock.requests[0]).sort(), ["max_tokens", "messages", "model", "seed", "stream", "stream_options", "temperature", "top_k", "top_p"]);
  });

  with_reader("the model is chosen from the server's list", async (reader, mock) => {
    await reader.until(() => document.querySelectorAll(".picker option").length === 3);
    assert.deepEqual(await reader.page.$$eval(".picker option", (all) => all.map((option) => [option.value, option.textContent])),
      [["default_model", "Default model"], ["org/first-model", "first-model"], ["org/second-model", "second-model"]]);
    await reader.page.select(".picker", "org/second-model");
    await reader.ask("Hello");
    assert.equal(mock.requests[0].model, "org/second-model");
    await reader.page.reload();
    await reader.until(() => document.querySelectorAll(".picker option").length === 3);
    assert.equal(await reader.value(".picker"), "org/second-model");
  });

  with_reader("a server with one model shows it", async (reader, mock) => {
    await reader.until(() => document.querySelector(".picker").value === "org/only");
    await reader.ask("Hello");
    assert.equal(mock.requests[0].model, "org/only");
  }, { models: ["org/only"] });

  with_reader("a server that asks for a key gets it, from this browser alone", async (reader, mock) => {
    await reader.see(".notice .error p", "This server asks for an API key.");
    await reader.type(".notice input", "wrong");
    await reader.press("Enter");
    await reader.until(() => performance.getEntriesByName(new URL("v1/models", location).href).length === 2 && document.querySelector(".notice input").value === "wrong");
    await reader.page.locator(".notice input").fill("s3cret");
    await reader.click(".notice .primary");
    await reader.until(() => !document.querySelector(".notice .error"));
    await reader.ask("Hello");
    assert.equal(await reader.text(".markdown"), "Fine.");
    mock.key = "changed";
    await reader.say("Again");
    await reader.see(".turn.assistant .error p", "Wrong API key");
    await reader.page.locator(".turn.assistant .error input").fill("changed");
    await reader.click(".turn.assistant .error .primary");
    await reader.until(() => document.querySelectorAll(".turn.assistant .markdown").length === 2 && !document.querySelector(".error"));
    await reader.answered();
    assert.ok(mock.seen.every((line) => !/s3cret|changed|wrong/.test(line)));
    assert.ok(!JSON.stringify(mock.requests).includes("changed"));
    await reader.page.reload();
    await reader.until(() => document.querySelectorAll(".picker option").length === 3);
    assert.equal(await reader.count(".error"), 0);
  }, { key: "s3cret" });

  with_reader("a server that is gone is named, and tried again", async (reader, mock) => {
    await reader.page.setOfflineMode(true);
    await reader.say("Hello");
    await reader.see(".turn.assistant .error p", "The server cannot be reached.");
    await reader.page.setOfflineMode(false);
    await reader.click(".turn.assistant .error button");
    await reader.see(".markdown", "Fine.");
    assert.equal(mock.requests.length, 1);
  });

  with_reader("keys do what they say", async (reader, mock) => {
    assert.equal(await reader.page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Message");
    await reader.press("Enter");
    await reader.page.keyboard.type("one");
    await reader.chord("Shift", "Enter");
    await reader.page.keyboard.type("two");
    await reader.press("Enter");
    await reader.answered();
    assert.deepEqual(mock.requests.map((request) => request.messages[0].content), ["one\ntwo"]);
    assert.equal(await reader.text(".turn.user .body"), "one\ntwo");
    await reader.press("ArrowUp");
    assert.equal(await reader.value(".edit-text"), "one\ntwo");
    await reader.page.keyboard.type(" three");
    await reader.press("Enter");
    await reader.see(".turn.user .body", "one\ntwo three");
    await reader.answered();
    await reader.page.focus(".composer textarea");
    await reader.page.keyboard.type("draft");
    await reader.press("ArrowUp");
    assert.equal(await reader.count(".edit-text"), 0);
    await reader.chord("Control", "k");
    assert.equal(await reader.count(".turn"), 0);
    assert.equal(await reader.value(".composer textarea"), "");
    await reader.click(".chat-title");
    assert.equal(await reader.value(".composer textarea"), "draft");
    // What an input method composes with Enter is not sent.
    await reader.page.$eval(".composer textarea", (area) => area.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true })));
    assert.equal(await reader.value(".composer textarea"), "draft");
    assert.equal(mock.requests.length, 2);
  });

  const kWide = `${"W".repeat(300)}\n\n\`\`\`\n${"x ".repeat(300)}\n\`\`\`\n\n|${" column |".repeat(20)}\n|${"--|".repeat(20)}\n|${" value |".repeat(20)}\n\n\`${"c".repeat(200)}\`\n\nhttps://example.com/${"p".repeat(200)}\n`;
  with_reader("nothing is wider than a phone", async (reader) => {
    await reader.page.tap(".composer textarea");
    await reader.page.keyboard.type("L".repeat(200));
    // There Enter is a new line, and the button sends.
    await reader.press("Enter");
    assert.equal(await reader.count(".turn"), 0);
    await reader.page.tap(".send");
    await reader.answered();
    assert.equal(await reader.overflow(), 0);
    assert.deepEqual(await reader.barriers(), []);
    await reader.page.tap('button[aria-label="Show or hide the list"]');
    await reader.page.waitForSelector(".sidebar-open .sidebar", { visible: true });
    await reader.until(() => document.getAnimations().length === 0);
    assert.equal(await reader.overflow(), 0);
    await reader.page.tap(".chat-title");
    await reader.until(() => getComputedStyle(document.querySelector(".sidebar")).visibility === "hidden" && document.getAnimations().length === 0);
    await reader.page.tap(".settings-button");
    await reader.page.waitForSelector(".drawer");
    assert.equal(await reader.overflow(), 0);
  }, { options: { phone: true }, answer: async (stream) => { await stream.text(kWide); await stream.delta({ tool_calls: [{ index: 0, id: "1", function: { name: "n".repeat(200), arguments: `{"a": "${"b".repeat(300)}"}` } }] }); await stream.end(); } });

  for (const dark of [false, true]) {
    with_reader(`nothing stands in the way of those who see or hear otherwise, ${dark ? "dark" : "light"}`, async (reader) => {
      assert.deepEqual(await reader.barriers(), []);
      await reader.ask("Hello");
      await reader.turn_button(1, "Regenerate");
      await reader.see(".versions", "2/2");
      await reader.answered();
      await reader.page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
      assert.deepEqual(await reader.barriers(), []);
      await reader.click(".settings-button");
      await fill(reader, "Seed", "x");
      await reader.until(() => document.getAnimations().length === 0);
      assert.deepEqual(await reader.barriers(), []);
    }, { options: { dark }, answer: async (stream) => {
      await stream.delta({ reasoning: "Hm." });
      await stream.text("# Title\n\nText with `code` and [link](https://example.com).\n\n```python\n# comment\n@decorated\ndef f(x: int) -> str:\n    return f\"{x}\" + str(1)\n\nclass A: pass\n```\n\n```diff\n- a\n+ b\n```\n\n```json\n{\"a\": [1, true, null]}\n```\n\n```html\n<a href=\"x\">y</a>\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\n");
      await stream.delta({ tool_calls: [{ index: 0, id: "1", function: { name: "f", arguments: "{\"a\": 1}" } }] });
      await stream.raw(`data: ${JSON.stringify({ error: { message: "out of memory" } })}\n\n`);
      stream.finish();
    } });
  }

  with_reader("the appearance follows the system until it is chosen", async (reader) => {
    const paper = () => reader.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(await paper(), "rgb(255, 255, 255)");
    await reader.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
    assert.equal(await paper(), "rgb(26, 27, 26)");
    await reader.click(".theme-button");
    assert.equal(await paper(), "rgb(255, 255, 255)");
    await reader.page.reload();
    await reader.page.waitForSelector(".theme-button");
    assert.equal(await paper(), "rgb(255, 255, 255)");
    await reader.click(".theme-button");
    assert.equal(await paper(), "rgb(26, 27, 26)");
    await reader.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
    assert.equal(await paper(), "rgb(26, 27, 26)");
  });

  const parts = [gate(), gate(), gate()];
  const kPart = (i) => `${`Part ${i}: a line of text.\n\n`.repeat(40)}`;
  with_reader("the end stays in sight, unless the reader has left it", async (reader) => {
    await reader.say("Write");
    await reader.see(".markdown", "Part 0");
    const left = () => reader.page.$eval(".thread", (box) => box.scrollHeight - box.scrollTop - box.clientHeight);
    const top = () => reader.page.$eval(".thread", (box) => box.scrollTop);
    await reader.until(() => { const box = document.querySelector(".thread"); return box.scrollTop > 0 && box.scrollHeight - box.scrollTop - box.clientHeight < 2; });
    await (await reader.$(".thread")).hover();
    await reader.page.mouse.wheel({ deltaY: -30 });  // still near the end: the intention counts
    await reader.until(() => { const box = document.querySelector(".thread"); return box.scrollHeight - box.scrollTop - box.clientHeight >= 30; });
    const before = await top();
    parts[0].open();
    await reader.see(".markdown", "Part 1");
    assert.equal(await top(), before);
    await reader.click(".to-end");
    assert.ok(await left() < 2);
    parts[1].open();
    await reader.see(".markdown", "Part 2");
    await reader.answered();
    assert.ok(await left() < 2, `${await left()}`);
  }, { answer: async (stream) => {
    await stream.text(kPart(0));
    await parts[0].promise;
    await stream.text(kPart(1));
    await parts[1].promise;
    await stream.text(kPart(2));
    await stream.end();
  } });

  const steady = gate();
  with_reader("nothing that is read moves while an answer comes in", async (reader) => {
    await reader.page.evaluate(() => {
      window.shifts = [];
      new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.shifts.push(...entry.sources.map(({ node }) => node?.className ?? node?.nodeName)); }).observe({ type: "layout-shift" });
    });
    await reader.say("Write");
    await reader.see(".wait-text", "Reading");
    steady.open();
    await reader.answered();
    // The line below the answer goes down as that grows.
    assert.deepEqual(await reader.page.evaluate(() => window.shifts.filter((name) => name !== "bar")), []);
  }, { answer: async (stream) => {
    await stream.progress(1, 2);
    await steady.promise;
    for (let i = 0; i < 60; i++) {
      await stream.text(i % 10 === 9 ? ".\n\n" : `word${i} `);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await stream.end();
  } });

  const tail = gate();
  with_reader("in a long conversation only the last turn is touched", async (reader) => {
    const turns = [];
    for (let i = 0; i < 400; i++) {
      turns.push({ id: `${i}`, parent: i ? `${i - 1}` : null, role: i % 2 ? "assistant" : "user", content: i % 2 ? `Answer **${i}**\n\n\`\`\`python\nprint(${i})\n\`\`\`\n` : `Question ${i}`, created: i, finish: "stop" });
    }
    await reader.page.$eval(".import-file", (field, text) => {
      const files = new DataTransfer();
      files.items.add(new File([text], "long.json"));
      field.files = files.files;
      field.dispatchEvent(new Event("change"));
    }, JSON.stringify({ format: "mlx_lm.chat", version: 1, conversations: [{ title: "Long", turns }] }));
    await reader.until(() => document.querySelectorAll(".turn").length === 400);
    const box = await reader.page.$eval(".thread", (box) => box.scrollHeight - box.scrollTop - box.clientHeight);
    assert.ok(box < 2, `the end is in sight after all has been drawn: ${box}`);
    assert.equal(await reader.page.$eval(".turn", (turn) => turn.innerText.trim()), "Question 0");
    await reader.say("One more");
    await reader.see(".turn:last-child .markdown", "begun");
    await reader.page.evaluate(() => {
      window.touched = new Set();
      new MutationObserver((list) => { for (const { target } of list) {
        const turn = (target.nodeType === 1 ? target : target.parentElement)?.closest(".turn");
        window.touched.add(turn ? [...document.querySelectorAll(".turn")].indexOf(turn) : (target.className ?? target.nodeName));
      } }).observe(document.querySelector(".thread"), { subtree: true, childList: true, characterData: true, attributes: true });
    });
    tail.open();
    await reader.answered();
    await reader.see(".turn:last-child .markdown", "word99");
    assert.deepEqual(await reader.page.evaluate(() => [...window.touched]), [401]);
  }, { answer: async (stream) => {
    await stream.text("begun ");
    await tail.promise;
    for (let i = 0; i < 100; i++) await stream.text(`word${i} `);
    await stream.end();
  } });
}

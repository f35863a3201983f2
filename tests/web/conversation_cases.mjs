// Conversations: versions, the list, what is kept, files.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Reader } from "./browser.mjs";
import { gate } from "./mock.mjs";

const kCounting = () => {
  let count = 0;
  return async (stream) => { await stream.text(`Answer ${++count}`); await stream.end(); };
};

export function conversation_cases(world) {
  const with_reader = (name, steps, answer = kCounting) => test(name, async () => {
    const { mock } = world;
    Object.assign(mock, { requests: [], seen: [], key: "", models: ["org/first-model", "org/second-model"], answer: answer() });
    const reader = await Reader.open(world.browser, mock.url);
    try {
      await steps(reader, mock);
    } finally {
      await reader.close();
    }
  });
  const shown = (reader) => reader.texts(".turn > .body");
  const asked = (mock, i = -1) => mock.requests.at(i).messages.map((message) => message.content);
  const edit = async (reader, turn, text, button) => {
    await reader.turn_button(turn, "Edit");
    await reader.page.locator(".edit-text").fill(text);
    await reader.page.locator(`::-p-xpath(//div[@class='edit-buttons']/button[text()='${button}'])`).click();
  };
  // Kept: written, so that a reload will find it.
  const kept = (reader, text) => reader.until(async (text) => {
    const db = await new Promise((resolve) => { const open = indexedDB.open("mlx_lm.chat"); open.onsuccess = () => resolve(open.result); });
    const all = await new Promise((resolve) => { const get = db.transaction("conversations").objectStore("conversations").getAll(); get.onsuccess = () => resolve(get.result); });
    db.close();
    return JSON.stringify(all).includes(text);
  }, text);

  with_reader("an answer is regenerated, and the versions switched", async (reader, mock) => {
    await reader.ask("Question");
    await reader.turn_button(1, "Regenerate");
    await reader.see(".turn.assistant .markdown", "Answer 2");
    await reader.answered();
    assert.deepEqual(asked(mock), ["Question"]);
    assert.equal(await reader.text(".versions"), "2/2");
    await reader.turn_button(1, "Previous version");
    assert.deepEqual(await shown(reader), ["Question", "Answer 1"]);
    assert.equal(await reader.text(".versions"), "1/2");
    await reader.ask("More");
    assert.deepEqual(asked(mock), ["Question", "Answer 1", "More"]);
    await reader.turn_button(1, "Next version");
    assert.deepEqual(await shown(reader), ["Question", "Answer 2"]);
    await reader.turn_button(1, "Previous version");
    assert.deepEqual(await shown(reader), ["Question", "Answer 1", "More", "Answer 3"]);
  });

  with_reader("an edited question makes a branch of its own", async (reader, mock) => {
    await reader.ask("First");
    await reader.ask("Second");
    await edit(reader, 0, "First, but better", "Send");
    await reader.see(".turn.assistant .markdown", "Answer 3");
    await reader.answered();
    assert.deepEqual(asked(mock), ["First, but better"]);
    assert.deepEqual(await shown(reader), ["First, but better", "Answer 3"]);
    await reader.turn_button(0, "Previous version");
    assert.deepEqual(await shown(reader), ["First", "Answer 1", "Second", "Answer 2"]);
    // A turn in the middle is regenerated from what came before it.
    await reader.turn_button(1, "Regenerate");
    await reader.see(".turn.assistant .markdown", "Answer 4");
    await reader.answered();
    assert.deepEqual(asked(mock), ["First"]);
    assert.deepEqual(await shown(reader), ["First", "Answer 4"]);
  });

  with_reader("an edited answer is what the model is told it said", async (reader, mock) => {
    await reader.ask("Question");
    await edit(reader, 1, "My answer", "Save");
    assert.deepEqual(await shown(reader), ["Question", "My answer"]);
    assert.equal(mock.requests.length, 1);
    await reader.ask("And?");
    assert.deepEqual(asked(mock), ["Question", "My answer", "And?"]);
    await reader.turn_button(1, "Previous version");
    assert.deepEqual(await shown(reader), ["Question", "Answer 1"]);
  });

  with_reader("an edit is left with Escape", async (reader, mock) => {
    await reader.ask("Question");
    await reader.turn_button(0, "Edit");
    await reader.page.keyboard.type(" nonsense");
    await reader.press("Escape");
    assert.deepEqual(await shown(reader), ["Question", "Answer 1"]);
    assert.equal(mock.requests.length, 1);
    assert.equal(await reader.page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Edit");
  });

  with_reader("a chat goes on in another from any turn", async (reader, mock) => {
    await reader.ask("One");
    await reader.ask("Two");
    await reader.turn_button(1, "Continue in a new chat from here");
    await reader.until(() => document.querySelectorAll(".turn").length === 2);
    assert.deepEqual(await shown(reader), ["One", "Answer 1"]);
    assert.equal(await reader.count(".chat"), 2);
    await reader.ask("Other");
    assert.deepEqual(asked(mock), ["One", "Answer 1", "Other"]);
  });

  with_reader("a reload finds everything, and where the reader was", async (reader) => {
    await reader.ask("First chat");
    await reader.chord("Control", "k");
    await reader.ask("Second chat");
    await reader.turn_button(1, "Regenerate");
    await reader.see(".turn.assistant .markdown", "Answer 3");
    await reader.answered();
    await reader.turn_button(1, "Previous version");
    await kept(reader, "Answer 3");
    await reader.page.reload();
    await reader.see(".turn.assistant .markdown", "Answer 2");
    assert.deepEqual(await reader.texts(".chat-title"), ["Second chat", "First chat"]);
    assert.equal(await reader.text(".versions"), "1/2");
    await reader.click(".chat:last-child .chat-title");
    assert.deepEqual(await shown(reader), ["First chat", "Answer 1"]);
    await reader.page.goBack();
    await reader.see(".turn.user .body", "Second chat");
  });

  const held = gate();
  with_reader("what the page's closing interrupted is kept", async (reader, mock) => {
    await reader.say("Long");
    await reader.see(".markdown", "Beginning");
    await kept(reader, "Beginning");
    await reader.page.reload();
    await reader.see(".turn.assistant .markdown", "Beginning");
    await reader.see(".assistant .stats", "Interrupted when the page closed");
    await mock.last.gone;
    held.open();
  }, () => async (stream) => { await stream.text("Beginning"); await held.promise; });

  const background = gate();
  with_reader("an answer goes on while another chat is shown", async (reader) => {
    await reader.say("Slow");
    await reader.see(".markdown", "Half");
    await reader.chord("Control", "k");
    await reader.until(() => document.querySelectorAll(".turn").length === 0);
    assert.equal(await reader.count(".chat.busy"), 1);
    assert.equal(await reader.page.$eval(".send", (button) => button.getAttribute("aria-label")), "Send");
    background.open();
    await reader.until(() => !document.querySelector(".chat.busy"));
    await reader.click(".chat-title");
    assert.deepEqual(await shown(reader), ["Slow", "Half and half"]);
  }, () => async (stream) => { await stream.text("Half"); await background.promise; await stream.text(" and half"); await stream.end(); });

  const button = async (reader, label) => {
    await (await reader.$(".chat")).hover();
    await reader.click(`.chat button[aria-label="${label}"]`);
  };

  with_reader("a chat is renamed, deleted and brought back", async (reader) => {
    await reader.ask("Old name");
    await button(reader, "Rename");
    await reader.page.keyboard.type("Half a na");
    await reader.press("Escape");
    assert.deepEqual(await reader.texts(".chat-title"), ["Old name"]);
    await button(reader, "Rename");
    await reader.page.keyboard.type("New <b>name</b>");
    await reader.press("Enter");
    assert.deepEqual(await reader.texts(".chat-title"), ["New <b>name</b>"]);
    await kept(reader, "New <b>name</b>");
    await button(reader, "Delete");
    assert.equal(await reader.count(".chat"), 0);
    assert.equal(await reader.count(".turn"), 0);
    await reader.click(".toast .link");
    assert.deepEqual(await reader.texts(".chat-title"), ["New <b>name</b>"]);
    assert.deepEqual(await shown(reader), ["Old name", "Answer 1"]);
    await button(reader, "Delete");
    await reader.page.reload();
    await reader.see(".chats", "Conversations stay in this browser.");
  });

  with_reader("chats are found by what was said in them", async (reader) => {
    for (const text of ["About the sea", "About mountains"]) {
      await reader.ask(text);
      await reader.chord("Control", "k");
    }
    await reader.type(".search input", "MOUNT");
    await reader.until(() => document.querySelectorAll(".chat").length === 1);
    assert.deepEqual(await reader.texts(".chat-title"), ["About mountains"]);
    await reader.page.locator(".search input").fill("answer 1");
    await reader.see(".chat-title", "About the sea");
    await reader.page.locator(".search input").fill("nowhere");
    await reader.see(".chats", "Nothing found");
  });

  with_reader("an export is imported again", async (reader) => {
    const folder = mkdtempSync(join(tmpdir(), "page-"));
    try {
      const session = await reader.page.createCDPSession();
      await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder, browserContextId: reader.context.id });
      await reader.ask("Keep / this?");
      await button(reader, "Export");
      while (!readdirSync(folder).some((name) => name.endsWith(".json"))) await new Promise((resolve) => setTimeout(resolve, 20));
      assert.deepEqual(readdirSync(folder), ["Keep  this.json"]);
      const file = join(folder, "Keep  this.json");
      assert.equal(JSON.parse(readFileSync(file, "utf8")).conversations[0].turns[1].content, "Answer 1");
      await (await reader.$(".import-file")).uploadFile(file);
      await reader.see(".toast", "Imported 1 conversation");
      assert.deepEqual(await reader.texts(".chat-title"), ["Keep / this?", "Keep / this?"]);
      assert.deepEqual(await shown(reader), ["Keep / this?", "Answer 1"]);
      writeFileSync(join(folder, "bad.json"), '{"format": "mlx_lm.chat", "conversations": [{"turns": [{"role": "root"}]}]}');
      await (await reader.$(".import-file")).uploadFile(join(folder, "bad.json"));
      await reader.see(".toast", "bad.json: conversations[0].turns[0].role: expected user, assistant or tool");
      assert.equal(await reader.count(".chat"), 2);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  with_reader("another tab shows what is done in this one", async (reader, mock) => {
    const other = await reader.context.newPage();
    await other.setViewport({ width: 1200, height: 800 });
    await other.goto(mock.url);
    await reader.page.bringToFront();
    await reader.ask("From the first tab");
    await other.bringToFront();
    await other.waitForFunction(() => document.querySelector(".chat-title")?.innerText === "From the first tab");
    await other.click(".chat-title");
    await other.waitForFunction(() => document.querySelector(".markdown")?.innerText === "Answer 1");
  });
}

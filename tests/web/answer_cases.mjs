// Answers as they come in: text, reasoning, calls, progress, failures, stopping.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Reader } from "./browser.mjs";
import { gate } from "./mock.mjs";

export function answer_cases(world) {
  // A reader with a fresh profile, and a server that answers so.
  const with_answer = (name, answer, steps, options) => test(name, async () => {
    const { mock } = world;
    Object.assign(mock, { requests: [], seen: [], key: "", models: ["org/first-model", "org/second-model"], answer });
    const reader = await Reader.open(world.browser, mock.url, options);
    try {
      await steps(reader, mock);
    } finally {
      await reader.close();
    }
  });

  with_answer("a question is sent, streamed, counted and kept", async (stream) => {
    await stream.delta({ role: "assistant", content: "" });
    for (const piece of ["Paris **is", " the** ", "capital."]) await stream.text(piece);
    await stream.end("stop", { prompt_tokens: 1234, completion_tokens: 5, prompt_tokens_details: { cached_tokens: 1000 } });
  }, async (reader, mock) => {
    await reader.ask("What is the capital of France?");
    assert.equal(await reader.text(".turn.assistant .markdown"), "Paris is the capital.");
    assert.equal(await reader.text(".turn.assistant strong"), "is the");
    const stats = await reader.text(".turn.assistant .stats");
    assert.match(stats, /^5 tokens · [\d.,]+ tok\/s · first token [\d.,]+ s$/);
    assert.match(await reader.page.$eval(".assistant .stats", (element) => element.title), /1,234 tokens, 1,000 from the cache/);
    assert.deepEqual(mock.requests, [{ model: "default_model", messages: [{ role: "user", content: "What is the capital of France?" }],
      stream: true, stream_options: { include_usage: true } }]);
    assert.deepEqual(await reader.texts(".chat-title"), ["What is the capital of France?"]);
    assert.equal(await reader.page.title(), "What is the capital of France? · mlx_lm");
    await reader.ask("And of Italy?");
    assert.deepEqual(mock.requests[1].messages.map((message) => message.role), ["user", "assistant", "user"]);
    assert.equal(mock.requests[1].messages[1].content, "Paris **is the** capital.");
  });

  const kHostile = [
    "<script>window.hacked = 1</script>", "<img src=x onerror=\"window.hacked = 1\">", "<svg onload=window.hacked=1>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>", "[a](javascript:window.hacked=1)", "[b](JaVaScRiPt:window.hacked=1)",
    "[c](data:text/html;base64,PHNjcmlwdD5wYXJlbnQuaGFja2VkPTE8L3NjcmlwdD4=)", "[d](vbscript:x)", "![e](https://evil.example/?leak)",
    "![f](/v1/leak)", "[g](/v1/leak)", "<a href='javascript:window.hacked=1'>h</a>", "[i]: javascript:window.hacked=1\n\n[i]", "`<b onmouseover=window.hacked=1>`",
    "<style>body { display: none }</style>", "<form action=/v1/leak><button>j</button></form>", "| <img src=x onerror=window.hacked=1> |\n|---|\n| x |",
    "```html\n<script>window.hacked = 1</script>\n```", "```\"><script>window.hacked=1</script>\nx\n```", "<math><mtext></table><img src=x onerror=window.hacked=1>",
    "<details open ontoggle=window.hacked=1>", "\"onfocus=window.hacked=1 autofocus", "<https://ok.example/\"onclick=window.hacked=1>", "&lt;img src=x onerror=window.hacked=1&gt;",
    "[k](https://ok.example \"x\" onclick=window.hacked=1)", "<div id=thread>", "<base href=https://evil.example/>", "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
  ];
  with_answer("hostile Markdown stays text", async (stream) => {
    // Cut everywhere, so that each half is drawn as well.
    for (const piece of kHostile) {
      await stream.text(piece.slice(0, piece.length / 2));
      await stream.text(`${piece.slice(piece.length / 2)}\n\n`);
    }
    await stream.delta({ reasoning_content: "<img src=x onerror=window.hacked=1>" });
    await stream.delta({ tool_calls: [{ index: 0, id: "<b>", function: { name: "<img src=x onerror=window.hacked=1>", arguments: "{\"a\": \"<img src=x onerror=window.hacked=1>\"}" } }] });
    await stream.end();
  }, async (reader, mock) => {
    await reader.ask("<img src=x onerror=\"window.hacked = 1\">");
    await reader.click(".reasoning summary");
    assert.equal(await reader.page.evaluate(() => window.hacked), undefined);
    const found = await reader.page.$$eval(".turn *", (all) => all.flatMap((element) => [
      ...[...element.attributes].filter(({ name }) => /^(on|style$|srcdoc$|src$|action$|formaction$)/.test(name)).map(({ name }) => `${element.tagName} ${name}`),
      ...(/^(SCRIPT|IMG|IFRAME|OBJECT|EMBED|FORM|STYLE|BASE|META|LINK|MATH)$/i.test(element.tagName) ? [element.tagName] : []),
      ...(element.hasAttribute("href") && !/^https?:\/\//.test(element.getAttribute("href")) ? [element.outerHTML] : []),
    ]));
    assert.deepEqual(found, []);
    assert.match(await reader.text(".markdown"), /<script>window\.hacked = 1<\/script>/);
    const links = await reader.page.$$eval(".markdown a", (all) => all.map((a) => [a.target, a.rel]));
    assert.ok(links.length >= 2);
    for (const link of links) assert.deepEqual(link, ["_blank", "noopener noreferrer"]);
    assert.deepEqual(mock.seen.filter((line) => !/^GET \/(chat\.js|theme\.js|style\.css|icon\.svg|v1\/models)?$/.test(line)), ["POST /v1/chat/completions"]);
  });

  const kText = "Größe: 12 €, 😀 und 日本語.\n\n- eins\n- zwei\n\n```python\nprint('ü')\n```\n";
  with_answer("bytes may be cut anywhere", async (stream) => {
    const event = `: keepalive 3/7\r\n\r\ndata: ${JSON.stringify({ choices: [{ index: 0, delta: { content: kText } }] })}\r\n\r\n`;
    for (const byte of Buffer.from(event)) await stream.raw(Uint8Array.of(byte));
    await stream.end();
  }, async (reader) => {
    await reader.ask("Hello");
    assert.equal(await reader.text(".markdown p"), "Größe: 12 €, 😀 und 日本語.");
    assert.deepEqual(await reader.texts(".markdown li"), ["eins", "zwei"]);
    assert.equal(await reader.text(".markdown .hljs-string"), "'ü'");
  });

  const reading = gate();
  with_answer("the prompt's progress is shown until the answer begins", async (stream) => {
    await stream.progress(512, 2048);
    await reading.promise;
    await stream.text("Read.");
    await stream.end();
  }, async (reader) => {
    await reader.say("Long");
    await reader.see(".wait-text", "Reading the prompt: 512 of 2,048 tokens");
    assert.equal(await reader.page.$eval(".wait progress", (bar) => bar.value), 0.25);
    reading.open();
    await reader.answered();
    assert.equal(await reader.page.$eval(".wait", (element) => element.checkVisibility()), false);
  });

  for (const field of ["reasoning", "reasoning_content"]) {
    const thinking = gate();
    with_answer(`${field} is folded away`, async (stream) => {
      await stream.delta({ [field]: "Let me " });
      await thinking.promise;
      await stream.delta({ [field]: "see." });
      await stream.text("42");
      await stream.end();
    }, async (reader, mock) => {
      await reader.say("Why?");
      await reader.see(".reasoning summary", "Thinking for 0 s");
      assert.equal(await reader.page.$eval(".thoughts", (element) => element.checkVisibility()), false);
      thinking.open();
      await reader.answered();
      assert.match(await reader.text(".reasoning summary"), /^Thought for [\d.,]+ s$/);
      await reader.click(".reasoning summary");
      assert.equal(await reader.text(".thoughts"), "Let me see.");
      assert.equal(await reader.text(".markdown"), "42");
      await reader.ask("And?");
      assert.deepEqual(mock.requests[1].messages[1], { role: "assistant", content: "42" });
    });
  }

  with_answer("calls are shown, and answered by the reader", async (stream) => {
    if (stream.request.messages.at(-1).role === "user") {
      await stream.delta({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "get_weather", arguments: "{\"city\":" } }] });
      await stream.delta({ tool_calls: [{ index: 0, function: { arguments: "\"Oslo\"}" } }] });
      await stream.delta({ tool_calls: [{ index: 1, id: "call_2", type: "function", function: { name: "get_time", arguments: "{}" } }] });
      return stream.end("tool_calls");
    }
    await stream.text("Cold.");
    await stream.end();
  }, async (reader, mock) => {
    await reader.click(".settings-button");
    const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }];
    await reader.page.locator("xpath///label[text()='Tools']/following-sibling::textarea").fill(JSON.stringify(tools));
    await reader.press("Escape");
    await reader.say("Weather?");
    await reader.answered();
    assert.deepEqual(await reader.texts(".call-name"), ["Calls\nget_weather", "Calls\nget_time"]);
    assert.equal((await reader.texts(".call code"))[0], '{\n  "city": "Oslo"\n}');
    assert.equal(await reader.page.$eval(".composer textarea", (area) => area.placeholder), "Result of get_weather");
    await reader.say("{\"celsius\": -3}");
    await reader.until(() => document.querySelector(".composer textarea").placeholder === "Result of get_time");
    assert.equal(mock.requests.length, 1);
    await reader.say("12:00");
    await reader.see(".turn.assistant .markdown", "Cold.");
    assert.deepEqual(mock.requests[1].tools, tools);
    assert.deepEqual(mock.requests[1].messages.slice(1), [
      { role: "assistant", content: "", tool_calls: [
        { id: "call_1", type: "function", function: { name: "get_weather", arguments: "{\"city\":\"Oslo\"}" } },
        { id: "call_2", type: "function", function: { name: "get_time", arguments: "{}" } }] },
      { role: "tool", tool_call_id: "call_1", content: "{\"celsius\": -3}" }, { role: "tool", tool_call_id: "call_2", content: "12:00" }]);
    assert.equal(await reader.page.$eval(".composer textarea", (area) => area.placeholder), "Message");
  });

  let tries = 0;
  with_answer("an error is shown in its place, and the next try replaces it", async (stream) => {
    if (++tries === 1) return stream.fail(503, "The server is busy: expected fewer than 8 requests");
    await stream.text("Now.");
    await stream.end();
  }, async (reader) => {
    await reader.say("Now?");
    await reader.see(".turn.assistant .error p", "The server is busy: expected fewer than 8 requests");
    await reader.click(".turn.assistant .error button");
    await reader.see(".turn.assistant .markdown", "Now.");
    await reader.answered();
    assert.equal(await reader.count(".error"), 0);
    assert.equal(await reader.count(".versions"), 0);
  });

  let broken = 0;
  const shown = gate();
  with_answer("an error in the middle keeps what came", async (stream) => {
    if (++broken > 3) { await stream.text("Whole."); return stream.end(); }
    await stream.text("Half of it");
    if (broken === 1) { await stream.raw(`data: ${JSON.stringify({ error: { message: "out of memory", type: "server_error" } })}\n\n`); stream.finish(); }
    if (broken === 2) { await shown.promise; stream.break(); }
    if (broken === 3) stream.finish();
  }, async (reader) => {
    await reader.say("All?");
    await reader.see(".error p", "out of memory");
    assert.equal(await reader.text(".turn.assistant .markdown"), "Half of it");
    await reader.click(".error button");
    await reader.see(".turn.live .markdown", "Half of it");
    shown.open();
    await reader.see(".error p", "The connection broke before the answer was complete.");
    assert.equal(await reader.text(".turn.assistant .versions"), "2/2");
    await reader.click(".error button");
    await reader.see(".error p", "The connection ended before the answer was complete.");
    await reader.click(".error button");
    await reader.see(".turn.assistant .markdown", "Whole.");
    assert.equal(await reader.text(".turn.assistant .versions"), "4/4");
    assert.equal(await reader.count(".error"), 0);
  });

  with_answer("what is no answer is an error", async (stream) => { await stream.raw("data: {oops\n\n"); stream.finish(); }, async (reader) => {
    await reader.say("Hm?");
    await reader.see(".error p", "The server sent what is no JSON: {oops");
  });

  for (const [way, stop] of [["Esc", (reader) => reader.press("Escape")], ["the button", (reader) => reader.click(".send")]]) {
    with_answer(`${way} stops, and the server hears of it`, async (stream) => {
      await stream.text("One two");
      await stream.gone;
    }, async (reader, mock) => {
      await reader.say("Count");
      await reader.see(".markdown", "One two");
      assert.equal(await reader.page.$eval(".send", (button) => button.getAttribute("aria-label")), "Stop");
      await stop(reader);
      await reader.answered();
      await mock.last.gone;
      assert.ok(mock.last.closed);
      assert.equal(await reader.text(".markdown"), "One two");
      assert.match(await reader.text(".stats"), /^Stopped/);
      assert.equal(await reader.count(".error"), 0);
    });
  }

  with_answer("the token limit is named", async (stream) => { await stream.text("And th"); await stream.end("length"); }, async (reader) => {
    await reader.ask("Story");
    assert.match(await reader.text(".stats"), /^Cut off at the token limit · 34 tokens/);
  });

  const kMarkdown = "# Title\n\nOne [link] and\n\n4. a\n2. b\n\n   ```js\n   let x = 1;\n   ```\n3. c\n\n| n | v |\n|--|--:|\n| a | 1 |\n\n> quote\n\n```cpp\nint x;\n```\n\nSetext\n---\n\n* * *\n\nhttps://example.com/a\n\n[link]: https://example.com/late\n";
  with_answer("a text drawn piece by piece ends as it would at once", async (stream) => {
    if (stream.request.messages.length === 1) {
      for (const letter of kMarkdown) {
        await stream.text(letter);
        await new Promise(setImmediate);
      }
    } else {
      await stream.text(kMarkdown);
    }
    await stream.end();
  }, async (reader) => {
    await reader.ask("Slow");
    await reader.ask("Fast");
    const [slow, fast] = await reader.page.$$eval(".turn.assistant .markdown", (all) => all.map((element) => element.innerHTML));
    assert.equal(slow, fast);
    assert.equal(await reader.text(".markdown h1"), "Title");
    assert.equal(await reader.page.$eval(".markdown ol", (list) => list.start), 4);
    assert.equal(await reader.page.$eval(".markdown p a", (a) => a.href), "https://example.com/late");
    assert.equal(await reader.page.$eval(".markdown td:last-child", (cell) => cell.className), "align-right");
    assert.deepEqual(await reader.texts(".turn:last-child .code-bar span"), ["js", "cpp"]);
  });

  const more = gate();
  with_answer("only the block that grows is drawn again", async (stream) => {
    await stream.text("```python\nprint(1)\n```\n\nFirst paragraph.\n\nSecond one.\n\nThird ");
    await more.promise;
    for (let i = 0; i < 20; i++) await stream.text(`word${i} `);
    await stream.end();
  }, async (reader) => {
    await reader.say("Write");
    await reader.see(".markdown", "Third");
    await reader.page.evaluate(() => {
      window.before = [...document.querySelector(".markdown").children].slice(0, 3);
      window.code = document.querySelector(".markdown code");
    });
    more.open();
    await reader.answered();
    assert.match(await reader.text(".markdown"), /word19$/);
    assert.ok(await reader.page.evaluate(() => window.before.every((element, i) => document.querySelector(".markdown").children[i] === element) && window.code.isConnected));
  });

  with_answer("code is copied as it was written", async (stream) => { await stream.text("```sh\necho \"<hi>\" && ls\n```\n"); await stream.end(); }, async (reader, mock) => {
    await reader.context.overridePermissions(mock.url, ["clipboard-read", "clipboard-write"]);
    await reader.ask("Code");
    await reader.click(".code .copy");
    await reader.page.waitForSelector(".copy.done");
    assert.equal(await reader.page.evaluate(() => navigator.clipboard.readText()), "echo \"<hi>\" && ls\n");
    await reader.turn_button(1, "Copy");
    await reader.page.waitForSelector(".copies.done");
    assert.equal(await reader.page.evaluate(() => navigator.clipboard.readText()), "```sh\necho \"<hi>\" && ls\n```\n");
  });
}

// Pictures of the page: for its documentation with --url, of every state of it with --files.
import { join } from "node:path";
import { test } from "node:test";
import { Reader } from "./browser.mjs";
import { gate } from "./mock.mjs";

const kAnswer = `Reading a file line by line is one loop in C++. \`std::getline\` takes the text up to the next line break and leaves the break out:

\`\`\`cpp
#include <fstream>
#include <iostream>
#include <string>

// Prints each line of a file with its number.
int main(int argc, char** argv) {
  std::ifstream file(argv[1]);
  std::string line;
  for (int i = 1; std::getline(file, line); ++i) {
    std::cout << i << ": " << line << '\\n';
  }
}
\`\`\`

A few things to know:

1. The loop ends at the end of the file **or** at an error; \`file.bad()\` tells which.
2. A last line without a line break is read as well.
3. On Windows' files each line keeps its \`\\r\`.

| Way | Memory | Speed |
| --- | --- | ---: |
| \`getline\` | one line | 1.0× |
| \`mmap\` | the file | 3.2× |

> For files of many gigabytes, map them into memory instead.
`;
const kShort = "Use `std::filesystem::file_size(path)`, which throws `std::filesystem::filesystem_error` when the file is not there.";

async function mock_answer(stream) {
  const question = stream.request.messages.at(-1).content;
  if (question.startsWith("What is 17")) {
    await stream.delta({ reasoning: "17 × 23 is 17 × 20 + 17 × 3.\n340 + 51 = 391." });
    await stream.text("17 × 23 = **391**.");
    return stream.end("stop", { prompt_tokens: 21, completion_tokens: 48 });
  }
  if (question.startsWith("What is the weather")) {
    await stream.delta({ tool_calls: [{ index: 0, id: "call_1", function: { name: "get_weather", arguments: "{\"city\": \"Oslo\", \"unit\": \"celsius\"}" } }] });
    return stream.end("tool_calls", { prompt_tokens: 80, completion_tokens: 22 });
  }
  if (question.startsWith("Break")) return stream.fail(503, "The server is busy: expected at most 32 requests at once, found 33");
  const text = question.startsWith("How do I read") ? kAnswer : kShort;
  for (const word of text.match(/\S+\s*/g)) await stream.text(word);
  await stream.end("stop", { prompt_tokens: 1234, completion_tokens: 268, prompt_tokens_details: { cached_tokens: 1100 } });
}

const kReal = ["What is the capital of France?", "Please write a python function that adds two numbers. Explain it in a list."];
const kMock = ["What is 17 × 23?", "How do I read a file line by line in C++?"];

export function screenshots(world, folder, url) {
  const take = (name, options, steps) => test(name, async () => {
    const { mock } = world;
    if (mock) Object.assign(mock, { key: "", models: ["mlx-community/Qwen3-4B-Instruct-2507-4bit"], answer: mock_answer });
    const reader = await Reader.open(world.browser, url ?? mock.url, options);
    reader.page.setDefaultTimeout(120_000);
    const shoot = async (suffix = "") => {
      await reader.until(() => document.getAnimations().every((animation) => animation.effect.getTiming().iterations === Infinity));
      await reader.page.mouse.move(0, 0);
      await reader.page.screenshot({ path: join(folder, `${name}${suffix}.png`) });
    };
    try {
      await steps(reader, shoot, mock);
    } finally {
      await reader.close();
    }
  });
  const talk = async (reader) => {
    for (const question of url ? kReal : kMock) {
      if (reader.phone) {
        await reader.page.tap(".composer textarea");
        await reader.page.keyboard.type(question);
        await reader.page.tap(".send");
        await reader.until((text) => [...document.querySelectorAll(".turn.user .body")].at(-1)?.innerText === text, question);
        await reader.answered();
      } else {
        await reader.ask(question);
      }
    }
    await reader.page.evaluate(() => document.activeElement.blur());
  };

  for (const [name, options] of [["desktop", {}], ["dark", { dark: true }], ["phone", { phone: true }], ["phone-dark", { phone: true, dark: true }]]) {
    take(name, options, async (reader, shoot) => {
      reader.phone = options.phone;
      await shoot("-empty");
      if (!options.phone && !url) {
        for (const question of ["A name for a boat", "Translate “good morning” into Japanese", "Why is the sky blue, and the sunset red?"]) {
          await reader.ask(question);
          await reader.chord("Control", "k");
        }
      }
      await talk(reader);
      await shoot();
    });
  }
  take("settings", {}, async (reader, shoot) => {
    await talk(reader);
    await reader.click(".settings-button");
    await reader.page.keyboard.type("");
    await shoot();
  });
  if (url) return;

  take("states", { height: 1000 }, async (reader, shoot, mock) => {
    await reader.ask("What is 17 × 23?");
    await reader.turn_button(1, "Regenerate");
    await reader.see(".versions", "2/2");
    await reader.answered();
    await reader.page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
    await reader.ask("What is the weather in Oslo?");
    await reader.say("Break");
    await reader.see(".error", "busy");
    await shoot();
    mock.answer = async (stream) => { await stream.progress(1536, 4096); await stream.gone; };
    await reader.click(".error button");
    await reader.see(".wait-text", "1,536");
    await shoot("-reading");
    await reader.press("Escape");
    await reader.answered();
    mock.answer = async (stream) => { await stream.text(kAnswer.slice(0, 700)); await stream.gone; };
    await reader.say("Write");
    await reader.see(".markdown", "std::getline");
    await shoot("-writing");
    await reader.press("Escape");
    await reader.answered();
    await reader.turn_button(-2, "Edit");
    await shoot("-editing");
  });
  take("phone-list", { phone: true }, async (reader, shoot) => {
    reader.phone = true;
    await talk(reader);
    await reader.page.tap('button[aria-label="Show or hide the list"]');
    await shoot();
  });
  take("phone-settings", { phone: true }, async (reader, shoot) => {
    await reader.page.tap(".settings-button");
    await shoot();
  });
  take("key", {}, async (reader, shoot, mock) => {
    mock.key = "s3cret";
    await reader.page.reload();
    await reader.see(".notice", "API key");
    await reader.say("Hello");
    await reader.see(".turn .error", "Wrong");
    await shoot();
  });
  const waiting = gate();
  take("rest", { width: 900, height: 700 }, async (reader, shoot, mock) => {
    mock.answer = async () => { await waiting.promise; };
    await reader.say("Hello");
    await reader.page.waitForSelector(".wait .dots");
    await shoot("-waiting");
    waiting.open();
    await reader.press("Escape");
    await reader.answered();
    await (await reader.$(".chat")).hover();
    await reader.page.screenshot({ path: join(folder, "rest-hover.png") });
    await reader.click('.chat button[aria-label="Delete"]');
    await shoot("-toast");
  });
}

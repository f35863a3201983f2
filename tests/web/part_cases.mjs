// Parts of the page that need no browser.
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

globalThis.crypto ??= webcrypto;  // Node.js 18 has it only by this name

const web = new URL("../../web/", import.meta.url);

async function part(name) {
  const { build } = createRequire(new URL("package.json", web))("esbuild");
  const built = await build({ entryPoints: [fileURLToPath(new URL(`src/${name}.ts`, web))], bundle: true, format: "esm", write: false,
    banner: { js: "const indexedDB = undefined, BroadcastChannel = undefined;" } });
  return import(`data:text/javascript;base64,${Buffer.from(built.outputFiles[0].contents).toString("base64")}`);
}

export function part_cases() {
  test("events come out the same wherever their bytes are cut", async () => {
    const { SseParser } = await part("api");
    const bytes = Buffer.from(": keepalive 1/2\r\n\r\ndata: {\"a\":\"é€😀\"}\n\ndata:first\ndata:  second\r\n\r\nevent: x\nid: 3\n\ndata: [DONE]\n\n");
    const expected = [{ comment: "keepalive 1/2" }, { data: '{"a":"é€😀"}' }, { data: "first\n second" }, { data: "[DONE]" }];
    for (let first = 0; first <= bytes.length; first++) {
      for (let second = first; second <= bytes.length; second++) {
        const parser = new SseParser();
        const items = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second), undefined].flatMap((piece) => parser.push(piece));
        assert.deepEqual(items, expected, `cut at ${first} and ${second}`);
      }
    }
    const parser = new SseParser();
    assert.deepEqual([...bytes].flatMap((byte) => parser.push(Uint8Array.of(byte))), expected);
  });

  test("half an event is none", async () => {
    const { SseParser } = await part("api");
    const parser = new SseParser();
    assert.deepEqual(parser.push(Buffer.from("data: half\n")), []);
    assert.deepEqual(parser.push(undefined), []);
  });

  test("an export comes back as it was, under new ids", async () => {
    const chats = await part("conversation");
    const c = chats.new_conversation({ system: "Be brief.", stop: ["\n"], schema: "", tools: "", top_k: 5 }, "m");
    const question = chats.append(c, null, "user", "Hello");
    const answer = chats.append(c, question.id, "assistant", "Hi");
    Object.assign(answer, { stats: { prompt: 3, completion: 2, first_ms: 1, decode_ms: 5 }, finish: "stop", reasoning: "hm", tool_calls: [{ id: "1", name: "f", arguments: "{}" }] });
    chats.append(c, question.id, "assistant", "Hello!");
    chats.choose(c, answer);
    const [copy] = chats.imported(chats.exported([c]));
    const plain = (c) => chats.path(c).map(({ id, parent, ...rest }) => rest);
    assert.deepEqual(plain(copy), plain(c));
    assert.deepEqual(copy.settings, c.settings);
    assert.equal(copy.turns.length, 3);
    assert.ok(!copy.turns.some((turn) => c.turns.some((other) => other.id === turn.id)));
    assert.notEqual(copy.id, c.id);
  });

  test("a file that is no export is refused with what is wrong", async () => {
    const { imported, path } = await part("conversation");
    const file = (conversations) => JSON.stringify({ format: "mlx_lm.chat", version: 1, conversations });
    const turn = (fields) => ({ id: "a", parent: null, role: "user", content: "x", ...fields });
    const refused = [
      ["{", /not JSON/], ["[]", /expected an export/], ['{"format":"other","conversations":[]}', /expected an export/],
      [file([null]), /conversations\[0\]\.turns: expected a list/],
      [file([{ turns: [null] }]), /turns\[0\]: expected an object/],
      [file([{ turns: [turn({ role: "system" })] }]), /turns\[0\]\.role/],
      [file([{ turns: [turn({ content: { toString: 1 } })] }]), /turns\[0\]\.content/],
      [file([{ turns: [turn({ parent: "a" })] }]), /turns\[0\]\.parent/],  // its own parent
      [file([{ turns: [turn({ parent: "b" }), turn({ id: "b", parent: "a" })] }]), /turns\[0\]\.parent/],
      [file([{ turns: [turn({}), turn({})] }]), /turns\[1\]\.id/],
    ];
    for (const [text, message] of refused) assert.throws(() => imported(text), message, text);
    const [odd] = imported('{"format":"mlx_lm.chat","conversations":[{"turns":[{"id":"__proto__","parent":null,"role":"user","content":"x","stats":{"prompt":-1,"completion":"9"},"error":7}],"chosen":{"__proto__":"a","":"nothing"},"settings":{"temperature":"hot","top_p":2,"stop":[1,"a"],"__proto__":{"seed":1}},"title":5}]}');
    assert.equal(path(odd).length, 1);
    assert.deepEqual(odd.settings, { system: "", stop: ["a"], schema: "", tools: "" });
    assert.deepEqual(path(odd)[0].stats, {});
    assert.equal(odd.title, "Imported chat");
    assert.equal({}.seed, undefined);
  });

  test("stop texts survive being typed", async () => {
    const { stops_typed, typed_stops } = await part("settings");
    const stops = ["\n\n", "a\\nb", "\t", "\\", "END"];
    assert.deepEqual(stops_typed(typed_stops(stops)), stops);
    assert.deepEqual(stops_typed("\\n\n\nx"), ["\n", "x"]);
  });
}

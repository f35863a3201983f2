#!/usr/bin/env python3
"""Writes tool_calls.json: what mlx-lm's tool parsers make of many texts, well-formed and not.

Needs: pip install mlx-lm mlx-cpu

  dump_tool_calls.py [OUT.json]        default: tool_calls.json beside this script

tool_call_differences.json, written by hand, has the texts that are to be read in another way here: per parser a list of
[text, [[name, arguments, id?], ...] or null for an error, why].

"tools" are those of the request. "formats" has a list of cases per parser: [text, calls], with calls as [name, arguments
as JSON text, id or null], or null where mlx-lm raises an error or makes
what JSON cannot hold (NaN, sets, lone surrogates). Cases of four are differences meant to be: [text, mlx-lm's
calls, ours, why].
"""
import importlib
import json
import math
import pathlib
import random
import sys

DIFFERENCES = json.loads((pathlib.Path(__file__).parent / "tool_call_differences.json").read_text())

PROPERTIES = {
    "city": {"type": "string"}, "count": {"type": "integer"}, "ratio": {"type": "number"}, "on": {"type": "boolean"},
    "items": {"type": "array"}, "options": {"type": "object"}, "maybe": {"type": ["integer", "null"]},
    "either": {"anyOf": [{"type": "number"}, {"type": "string"}]}, "level": {"enum": [1, 2, "high"]},
    "nothing": {"type": "null"}, "free": {"description": "any"}, "wide": {"type": "uint8"}, "kind": {"type": "STR"},
    "dict": {"type": "dict[str, int]"}, "any": {"type": "any"}, "one": {"oneOf": [{"type": "boolean"}, {"type": "null"}]},
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": PROPERTIES}}},
    {"type": "function", "function": {"name": "no_arguments", "parameters": {"type": "object", "properties": {}}}},
]
NAMES = ["get_weather", "get_weather", "get_weather", "no_arguments", "unknown_tool"]
KEYS = list(PROPERTIES) + ["extra", "k2"]
# What a model may write for a value where the format has no quotes.
RAW = ["5", "-3", "007", "1_000", "3.14", "1e3", "2.0", ".5", "1.", "-0.25", "1E-7", "12345678901234567890", "0", "00", "+5",
       "0x1F", "0b11", "true", "false", "True", "FALSE", "yes", "off", "null", "NULL", "None", "nil", "{}", "[]", "[1, 2]",
       '{"a": [1, null, true], "b": {"c": "d"}}', "{'a': 1, 'b': [True, None]}", "(1, 2)", "()", "1, 2", "[1,]", "[1 2]",
       "'quoted'", '"json"', "hello world", "line\nline", "é€😀", "\\n", "a=1", "--5", "1+2", '"\\u00e9\\ud83d\\ude00"',
       "'a' 'b'", "r'\\d'", "'''x\ny'''", "[[[[]]]]", "5 # five", "it's", '"', "{", "[1, 2", "x" * 40, "<b>bold</b>", "日本語",
       '{"a": 1, "a": 2}', "{1: 'one', None: 2}", '[{"a": "}"}, "]"]', "a, b", "1e400x", "-", "\u00a0padded\u00a0", "tab\there",
       '{"line": "a\nb"}', "'\\x41\\u00e9\\101\\q'", "Infinite", "nullable"]
TEXTS = ["", "Paris", "New York", "é€😀", 'say "hi"', "it's", "a\nb", "tab\there", "back\\slash", "{brace}", "a, b: c", "[x]", "5",
         "true", "null", "<b>x</b>", "日本語", "x" * 30, " padded ", "call:f{", "=", "#no", "a)]b"]
SCALARS = [0, 1, -7, 3.5, 1e-7, 1e22, 12345678901234567890, True, False, None]


def value(rng, depth=0):
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(TEXTS)
    if kind < 0.75 or depth > 2:
        return rng.choice(SCALARS)
    if kind < 0.88:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {rng.choice(KEYS): value(rng, depth + 1) for _ in range(rng.randint(0, 3))}


def arguments(rng):
    return {key: value(rng) for key in rng.sample(KEYS, rng.randint(0, 4))}


def raw_arguments(rng):
    return {key: rng.choice(RAW) for key in rng.sample(KEYS, rng.randint(0, 5))}


def as_json(rng, v):
    return json.dumps(v, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 1]))


def json_call(rng):
    return {"name": rng.choice(NAMES), "arguments": arguments(rng)}


def gemma_value(v, quote):
    if isinstance(v, str):
        return quote + v + quote
    if isinstance(v, dict):
        return "{" + ",".join(f"{k}:{gemma_value(x, quote)}" for k, x in v.items()) + "}"
    if isinstance(v, list):
        return "[" + ",".join(gemma_value(x, quote) for x in v) + "]"
    return json.dumps(v)


def python_value(rng, v):
    if isinstance(v, str):
        return repr(v) if rng.random() < 0.7 else json.dumps(v, ensure_ascii=False)
    if isinstance(v, (dict, list)) and rng.random() < 0.5:
        return json.dumps(v, ensure_ascii=False)
    return repr(v)


def several(rng, write, between):
    return rng.choice(between).join(write(rng) for _ in range(rng.choice([1, 1, 1, 2, 3])))


def space(rng):
    return rng.choice(["", "", "\n", " ", "\n\n", "\t"])


def minimax_m2(rng):
    def call(rng):
        q = rng.choice(['"', '"', "'", ""])
        body = "".join(f"{space(rng)}<parameter name={q}{k}{q}>{space(rng)}{v}{space(rng)}</parameter>"
                       for k, v in raw_arguments(rng).items())
        return f"<invoke name={q}{rng.choice(NAMES)}{q}>{body}{space(rng)}</invoke>"
    return space(rng) + several(rng, call, ["", "\n", "text"]) + space(rng)


def gemma4(rng):
    return several(rng, lambda r: f"call:{r.choice(NAMES)}{gemma_value(arguments(r), chr(60) + '|' + chr(34) + '|>')}",
                   ["", "\n", ", "])


def function_gemma(rng):
    flat = {k: v for k, v in arguments(rng).items()
            if not isinstance(v, (list, dict)) and not (isinstance(v, str) and "}" in v)}
    for key in flat:  # a text without its marks
        if rng.random() < 0.2:
            flat[key] = rng.choice(["bare words", "é", "a-b", "x y"])
            return f"call:{rng.choice(NAMES)}{{{key}:{flat[key]}}}"
    return f"{space(rng)}call:{rng.choice(NAMES)}{gemma_value(flat, '<escape>')}{space(rng)}"


GAPS = ["", "\n", "\\n", " "]


def pairs(rng, tag):
    body = "".join(f"{space(rng)}<{tag}arg_key>{space(rng)}{k}{space(rng)}</{tag}arg_key>{rng.choice(GAPS)}"
                   f"<{tag}arg_value>{space(rng)}{v}</{tag}arg_value>" for k, v in raw_arguments(rng).items())
    return f"{space(rng)}{rng.choice(NAMES)}{space(rng)}{body}{space(rng)}"


def longcat(rng):
    if rng.random() < 0.3:
        return space(rng) + as_json(rng, json_call(rng)) + space(rng)
    text = pairs(rng, "longcat_")
    return text if "<longcat" in text else longcat(rng)


def glm47(rng):
    way = rng.random()
    name = rng.choice(NAMES)
    given = {k: v for k, v in arguments(rng).items() if k != "city" or isinstance(v, str)}
    if way < 0.5:
        return pairs(rng, "")
    if way < 0.7:
        shape = rng.randrange(5)
        call = [{"name": name, "arguments": given}, {"function": name, "arguments": given},
                {"tool": {"name": name, "arguments": given}}, [{"name": name, "arguments": json.dumps(given)}],
                {"name": {"name": name, "arguments": given}, "arguments": None}][shape]
        return as_json(rng, call)
    if way < 0.85:
        words = " ".join(f"{k}={rng.choice(['5', 'x', 'true', chr(39) + 'a b' + chr(39), chr(34) + 'c d' + chr(34), '', 'a=b'])}"
                         for k in rng.sample(KEYS, rng.randint(0, 3)))
        return f"{space(rng)}{name} {words}"
    return name + rng.choice(["\n", " ", "\n\n"]) + rng.choice([as_json(rng, given), repr(given), rng.choice(RAW), "free text, really"])


def pythonic(rng):
    def call(rng):
        name = rng.choice(NAMES + ["math.add", "a.b.c"])
        gap = rng.choice(["", " ", "\n"])
        return f"{name}({gap}{(',' + gap).join(f'{k}={python_value(rng, v)}' for k, v in arguments(rng).items())})"
    if rng.random() < 0.2:  # no Python, but the shape of it
        return f"[{rng.choice(NAMES)}(city={rng.choice(['New York', chr(34) + 'Paris' + chr(34), 'é x'])}, count={rng.choice(['5', '3x', 'True'])})]"
    return space(rng) + "[" + several(rng, call, [", ", ",", ",\n"]) + rng.choice(["", "", ","]) + "]" + space(rng)


def qwen3_coder(rng):
    def bare(key, v):
        # Numbers that are none are errors, and take the other arguments with them: only now and then.
        number = PROPERTIES.get(key, {}).get("type") in ("integer", "number", "uint8")
        return rng.choice(["5", "-3", "2.0", "1e3", " 7 ", "null", "3.25"]) if number and rng.random() < 0.9 else v
    body = "".join(f"<parameter={k}>{rng.choice([chr(10), chr(10), ''])}{bare(k, v)}{rng.choice([chr(10), chr(10), ''])}</parameter>{space(rng)}"
                   for k, v in raw_arguments(rng).items() if v != "12345678901234567890")
    return f"{space(rng)}<function={rng.choice(NAMES)}>{space(rng)}{body}</function>{rng.choice(['', chr(10)])}"


def kimi_k2(rng):
    def call(rng):
        given = as_json(rng, arguments(rng)) if rng.random() < 0.8 else repr(arguments(rng))
        prefix = rng.choice(["functions.", "functions.", ""])
        return f"{space(rng)}{prefix}{rng.choice(NAMES)}:{rng.randint(0, 12)}{space(rng)}<|tool_call_argument_begin|>{space(rng)}{given}{space(rng)}"
    if rng.random() < 0.3:
        return call(rng)
    return several(rng, lambda r: f"<|tool_call_begin|>{call(r)}<|tool_call_end|>", ["", "\n"])


def mistral(rng):
    if rng.random() < 0.4:
        calls = [json_call(rng) for _ in range(rng.randint(1, 3))]
        for call in calls:
            if rng.random() < 0.3:
                call["id"] = "abc123XYZ"
            if rng.random() < 0.2:
                call["arguments"] = json.dumps(call["arguments"])
        return as_json(rng, calls)
    return several(rng, lambda r: f"{space(r)}{r.choice(NAMES + ['a-b'])}{space(r)}[ARGS]{space(r)}{as_json(r, arguments(r))}",
                   ["", "[TOOL_CALLS]", "\n"])


def json_tools(rng):
    call = json_call(rng) if rng.random() < 0.8 else [json_call(rng) for _ in range(rng.randint(1, 3))]
    return space(rng) + as_json(rng, call) + space(rng)


def minicpm5(rng):
    def call(rng):
        q = rng.choice(['"', '"', "'"])
        body = "".join(f"<param name={q}{k}{q}>{rng.choice(['{}', '<![CDATA[{}]]>'])}</param>{space(rng)}".replace("{}", v, 1)
                       for k, v in raw_arguments(rng).items())
        return f"{q}{rng.choice(NAMES)}{q}>{space(rng)}{body}"
    return several(rng, call, ["</function><function name=", "</function>\n<function name="])


def muse_spark(rng):
    def call(rng):
        body = "".join(f"{space(rng)}<atem:parameter name=\"{k}\">{v}</atem:parameter>" for k, v in raw_arguments(rng).items())
        return f"<atem:invoke name=\"{rng.choice(NAMES)}\">{body}{space(rng)}</atem:invoke>"
    return space(rng) + several(rng, call, ["", "\n"]) + space(rng)


def kimi_k3(rng):
    def tag(kind, attributes, body):
        return f"<|open|>{kind}{attributes}<|sep|>{body}<|close|>{kind}<|sep|>"

    def call(rng):
        given = arguments(rng)
        if rng.random() < 0.3:
            body = tag("json", ' type="object"', as_json(rng, given))
        else:
            body = "".join(tag("argument", f' key="{k}" type="{"string" if isinstance(v, str) else rng.choice(["number", "object"])}"',
                               v if isinstance(v, str) else as_json(rng, v)) + space(rng) for k, v in given.items())
        return tag("call", f' tool="{rng.choice(NAMES + ["a&quot;b"])}" index="1"', body)
    return space(rng) + several(rng, call, ["", "\n"])


WRITERS = {f.__name__: f for f in (minimax_m2, gemma4, function_gemma, longcat, glm47, pythonic, qwen3_coder, kimi_k2, mistral,
                                   json_tools, minicpm5, muse_spark, kimi_k3)}
EXTRA = {
    "minimax_m2": [
        '<invoke name="get_weather"><parameter name="ratio">nan</parameter></invoke>',
        '<invoke name="get_weather"><parameter name="count">inf</parameter></invoke>',
    ],
    "gemma4": [
        'call:f{<|"|>k<|"|>:1}',
        'call:f{a:NaN}',
        'call:f{a:1e999}',
    ],
    "longcat": [
        'two words',
    ],
    "glm47": [
        '{"name":"get_weather","arguments":{"city":5}}',
    ],
    "pythonic": [
        '[f(a=NaN)]',
        '[f(a=g(1))]',
        '[f(None=1)]',
    ],
    "qwen3_coder": [
        '<function=get_weather><parameter=ratio>inf</parameter></function>',
        '<function=get_weather><parameter=ratio>nan</parameter></function>',
        '<function=get_weather><parameter=count>1e999</parameter></function>',
        '<function=>\n</function>',
    ],
    "kimi_k2": [
        'f:0<|tool_call_argument_begin|>{"a": NaN}',
        'f:1x:2<|tool_call_argument_begin|>{}',
    ],
    "mistral": [
        'f[ARGS]{"a": NaN}',
        '[{"name":"f"}]',
        '[{"name":"f","arguments":"[1]"}]',
        'f[ARGS]{} trailing g[ARGS]{}',
        'f[ARGS]{"a": 1e999}',
    ],
    "json_tools": [
        '{"name":"f"}',
        '{"name":"f","arguments":{},"extra":1}',
        '{"name":"f","arguments":{"a":NaN}}',
        '{"name":"f","arguments":{"a":1e999}}',
        '{"name":"f","arguments":{}}{"name":"g","arguments":{}}',
    ],
    "minicpm5": [
        'get_weather><param name=count>5</param>',
        '"f">',
    ],
    "muse_spark": [
        '<atem:invoke name="f"><atem:parameter name="a" string="true">5</atem:parameter>',
        '<atem:invoke id="1" name="f"></atem:invoke>',
        '<atem:invoke name="f">',
    ],
    "kimi_k3": [
        '<|open|>call<|sep|><|close|>call<|sep|><|open|>call tool="f"<|sep|><|close|>call<|sep|>',
        '<|open|>call tool="f"<|sep|><|open|>json<|sep|>[1]<|close|>json<|sep|><|close|>call<|sep|>',
    ],
}
BROKEN = ["", " ", "\n", "hello", "{", "}", "[]", "{}", "null", "5", '"text"', "[5]", '{"name": 5, "arguments": {}}']


def json_value(v):
    """Whether JSON in UTF-8 can hold it."""
    if isinstance(v, str):
        return not any("\ud800" <= c <= "\udfff" for c in v)
    if isinstance(v, float):
        return math.isfinite(v)
    if isinstance(v, (list, tuple)):
        return all(map(json_value, v))
    if isinstance(v, dict):
        return all(k is None or isinstance(k, (str, int, bool)) for k in v) and all(map(json_value, v.values()))
    return v is None or isinstance(v, (int, bool))


def parsed(parser, text):
    """[[name, arguments, id], ...], or None for an error. Those that the server does not expect count, too."""
    try:
        calls = parser.parse_tool_call(text, TOOLS)
        calls = calls if isinstance(calls, list) else [calls]
        result = [[c["name"], json.dumps(c["arguments"], ensure_ascii=False), c.get("id")] for c in calls]
        return result if all(json_value(c["arguments"]) for c in calls) else None
    except Exception:
        return None


def mutated(rng, text):
    way = rng.randrange(3)
    at = rng.randrange(len(text) + 1)
    if way == 0:
        return text[:at]  # cut off
    if way == 1:
        return text[:at] + text[at + rng.randint(1, 3):]
    return text[:at] + rng.choice(["\n", "x", "é", " "]) + text[at:]


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "tool_calls.json"
    lines = []
    for name, write in WRITERS.items():
        parser = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
        rng = random.Random(name)
        different = {text: (here, why) for text, here, why in DIFFERENCES.get(name, [])}
        texts = [text for text in BROKEN if text not in different]
        texts += EXTRA.get(name, [])
        texts += [write(rng) for _ in range(70)]
        texts += [mutated(rng, write(rng)) for _ in range(60)]
        cases = [[text, parsed(parser, text)] for text in dict.fromkeys(texts) if text not in different]
        for text, (here, why) in different.items():
            theirs = parsed(parser, text)
            ours = here and [[c[0], json.dumps(c[1], ensure_ascii=False), c[2] if len(c) > 2 else None] for c in here]
            assert theirs != ours, f"{name}: no difference: {text}"
            cases.append([text, theirs, ours, why])
        dumped = ",\n".join(json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in cases)
        lines.append(f'"{name}":[\n{dumped}]')
        print(f"{name}: {len(cases)} cases, {sum(c[1] is None for c in cases)} of them errors, {len(different)} differences")
    tools = json.dumps(TOOLS, separators=(",", ":"))
    out.write_text(f'{{"tools":{tools},\n"formats":{{\n' + ",\n".join(lines) + "\n}}\n")
    print(out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes schemas.jsonl: 200 JSON schemas, one a line, for tests of structured output. Always the same ones.

  make_schemas.py > schemas.jsonl
"""
import json
import random

WORDS = ["name", "id", "price", "größe", "名前", "a b", "x/y", "k\"q", "ключ", "emoji 😀", "items", "type", "$ref",
         "const", "e"]
PATTERNS = ["^[A-Z]{2}[0-9]{3}$", "^[a-z]+(-[a-z]+)*$", "^\\d{4}-\\d{2}$", "[0-9]", "^(foo|bar)?$", "^#[0-9a-f]{6}$",
            "^\\w{1,8}$", "^[äöü]{1,3}$", "^a.c$", "^$"]
FORMATS = ["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]


def leaf(r):
    kind = r.randrange(13)
    if kind == 0:
        return {"type": "string"}
    if kind == 1:
        low = r.randrange(4)
        return {"type": "string", "minLength": low, "maxLength": low + r.randrange(6)}
    if kind == 2:
        return {"type": "string", "pattern": r.choice(PATTERNS)}
    if kind == 3:
        return {"type": "string", "format": r.choice(FORMATS)}
    if kind == 4:
        low = r.randrange(-1000, 1000)
        return {"type": "integer", "minimum": low, "maximum": low + r.randrange(2000)}
    if kind == 5:
        low = r.randrange(-50, 50)
        return {"type": "integer", "exclusiveMinimum": low, "multipleOf": r.choice([1, 2, 5, 10])}
    if kind == 6:
        low = round(r.uniform(-10, 10), 2)
        return {"type": "number", "minimum": low, "maximum": round(low + r.uniform(0.1, 20), 3)}
    if kind == 7:
        return {"type": "number", "exclusiveMaximum": r.randrange(-5, 5)}
    if kind == 8:
        values = ["red", "grün", "a\"b\\c", "", "日本", 1, -2.5, True, False, None, [1, "x"], {"k": [None]}]
        return {"enum": r.sample(values, r.randrange(1, 6))}
    if kind == 9:
        return {"const": r.choice([3, "x\ny", None, 0.25, [], {"a": {"b": []}}, "😀"])}
    if kind == 10:
        return {"type": r.choice(["boolean", "null", "integer", "number"])}
    if kind == 11:
        return {"type": r.sample(["string", "integer", "null", "boolean"], 2)}
    return {"type": "number", "multipleOf": r.choice([0.5, 0.25, 3])}


def schema(r, depth, names):
    if depth == 0 or r.random() < 0.15:
        return {"$ref": "#/$defs/" + r.choice(names)} if names and r.random() < 0.2 else leaf(r)
    kind = r.randrange(8)
    inner = lambda: schema(r, depth - 1, names)  # noqa: E731
    if kind <= 3:
        keys = r.sample(WORDS, r.randrange(0, 5))
        out = {"type": "object", "properties": {key: inner() for key in keys}}
        if keys:
            out["required"] = r.sample(keys, r.randrange(len(keys) + 1))
        extra = r.randrange(4)
        if extra == 0:
            out["additionalProperties"] = False
        elif extra == 1:
            out["additionalProperties"] = leaf(r)
        elif extra == 2 and not keys:
            out["patternProperties"] = {"^x_": leaf(r)}
            out["additionalProperties"] = False
        return out
    if kind == 4:
        low = r.randrange(3)
        out = {"type": "array", "items": inner(), "minItems": low}
        if r.random() < 0.6:
            out["maxItems"] = low + r.randrange(4)
        return out
    if kind == 5:
        return {"type": "array", "prefixItems": [inner() for _ in range(r.randrange(1, 4))], "items": False,
                "minItems": 1}
    if kind == 6:
        return {"anyOf": [inner() for _ in range(r.randrange(2, 4))]}
    return {"allOf": [{"type": "object", "properties": {"left": inner()}, "required": ["left"]},
                      {"type": "object", "properties": {"right": inner()}}]}


def recursive(r, i):
    value = leaf(r)
    node = {"type": "object", "properties": {"value": value}, "required": ["value"], "additionalProperties": False}
    kind = i % 3
    if kind == 0:
        node["properties"]["next"] = {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
        node["required"].append("next")
    elif kind == 1:
        node["properties"]["children"] = {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 3}
    else:
        node["properties"]["left"] = {"$ref": "#/$defs/node"}
        node["properties"]["right"] = {"$ref": "#/$defs/other~1leaf"}
    return {"$defs": {"node": node, "other/leaf": leaf(r)}, "$ref": "#/$defs/node"}


def main():
    r = random.Random(20)
    for i in range(200):
        if i % 8 == 7:
            out = recursive(r, i // 8)
        else:
            names = ["d0", "d1"] if i % 4 == 2 else []
            out = schema(r, 1 + i % 3, names)
            if names:
                out["$defs"] = {"d0": leaf(r), "d1": schema(r, 1, ["d0"])}
        print(json.dumps(out, ensure_ascii=i % 2 == 0))


if __name__ == "__main__":
    main()

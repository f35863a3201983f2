#!/usr/bin/env python3
"""Writes utf8.json: what Python makes of bytes that are not UTF-8.

  dump_utf8.py [OUT.json]        default: utf8.json beside this script

Each entry: "bytes" in hexadecimal, "replaced": decode("utf-8", "replace"), and "invalid": the offset of the first bad
byte as a strict decoder reports it, or null.
"""
import itertools
import json
import pathlib
import random
import sys

# Where the ranges of leading and following bytes begin and end.
EDGES = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
         0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]


def entry(data):
    try:
        data.decode("utf-8")
        invalid = None
    except UnicodeDecodeError as error:
        invalid = error.start
    return {"bytes": data.hex(), "replaced": data.decode("utf-8", "replace"), "invalid": invalid}


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "utf8.json"
    rng = random.Random(0)
    cases = [bytes(pair) for pair in itertools.product(EDGES, repeat=2)]
    cases += [bytes(rng.choice(EDGES) for _ in range(rng.randint(3, 9))) for _ in range(500)]
    cases += [rng.randbytes(rng.randint(0, 12)) for _ in range(100)]
    whole = "a\u00e9\u20ac\u0800\ud7ff\ue000\uffff\U00010000\U0001f600\U0010ffff"
    for _ in range(200):  # good text with one byte changed, lost or cut off
        data = bytearray("".join(rng.choice(whole) for _ in range(rng.randint(1, 5))).encode())
        at = rng.randrange(len(data))
        data = rng.choice([data, data[:at], data[:at] + data[at + 1:], data[:at] + rng.randbytes(1) + data[at + 1:]])
        cases.append(bytes(data))
    lines = [json.dumps(entry(case), separators=(",", ":")) for case in cases]
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(len(cases), "texts,", out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

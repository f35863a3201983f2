#!/usr/bin/env python3
"""Writes detokenizer.json: how mlx-lm's streaming detokenizer cuts token ids into pieces of text.

Needs: pip install mlx-lm mlx-cpu

  dump_detokenizer.py MODEL_FOLDER [OUT.json]        default: detokenizer.json beside this script

MODEL_FOLDER holds SmolLM2's tokenizer (byte-level BPE). "tokens": [id, piece] of each token that occurs. Each of
"texts": the text, its ids, "segments": what last_segment gives after each id and, as one more, after finalize();
"decoded": what the tokenizer makes of all the ids at once.
"""
import json
import pathlib
import sys

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, load

TEXTS = [
    "Hello, world!",
    " leading space",
    "   three leading spaces, and  two  inside ",
    "\n\nnew lines\nand\ttabs\r\n\n  indented",
    "emoji: 😀👍🏽 👨‍👩‍👧‍👦 🇫🇷 ❤️ end",
    "🍅",
    "你好，世界。日本語のテキスト 한국어",
    "e\u0301a\u0308o\u0302 combining; Z\u0351\u036b\u0343algo",
    "Ünïcödé naïve café — “quotes” … ½ ² €",
    "def f(x):\n    if x > 0:\n        return {'a': [1, 2.5, None]}\n\n# done\n",
    "<p class=\"x\">1 &lt; 2</p>\\n \\u00e9 $x_i^2$ ~/.bashrc",
    "العربية עברית हिन्दी ไทย ελληνικά русский",
    "12345 67,890.12 3.14e-10 0xFF",
    "𝕳𝖊𝖑𝖑𝖔 𓀀 \U0001f9d1\u200d\U0001f680",
    "don't can't I'll we've",
    " ",
    "\u00a0nbsp\u3000ideographic\u200bzero",
]
# Ids that no text gives: a character cut off at the end, special tokens in the middle.
CUTS = [("😀 cut", 2), ("漢", 1)]


def stream(detokenizer, ids):
    detokenizer.reset()
    segments = []
    for token in ids:
        detokenizer.add_token(token)
        segments.append(detokenizer.last_segment)
    detokenizer.finalize()
    return segments + [detokenizer.last_segment]


def main():
    folder = pathlib.Path(sys.argv[1])
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(__file__).parent / "detokenizer.json"
    tokenizer = load(folder)
    detokenizer = tokenizer.detokenizer
    assert isinstance(detokenizer, BPEStreamingDetokenizer)
    cases = [(t, tokenizer.encode(t)) for t in TEXTS]
    cases += [(t, tokenizer.encode(t)[:n]) for t, n in CUTS]
    cases.append(("<|im_start|>assistant\nHi there<|im_end|>", tokenizer.encode("<|im_start|>assistant\nHi there<|im_end|>")))
    entries = [{"text": t, "ids": ids, "segments": stream(detokenizer, ids), "decoded": tokenizer.decode(ids)}
               for t, ids in cases]
    used = sorted({i for e in entries for i in e["ids"]})
    compact = lambda v: json.dumps(v, separators=(",", ":"))
    tokens = compact(list(zip(used, tokenizer.convert_ids_to_tokens(used))))
    out.write_text('{"tokens": ' + tokens + ',\n"texts": [\n' + ",\n".join(map(compact, entries)) + "\n]}\n")


if __name__ == "__main__":
    main()

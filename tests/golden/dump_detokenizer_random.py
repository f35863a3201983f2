#!/usr/bin/env python3
"""Writes detokenizer_random.json: how mlx-lm's detokenizers cut random token ids, broken characters among them.

Needs: pip install mlx-lm mlx-cpu

  dump_detokenizer_random.py [OUT.json]        default: detokenizer_random.json beside this script

Each entry: "tokens" of a tiny vocabulary by id, the "decoder" of its tokenizer.json, and "texts": [ids, segments], the
segments being what last_segment gives after each id and, as one more, after finalize().
"""
import json
import pathlib
import random
import sys

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, SPMStreamingDetokenizer, _byte_decoder

from dump_detokenizer import stream

BYTES = "é€😀a".encode()  # of characters of each length
LETTER = {byte: letter for letter, byte in _byte_decoder().items()}
BYTE_LEVEL = [LETTER[b] for b in BYTES] + ["Ġ", "Ġa", "ĠĠ", "b", "Ċ", LETTER[0xBF], LETTER[0xFF], LETTER[0xE2] + LETTER[0x82],
                                          "x" + LETTER[0xC3]]
PIECES = [f"<0x{b:02X}>" for b in BYTES] + ["▁", "▁a", "▁▁", "b", "é", "日本", "<0x0A>", "<0xBF>", "<0xFF>", "a▁b", "<s>"]
SENTENCEPIECE = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                  {"type": "ByteFallback"}, {"type": "Fuse"}]}
STRIPPING = {"type": "Sequence", "decoders": SENTENCEPIECE["decoders"] + [
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}


class Vocabulary:
    """As much of a tokenizer as these detokenizers ask for."""

    def __init__(self, tokens):
        self.tokens = tokens

    def __len__(self):
        return len(self.tokens)

    def convert_ids_to_tokens(self, ids):
        return [self.tokens[i] for i in ids]


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "detokenizer_random.json"
    assert all(len(set(tokens)) == len(tokens) for tokens in (BYTE_LEVEL, PIECES))  # a vocabulary has each once
    rng = random.Random(3)
    lines = []
    for tokens, decoder, detokenizer in [
        (BYTE_LEVEL, {"type": "ByteLevel"}, BPEStreamingDetokenizer(Vocabulary(BYTE_LEVEL))),
        (PIECES, SENTENCEPIECE, SPMStreamingDetokenizer(Vocabulary(PIECES), trim_space=False)),
        (PIECES, STRIPPING, SPMStreamingDetokenizer(Vocabulary(PIECES))),
    ]:
        texts = []
        while len(texts) < 150:
            ids = [rng.randrange(len(tokens)) for _ in range(rng.randint(1, 10))]
            if rng.random() < 0.5:  # whole characters more often
                at = rng.randrange(9)
                ids += range(at, rng.randint(at, 10))
            texts.append([ids, stream(detokenizer, ids)])
        entry = {"tokens": tokens, "decoder": decoder, "texts": texts}
        lines.append(json.dumps(entry, separators=(",", ":"), ensure_ascii=False))
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

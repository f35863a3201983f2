#!/usr/bin/env python3
"""What SentencePiece and Python mlx-lm make of Gemma 3 270M (a GGUF file): the reference of gemma3_test.cpp.

Needs: pip install mlx-lm mlx-cpu gguf sentencepiece

  gemma3.py MODEL.gguf MODEL_FOLDER OUT.json [--tokens 24] [--drafts DRAFTS.json]

--drafts: {prompt: text}, what another program made of the prompts. Its tokens are checked in one call, and only from the
first that is not mlx-lm's own choice on it goes token by token: the result is the same, much sooner.
MODEL_FOLDER: the same weights in float32 as a Hugging Face folder (config.json, model.safetensors). The tokenizer is
SentencePiece itself with a model of the file's tokens, scores and types. Of each text only a hash of its ids is stored:
32-bit FNV-1a over the ids as little-endian 32-bit numbers.
"""
import argparse
import json
import pathlib
import random
import struct

import gguf
import mlx.core as mx
import mlx_lm
import sentencepiece
from mlx_lm.utils import load_model
from sentencepiece import sentencepiece_model_pb2 as proto

PROMPTS = [
    "The capital of France is", "def fibonacci(n):\n    ", "La capital de España es", "水是",
    "Q: What is the largest planet?\nA:", "import numpy as np\n\n",
]
PIECES = [
    " ", "  ", "   ", "\n", "\n\n", "\t", "\t\t", "\r\n", " \n ", "\u00a0", "\u3000", "\u200b", "\u2581", "\u2581\u2581", "a", "the", "Hello",
    "hello", "WORLD", "don't", "I'm", "naïve", "e\u0301", "a\u0308\u0304", "\u0301", "n\u0303", "क्षि", "ก็", "한국어", "한", "日本語", "漢字", "你好", "，", "。",
    "العربية", "עִבְרִית", "Привет", "Ελληνικά", "🙂", "👩‍👩‍👧", "🇫🇷", "👍🏽", "❤️", "\u200d", "\ufe0f", "\ufffd", "\ufeff", "\U0001d54f", "\U000e0041",
    "\u0001", "\u001f", "\u007f", "\u0085", "0", "7", "42", "2024", "3.14159", "1,000,000", "٣", "Ⅷ", "½", "x²", "{", "}", "();", "==", "!=", "->", "::",
    "//", "/*", "*/", "#include <x>", "for (int i = 0; i < n; ++i)", "return", "_", "__init__", "$", "€", "%", "&amp;", "<", ">", "<b>", "</s>",
    "<s>", "[INST]", "\"", "'", "“", "”", "…", "—", "-", "--", "---", "~", "^", "`", "```", "\\", "|", "@", "#", "*", "**", ".", "..", ",", ";", ":",
    "?", "!", "https://a.b/c?d=e", "foo_bar", "camelCase", "supercalifragilistic", "ÆØÅ", "ß", "ﬁ", "İ", "ǅ", "\u1e9e", "ꙮ", "𒀀", "\u2028", "ﷺ",
]


def tokenizer(path):
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields[key].contents()
    model = proto.ModelProto()
    for token, score, kind in zip(field("tokenizer.ggml.tokens"), field("tokenizer.ggml.scores"),
                                  field("tokenizer.ggml.token_type")):
        # llama.cpp's converter writes the marks of spaces in user-defined pieces as spaces.
        user_defined = kind == proto.ModelProto.SentencePiece.USER_DEFINED
        model.pieces.add(piece=token.replace(" ", "\u2581") if user_defined else token, score=score, type=kind)
    spec = model.trainer_spec
    spec.model_type, spec.byte_fallback, spec.vocab_size = proto.TrainerSpec.BPE, True, len(model.pieces)
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = 3, 2, 1, 0
    spec.unk_piece, spec.bos_piece, spec.eos_piece, spec.pad_piece = "<unk>", "<bos>", "<eos>", "<pad>"
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def texts():
    rng = random.Random(270)
    alone = [""] + PIECES
    joined = ["".join(rng.choice(PIECES) for _ in range(rng.randint(2, 9))) for _ in range(1300)]
    spaces = ["".join(rng.choice(" \n\t\u2581a1") for _ in range(rng.randint(2, 40))) for _ in range(300)]
    points = ["".join(chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x250, 0xd800), rng.randrange(0xe000, 0x30000)]))
                      for _ in range(rng.randint(1, 12))) for _ in range(300)]
    return alone + joined + spaces + points


def fnv(ids):
    hash = 2166136261
    for byte in b"".join(struct.pack("<I", i) for i in ids):
        hash = (hash ^ byte) * 16777619 % 2**32
    return hash


def greedy(model, prompt, draft, n):
    """-> ids, how far the runner-up's logit was behind, runners-up"""
    ids, gaps, seconds = [], [], []
    while len(ids) < n:
        logits = model(mx.array([prompt + ids + draft]))[0, len(prompt) + len(ids) - 1:]
        best = mx.argpartition(logits, -2, axis=-1)[:, -2:].tolist()
        best = [sorted(pair, key=row.__getitem__) for pair, row in zip(best, logits.tolist())]
        for row, (second, first) in enumerate(best):
            ids.append(first), seconds.append(second)
            gaps.append(round((logits[row, first] - logits[row, second]).item(), 5))
            if row == len(draft) or draft[row] != first or len(ids) == n:
                break
        draft = []
    return ids, gaps, seconds


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("gguf"), ap.add_argument("folder"), ap.add_argument("out")
    ap.add_argument("--tokens", type=int, default=24), ap.add_argument("--drafts", type=pathlib.Path)
    args = ap.parse_args()
    pieces, cases = tokenizer(args.gguf), []
    drafts = json.loads(args.drafts.read_text()) if args.drafts else {}
    hashes = [[text, fnv(pieces.encode(text))] for text in texts()]
    model, _ = load_model(pathlib.Path(args.folder))
    for prompt in PROMPTS:
        ids = [pieces.bos_id()] + pieces.encode(prompt)
        ids, gaps, seconds = greedy(model, ids, pieces.encode(drafts.get(prompt, ""))[:args.tokens - 1], args.tokens)
        case = {"prompt": prompt, "prompt_ids": [pieces.bos_id()] + pieces.encode(prompt), "ids": ids, "gaps": gaps,
                "second_ids": seconds}
        case["text"] = pieces.decode(case["ids"])
        cases.append(case)
        print(f"{len(cases)}/{len(PROMPTS)} {case['text']!r}", flush=True)
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    versions = {"mlx": mx.__version__, "mlx_lm": mlx_lm.__version__, "sentencepiece": sentencepiece.__version__}
    with open(args.out, "w") as f:
        f.write('{"versions": ' + dump(versions) + ', "cases": [\n' + ",\n".join(map(dump, cases)))
        f.write('\n], "tokens": [\n' + ",\n".join(map(dump, hashes)) + "\n]}\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes perplexity.json: what Python mlx-lm's perplexity makes of tiny random models and of records.

Needs: pip install mlx-lm mlx-cpu numpy

  dump_perplexity.py [OUT.json]        default: perplexity.json beside this script

"models": each entry names a golden case (dump.py tells how its weights are drawn; all arithmetic is in float32), gives
sequences of tokens and a batch size, and the perplexity with its standard error. "permutations": numpy's, by seed.
"data": records, how each is encoded (its characters' codes, and 257 after a text), and the sequences that are made of them.
"""
import json
import pathlib
import random
import sys
from unittest import mock

import numpy as np
from dump import config_of, load, make_weights
import mlx.core as mx
from mlx_lm import perplexity

CHOSEN = {"llama_basic": (5, 24, 2), "llama_q4_f16": (3, 40, 8), "llama_sliding": (4, 30, 3), "qwen3_untied": (2, 2, 1)}
RECORDS = [f"record {i}: " + "x" * (3 * i % 11) for i in range(9)]


class Tokenizer:
    eos_token_id = 257

    def encode(self, text):
        return list(text.encode())


def models():
    for case, (count, length, batch_size) in CHOSEN.items():
        rng = random.Random(case + " perplexity")
        config = config_of(case)
        sequences = [[rng.randrange(config["vocab_size"]) for _ in range(length)] for _ in range(count)]
        exact = make_weights(config)[1]
        model = load({k: v for k, v in config.items() if k != "quantization"}, exact)
        ppl, error = perplexity.eval_ppl(model, mx.array(sequences), batch_size=batch_size)
        yield {"case": case, "batch_size": batch_size, "sequences": sequences, "perplexity": ppl, "standard_error": error}


def permutation(n, seed):
    np.random.seed(seed)
    return np.random.permutation(n).tolist()


def data(length, samples, seed):
    from mlx_lm.tuner.datasets import TextDataset

    np.random.seed(seed)
    dataset = TextDataset([{"text": text} for text in RECORDS], Tokenizer())
    with mock.patch.object(perplexity, "load_dataset", lambda args, tokenizer: (dataset, None, None)):
        sequences = perplexity.load_data(Tokenizer(), "", samples, length)
    return {"sequence_length": length, "num_samples": samples, "seed": seed, "sequences": sequences.tolist()}


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("perplexity.json"))
    compact = lambda rows: "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "]"
    permutations = [{"n": n, "seed": s, "order": permutation(n, s)} for n, s in ((1, 0), (2, 1), (7, 123), (300, 4294967295))]
    parts = {"models": compact(models()), "permutations": compact(permutations), "records": json.dumps(RECORDS),
             "data": compact([data(10, 3, 123), data(16, 4, 5), data(7, 1, 0)])}
    out.write_text("{\n" + ",\n".join(f'"{key}": {text}' for key, text in parts.items()) + "\n}\n")


if __name__ == "__main__":
    main()

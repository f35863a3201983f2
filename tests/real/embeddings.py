#!/usr/bin/env python3
"""What Python mlx-lm's hidden states of SmolLM2 are, pooled: the reference of the server's embeddings.

Needs: pip install mlx-lm mlx-cpu

  embeddings.py MODEL_FOLDER OUT.json

MODEL_FOLDER: the default model as a Hugging Face folder (tools/gguf_to_hf.py makes one of a GGUF). Computed in float32.
For each text: its tokens, and the mean, the last and the largest of the last layer's normed states, each brought to
length 1 and rounded to whole 1e-5.
"""
import argparse
import json

import mlx.core as mx
import mlx_lm
from mlx.utils import tree_map

TEXTS = [
    "Hello",
    "The cat sat on the mat.",
    "¿Dónde está la biblioteca? 図書館はどこですか",
    # More than one piece of the server's.
    " ".join(f"The square of {i} is {i * i}." for i in range(24)),
]


def unit(vector):
    return [round(x * 1e5) for x in (vector / mx.linalg.norm(vector)).tolist()]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model"), ap.add_argument("out")
    args = ap.parse_args()
    model, tokenizer = mlx_lm.load(args.model)
    model.update(tree_map(lambda x: x.astype(mx.float32), model.parameters()))
    cases = []
    for text in TEXTS:
        tokens = tokenizer.encode(text)
        states = model.model(mx.array([tokens]))[0]
        cases.append({"text": text, "tokens": tokens, "mean": unit(states.mean(0)), "last": unit(states[-1]),
                      "max": unit(states.max(0))})
    versions = {"mlx": mx.__version__, "mlx_lm": mlx_lm.__version__}
    with open(args.out, "w") as f:
        f.write(json.dumps({"versions": versions})[:-1] + ', "cases": [\n')
        f.write(",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases) + "\n]}\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""How far the logits of a program are from the true ones: Kullback-Leibler divergence over a text, token by token.

Needs: pip install mlx-lm mlx-cpu numpy

  kl.py reference MODEL_FOLDER OUT.npy [--text text.txt] [--float32] [--first N]
      logits (tokens, vocabulary) of Python mlx-lm for the text as one sequence, in float32 arithmetic, or in the
      folder's own. A few hundred megabytes. --first: only so many tokens.
  kl.py compare REFERENCE.npy LOGITS [LOGITS ...] [--text text.txt]
      LOGITS: .npy, or .safetensors with `logits` and, if there, `tokens`, which must be the text's. A shorter one is
      compared with the reference's beginning. Prints, per file: mean, median, 99th percentile and largest divergence
      of the reference's distribution from the file's (in nats), how often both have the same likeliest token, and
      both perplexities.

Beside text.txt stands text_ids.json, its token ids by SmolLM2's tokenizer; `reference` checks them.
"""
import argparse
import json
import pathlib

import mlx.core as mx
import numpy as np

CHUNK = 256


def text_ids(text):
    return json.loads(text.with_name(text.stem + "_ids.json").read_text())


def reference(args):
    import mlx_lm
    from mlx_lm.models.cache import make_prompt_cache

    model, tokenizer = mlx_lm.load(args.model)
    ids = tokenizer.encode(args.text.read_text())
    assert ids == text_ids(args.text), "text_ids.json is not what this tokenizer makes of the text"
    if args.float32:
        model.set_dtype(mx.float32)
    ids, cache, parts = ids[:args.first], make_prompt_cache(model), []
    for start in range(0, len(ids), CHUNK):
        parts.append(np.array(model(mx.array([ids[start:start + CHUNK]]), cache=cache)[0].astype(mx.float32)))
        print(f"{start + len(parts[-1])}/{len(ids)}", flush=True)
    np.save(args.out, np.concatenate(parts))


def read(path, ids):
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r")
    tensors = mx.load(str(path))
    if "tokens" in tensors:
        tokens = tensors["tokens"].reshape(-1).tolist()
        assert tokens == ids[:len(tokens)], f"{path}: made from other tokens than the text's"
    logits = np.array(tensors["logits"].astype(mx.float32))
    return logits.reshape(-1, logits.shape[-1])


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def compare(args):
    ids, true = text_ids(args.text), np.load(args.reference, mmap_mode="r")
    for path in args.logits:
        found, kl, same, nll = read(path, ids), [], [], []
        assert found.shape[1] == true.shape[1] and len(found) <= len(true), f"{path}: {found.shape} for {true.shape}"
        for start in range(0, len(found), CHUNK):
            p, q = log_softmax(true[start:start + CHUNK][:len(found) - start]), log_softmax(found[start:start + CHUNK])
            kl.append((np.exp(p) * (p - q)).sum(-1))
            same.append(p.argmax(-1) == q.argmax(-1))
            following = np.array(ids[start + 1:start + 1 + len(p)])
            rows = np.arange(min(len(following), len(p)))
            nll.append(np.stack([-p[rows, following[rows]], -q[rows, following[rows]]]))
        kl, same, nll = np.concatenate(kl), np.concatenate(same), np.concatenate(nll, 1)
        ppl = np.exp(nll.mean(1))
        print(f"{path.name}: {len(kl)} tokens, KL mean {kl.mean():.3e} median {np.median(kl):.3e} "
              f"99% {np.quantile(kl, 0.99):.3e} max {kl.max():.3e}, same top token {same.mean():.2%}, "
              f"perplexity {ppl[0]:.4f} -> {ppl[1]:.4f}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--text", type=pathlib.Path, default=pathlib.Path(__file__).parent / "text.txt")
    modes = ap.add_subparsers(required=True)
    ref = modes.add_parser("reference", parents=[common])
    ref.add_argument("model"), ref.add_argument("out", type=pathlib.Path)
    ref.add_argument("--float32", action="store_true"), ref.add_argument("--first", type=int)
    ref.set_defaults(run=reference)
    cmp = modes.add_parser("compare", parents=[common])
    cmp.add_argument("reference", type=pathlib.Path), cmp.add_argument("logits", type=pathlib.Path, nargs="+")
    cmp.set_defaults(run=compare)
    args = ap.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()

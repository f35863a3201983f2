#!/usr/bin/env python3
"""What Python mlx-lm answers, greedily, to a list of prompts: the reference of the real-model test.

Needs: pip install mlx-lm mlx-cpu

  greedy.py MODEL_FOLDER OUT.json [--tokens 40]

Each prompt goes through the chat template as `mlx_lm.generate` does it. For every step the file holds the token, the gap
between the two largest logits and the runner-up: where the gap is below the noise of another arithmetic, a program
that takes the runner-up is no less right.
"""
import argparse
import json

import mlx.core as mx
import mlx_lm
from mlx_lm.generate import generate_step

PROMPTS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain why the sky is blue to a child.",
    "Translate 'good morning' into Spanish, Italian and German.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "List three benefits of regular exercise.",
    "What is 17 + 25?",
    "Who wrote 'Pride and Prejudice', and when?",
    "Summarize: The cat sat on the mat. The dog barked, and the cat ran away up a tree.",
    "Continue the story: Once upon a time, in a village by a river, there lived an old clockmaker who",
    "Give me a recipe for pancakes.",
    "¿Cuál es la capital de España?",
    "什么是人工智能?",
    "Fix the bug:\n```c\nint sum(int *a, int n) {\n    int s;\n    for (int i = 0; i <= n; i++) s += a[i];\n    return s;\n}\n```",
    "Is a tomato a fruit or a vegetable? Answer in one sentence. 🍅",
    "Hello",
]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model"), ap.add_argument("out"), ap.add_argument("--tokens", type=int, default=40)
    args = ap.parse_args()
    model, tokenizer = mlx_lm.load(args.model)
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)
        case = {"prompt": prompt, "prompt_ids": ids, "ids": [], "gaps": [], "second_ids": []}
        for token, logprobs in generate_step(mx.array(ids), model, max_tokens=args.tokens):
            second, first = mx.argsort(logprobs)[-2:].tolist()
            case["ids"].append(token)
            case["gaps"].append(round((logprobs[first] - logprobs[second]).astype(mx.float32).item(), 4))
            case["second_ids"].append(second if first == token else first)
            if token in tokenizer.eos_token_ids:
                break
        case["text"] = tokenizer.decode(case["ids"])
        cases.append(case)
        print(f"{len(cases)}/{len(PROMPTS)} {case['text']!r}", flush=True)
    versions = {"mlx": mx.__version__, "mlx_lm": mlx_lm.__version__}
    with open(args.out, "w") as f:
        f.write(json.dumps({"versions": versions, "dtype": "float16"})[:-1] + ', "cases": [\n')
        f.write(",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases) + "\n]}\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes text_states.json: how mlx-lm's TextStateMachine cuts texts into segments by random markers.

Needs: pip install mlx-lm mlx-cpu

  dump_text_states.py [OUT.json]        default: text_states.json beside this script

Each entry: "edges" (per state a list of [marker, state], -1 for the end), the state to begin with, and "texts": [text,
segments, flushed], the segments [state, text] being what split() gives for the whole text at once, and flushed what flush()
adds.
"""
import json
import pathlib
import random
import sys

from mlx_lm.generate import TextStateMachine

MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|channel>thought", "<channel|>", "[TOOL_CALLS]", "stop", "\n\n",
           "END", "é", "éé", "日本", "😀"]


def marker(rng, letters):
    return rng.choice(MARKERS) if rng.random() < 0.3 else "".join(rng.choice(letters) for _ in range(rng.randint(0, 5)))


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "text_states.json"
    rng = random.Random(11)
    lines = []
    for _ in range(150):
        letters = rng.choice(["ab", "abc", "a<é", "éè€😀"])
        states = rng.randint(1, 3)
        edges = [[[marker(rng, letters), rng.choice([*range(states), *range(states), -1] if rng.random() < 0.3 else range(states))]
                  for _ in range(rng.randint(0, 5))] for _ in range(states)]
        machine = TextStateMachine({s: [(m, None if to < 0 else to) for m, to in e] for s, e in enumerate(edges)})
        initial = rng.randrange(states)
        texts = []
        for _ in range(8):
            known = [m for e in edges for m, _ in e] + [*letters]
            text = ""
            for _ in range(rng.randint(0, 12)):
                part = rng.choice(known + MARKERS[:3])
                text += part[: rng.randint(0, len(part))] if rng.random() < 0.4 else part
            state, segments = TextStateMachine.split(machine.make_state(initial), text)
            flushed = TextStateMachine.flush(state)[1] if state[0] is not None else ""  # behind the end nothing counts
            texts.append([text, [[-1 if s is None else s, t] for s, t in segments], flushed])
        entry = {"edges": edges, "initial": initial, "texts": texts}
        lines.append(json.dumps(entry, separators=(",", ":"), ensure_ascii=False))
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

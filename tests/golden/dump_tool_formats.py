#!/usr/bin/env python3
"""Writes tool_formats.json: the tool parser and the thinking markers that mlx-lm infers from templates and vocabularies.

Needs: pip install mlx-lm mlx-cpu

  dump_tool_formats.py [OUT.json]        default: tool_formats.json beside this script

"templates": [text, name of the parser or null]. "vocabularies": [tokens, parser, [think start, think end] or null].
"markers": per parser its [start, end].
"""
import importlib
import json
import pathlib
import pkgutil
import random
import sys

import mlx_lm.tool_parsers
from mlx_lm.tokenizer_utils import _infer_thinking, _infer_tool_parser

SIGNS = ["<minimax:tool_call>", "<|tool_call>", "<tool_call|>", "<start_function_call>", "<longcat_tool_call>", "<arg_key>",
         "<|tool_list_start|>", "<|tool_call_start|>", "<tool_call>\\n<function=", "<tool_call>\n<function=",
         "<|tool_calls_section_begin|>", '<function name="', '<param name="', "[TOOL_CALLS]", "<atem:function_calls>", "<tool_call>",
         "tool_call.name", "tool_call", "<function="]
TOKENS = ["<think>", "</think>", "<longcat_think>", "</longcat_think>", "<|think:start|>", "<|think:end|>", "<|channel>",
          "<channel|>", "<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>", "<|tool_call_start|>", "<|tool_call_end|>"]


class Tokenizer:
    """As much of one as the inference asks for."""

    def __init__(self, template, tokens):
        self.chat_template = template
        self.tokens = tokens

    def get_vocab(self):
        return {token: i for i, token in enumerate(self.tokens)}

    def encode(self, text, add_special_tokens):
        return []


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "tool_formats.json"
    rng = random.Random(1)
    templates = [""] + SIGNS + ["..".join(rng.sample(SIGNS, rng.randint(2, 4))) for _ in range(150)]
    vocabularies = [[t for t in TOKENS if rng.random() < 0.7] for _ in range(60)]
    vocabularies += [TOKENS[at : at + n] for n in (1, 2, 4) for at in range(0, len(TOKENS), 2)]
    result = {
        "templates": [[t, _infer_tool_parser(Tokenizer(t, []))] for t in templates],
        "vocabularies": [[v, _infer_tool_parser(Tokenizer(None, v)), _infer_thinking(Tokenizer(None, v))[:2]]
                         for v in vocabularies],
        "markers": {},
    }
    for entry in result["vocabularies"]:
        entry[2] = entry[2] if entry[2][0] else None
    for module in pkgutil.iter_modules(mlx_lm.tool_parsers.__path__):
        parser = importlib.import_module(f"mlx_lm.tool_parsers.{module.name}")
        result["markers"][module.name] = [parser.tool_call_start, parser.tool_call_end]
    out.write_text(json.dumps(result, separators=(",", ":")) + "\n")
    print(out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

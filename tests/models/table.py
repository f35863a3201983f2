#!/usr/bin/env python3
"""Prints the table of docs/models/README.md: each model type with its golden cases and how near they come.

  table.py [TEST_PROGRAM]        default: build/release/tests/test_models

Runs the cases by our kernels with float32 activations. A difference is the largest of any logit, over the largest logit.
"""
import collections
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
CASES = ROOT / "tests/golden/cases"


def lines_by_type():
    """{model_type: (file, lines)}"""
    found = {}
    for path in sorted((ROOT / "mlx_lm/models").glob("*.cpp")):
        text = path.read_text()
        call = re.search(r"^MLX_LM_ARCHITECTURE\w*\((.*?)\);", text, re.S | re.M)
        for name in re.findall(r'"([^"]+)"', call[1]) if call else []:
            found[name] = (path.name, text.count("\n"))
    return found


def differences(program):
    """{case: the largest difference of logits}, {case: whether it passed}"""
    run = subprocess.run([program, "--gtest_filter=*logits_and_greedy_text*_exact"], capture_output=True, text=True)
    worst, passed, case = {}, {}, None
    for line in run.stdout.splitlines():
        if match := re.match(r"\[ RUN +\] .*/(\w+)_exact$", line):
            case = match[1]
        elif match := re.match(r"difference of logits: at most ([\d.e+-]+),", line):
            worst[case] = float(match[1])
        elif match := re.match(r"\[ +(OK|FAILED) +\] .*/(\w+)_exact", line):
            passed[match[2]] = match[1] == "OK"
    return worst, passed


def main():
    worst, passed = differences(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/tests/test_models")
    by_type = collections.defaultdict(list)
    for path in sorted(CASES.glob("*/expected.json")):
        case = path.parent.name
        largest = max(abs(x) for x in json.loads(path.read_text())["exact"]["last"])
        by_type[json.loads((path.parent / "config.json").read_text())["model_type"]].append((case, worst[case] / largest))
    print("| type | cases | largest difference | greedy text | file | lines |\n| --- | --- | --- | --- | --- | --- |")
    for name, (file, lines) in sorted(lines_by_type().items()):
        cases = by_type[name]
        same = all(passed[case] for case, _ in cases)
        print(f"| {name} | {len(cases)} | {max((d for _, d in cases), default=float('nan')):.1e} | "
              f"{'the same' if same else 'DIFFERS'} | {file} | {lines} |")
    print(f"\n{len(by_type)} types, {sum(len(c) for c in by_type.values())} cases, "
          f"{sum(p.stat().st_size for p in CASES.rglob('*') if p.is_file()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

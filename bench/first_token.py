#!/usr/bin/env python3
"""Time from the start of a program to the first byte of its answer, in seconds.

  first_token.py [--runs 10] COMMAND ...      the first line that it prints (mlx_lm's rule) is not the answer
"""
import argparse
import statistics
import subprocess
import time


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--runs", type=int, default=10)
    ap.add_argument("command", nargs=argparse.REMAINDER)
    args = ap.parse_args()
    times = []
    for _ in range(args.runs):
        start = time.perf_counter()
        with subprocess.Popen(args.command, stdout=subprocess.PIPE, bufsize=0) as program:
            while program.stdout.read(1) not in (b"\n", b""):
                pass
            program.stdout.read(1)
            times.append(time.perf_counter() - start)
            program.stdout.read()
    print(f"first token after {min(times):.3f} s at best, {statistics.median(times):.3f} s in the middle of {args.runs}")


if __name__ == "__main__":
    main()

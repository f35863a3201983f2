#!/usr/bin/env python3
"""Checks that a folder of mlx_lm/ includes only its own files and those of lower rank.

  check_ranks.py [ROOT]        default: the folder above this script's
"""
import pathlib
import re
import sys

RANKS = {"base": 0, "kernels": 1, "hub": 1, "text": 2, "ops": 2, "cache": 3, "sample": 3, "nn": 4, "models": 5, "load": 6,
         "generate": 7, "serve": 8, "cli": 9}
WITHOUT_MLX = {"base", "kernels", "hub", "text"}
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"(mlx_lm/([a-z_]+)/[^"]+)"|<(mlx/[^>]+)>)')


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent) / "mlx_lm"
    wrong = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if folder.name not in RANKS:
            wrong.append(f"{folder}: a folder without a rank; give it one in {__file__} and in CMakeLists.txt")
            continue
        for file in sorted(folder.glob("*.[ch]*")):
            if folder.name == "models" and file.suffix == ".h" and file.name != "architecture.h":
                wrong.append(f"{file}: models/ has one header, architecture.h; a shared part belongs into nn/")
            for number, line in enumerate(file.read_text().splitlines(), 1):
                found = INCLUDE.match(line)
                if not found:
                    continue
                path, target, mlx = found.groups()
                if mlx and folder.name in WITHOUT_MLX:
                    wrong.append(f"{file}:{number}: {folder.name}/ does not know MLX, includes {mlx}")
                if target and target != folder.name and RANKS.get(target, 99) >= RANKS[folder.name]:
                    wrong.append(f"{file}:{number}: {folder.name}/ has rank {RANKS[folder.name]}, includes {path} of rank "
                                 f"{RANKS.get(target, 'none')}")
    print("\n".join(wrong) if wrong else "ranks: in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

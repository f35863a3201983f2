# make generate PROMPT="..."   installs what is missing, builds, answers
# make test                    the same, then runs every test
# make check                   formatting and the ranks of the folders
PROMPT ?= What is the capital of France?
JOBS   ?= $(shell nproc)

SOURCES := $(shell find mlx_lm tests examples bench -name '*.h' -o -name '*.cpp')

.PHONY: generate test check setup build
generate: build
	@build/release/bin/mlx_lm generate --prompt "$(PROMPT)"

test: build
	@cd build/release && ctest --output-on-failure -j $(JOBS)

check: setup
	@clang-format --dry-run -Werror $(SOURCES)
	@cd rust && cargo fmt --check
	@python3 cmake/check_ranks.py

build: setup
	@[ -e build/release/build.ninja ] || cmake --preset release
	@cmake --build --preset release -j $(JOBS)

setup:
	@scripts/setup.sh

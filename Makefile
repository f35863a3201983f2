# make generate PROMPT="..."   installs what is missing, builds the program, answers
# make test                    the same for everything, then runs every test
# make test-arm64              the CPU kernels for arm64, cross-compiled and run by an emulator
# make check                   formatting and the ranks of the folders
PROMPT ?= What is the capital of France?
JOBS   ?= $(shell nproc)

SOURCES = $(shell find mlx_lm tests examples bench -name '*.h' -o -name '*.cpp')

.PHONY: generate test test-arm64 check build configure setup
generate: configure
	@cmake --build --preset release -j $(JOBS) --target mlx_lm_program
	@build/release/bin/mlx_lm generate --prompt "$(PROMPT)"

test: build
	@scripts/setup.sh --test
	@ctest --preset release -j $(JOBS)

test-arm64:
	@scripts/setup.sh --arm64
	@cmake --preset arm64-kernels
	@cmake --build --preset arm64-kernels -j $(JOBS)
	@ctest --preset arm64-kernels -j $(JOBS)

check: setup
	@scripts/setup.sh --check
	@clang-format --dry-run -Werror $(SOURCES)
	@cd rust && cargo fmt --check
	@python3 cmake/check_ranks.py

build: configure
	@cmake --build --preset release -j $(JOBS)

configure: setup
	@[ -e build/release/build.ninja ] || cmake --preset release

setup:
	@scripts/setup.sh

# make generate PROMPT="..."   installs what is missing, builds, answers
# make test                    the same, then runs every test
PROMPT ?= What is the capital of France?
JOBS   ?= $(shell nproc)

.PHONY: generate test setup build
generate: build
	@build/release/bin/mlx_lm generate --prompt "$(PROMPT)"

test: build
	@cd build/release && ctest --output-on-failure -j $(JOBS)

build: setup
	@[ -e build/release/build.ninja ] || cmake --preset release
	@cmake --build --preset release -j $(JOBS)

setup:
	@scripts/setup.sh

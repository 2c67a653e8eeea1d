#!/usr/bin/env bash
# Builds and runs a project that uses tttlib, in a temporary folder.
#   consumer.sh METHOD SOURCE_DIR BUILD_DIR COMPILER CONFIG
# METHOD is a folder of tests/consumer; find_package installs BUILD_DIR first. Optimised, since some warnings come only then.
set -euo pipefail
method="$1" source_dir="$2" build_dir="$3" compiler="$4" config="$5"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

arguments=()
case "$method" in
  find_package)
    cmake --install "$build_dir" --prefix "$work/prefix" ${config:+--config "$config"} > "$work/install.log"
    arguments+=("-DCMAKE_PREFIX_PATH=$work/prefix") ;;
  add_subdirectory) arguments+=("-DTTTLIB_SOURCE_DIR=$source_dir") ;;
  fetch_content) arguments+=("-DFETCHCONTENT_SOURCE_DIR_TTTLIB=$source_dir" -DFETCHCONTENT_FULLY_DISCONNECTED=ON) ;;
  *) echo "unknown method: $method"; exit 1 ;;
esac

cmake -S "$source_dir/tests/consumer/$method" -B "$work/build" "${arguments[@]}" \
  "-DCMAKE_CXX_COMPILER=$compiler" "-DCMAKE_CXX_FLAGS=-O1 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
cmake --build "$work/build"
objects="$(cd "$work/build" && find . -name '*.o' | grep -v '^\./CMakeFiles/consumer_' || true)"
if [ -n "$objects" ]; then echo "built although nothing links it:"; echo "$objects"; exit 1; fi
for program in "$work"/build/consumer_*; do
  echo "running $(basename "$program")"
  "$program"
done

#!/usr/bin/env bash
# Installs what a build needs and the machine lacks: scripts/setup.sh [demo|test|bench]
# `bench` adds PyTorch with OpenBLAS, to measure against, and Google Benchmark.
# `test` adds what only tests use: clang, a BLAS to stand in for our matrix products, Chromium with Python to look at
# reports. Debian and Ubuntu: by apt, through sudo when not root. Elsewhere it names what is missing and exits with 1.
set -euo pipefail

have_header() {
  local folder
  for folder in /usr/include /usr/local/include /opt/homebrew/include ${CPATH:+${CPATH//:/ }}; do
    if [ -e "$folder/$1" ]; then return 0; fi
  done
  return 1
}
have_cblas() { have_header cblas.h || have_header "$(c++ -dumpmachine)/cblas.h"; }
have_browser() {
  command -v python3 > /dev/null && { command -v chromium || command -v chromium-browser || command -v google-chrome; } > /dev/null
}
have_openblas() { compgen -G "/usr/lib/*/openblas-$1" > /dev/null; }
have_torch() { python3 -c 'import torch' || /usr/bin/python3 -c 'import torch'; }
have_clang() { command -v clang++-14 > /dev/null || command -v clang++ > /dev/null; }

missing=() packages=()
need() {  # need PACKAGE DESCRIPTION PROBE...
  local package="$1" description="$2"; shift 2
  if ! "$@" > /dev/null 2>&1; then missing+=("$description"); packages+=("$package"); fi
}
find_missing() {
  missing=() packages=()
  need g++                'g++ 12 or later, or another C++20 compiler'                         command -v c++
  need cmake              'CMake 3.22 or later (https://cmake.org)'                            command -v cmake
  need ninja-build        'Ninja (https://ninja-build.org)'                                    command -v ninja
  need libfmt-dev         'fmt 8 or later (https://fmt.dev)'                                   have_header fmt/format.h
  need libstb-dev         'stb_image and stb_image_write (https://github.com/nothings/stb)'    have_header stb/stb_image.h
  need nlohmann-json3-dev 'nlohmann/json 3.10 or later (https://github.com/nlohmann/json)'     have_header nlohmann/json.hpp
  need libcli11-dev       'CLI11 2 (https://github.com/CLIUtils/CLI11)'                        have_header CLI/CLI.hpp
  need libeigen3-dev      'Eigen 3.4 (https://eigen.tuxfamily.org)'                            have_header eigen3/Eigen/Core
  need catch2             'Catch2 2.13 or later (https://github.com/catchorg/Catch2)'          have_header catch2
  if [ "${1:-demo}" = bench ]; then
    need python3-torch    'PyTorch (https://pytorch.org)'                                       have_torch
    need libopenblas0-pthread 'OpenBLAS with its own threads (https://www.openblas.net)'       have_openblas pthread
    need libopenblas0-openmp  'OpenBLAS with OpenMP (https://www.openblas.net)'                have_openblas openmp
    need libbenchmark-dev 'Google Benchmark (https://github.com/google/benchmark)'              have_header benchmark/benchmark.h
  fi
  if [ "${1:-demo}" = test ]; then
    need libopenblas-dev  'OpenBLAS with cblas.h (https://www.openblas.net)'                   have_cblas
    need clang            'clang 14 or later (https://clang.llvm.org)'                         have_clang
  fi
}

install_packages() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
  echo "Installing $*"
  ${as_root[@]+"${as_root[@]}"} apt-get update -qq
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

find_missing "$@"
if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get > /dev/null; then
    echo "This is not Debian or Ubuntu, so please install these yourself, then run the command again:" >&2
    printf '  - %s\n' "${missing[@]}" >&2
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo > /dev/null; then
    echo "Not root and no sudo. As root, run: apt-get install ${packages[*]}" >&2
    exit 1
  fi
  install_packages "${packages[@]}"
  find_missing "$@"
  if [ ${#missing[@]} -gt 0 ]; then
    echo "Still missing after installing:" >&2
    printf '  - %s\n' "${missing[@]}" >&2
    exit 1
  fi
fi

# Nothing else needs a browser, and Ubuntu has none as a package: without one, a test is skipped.
if [ "${1:-demo}" = test ] && ! have_browser; then
  if ! command -v apt-get > /dev/null || ! install_packages python3 chromium || ! have_browser; then
    echo "No Chromium with Python 3 here, so the test that opens reports in a browser will be skipped"
  fi
fi

version="$(cmake --version | awk 'NR == 1 { print $3 }')"
if [ "$(printf '%s\n3.22\n' "$version" | sort -V | head -n 1)" != 3.22 ]; then
  echo "CMake $version is too old: 3.22 or later is needed (https://cmake.org)" >&2
  exit 1
fi

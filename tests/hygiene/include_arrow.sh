#!/usr/bin/env bash
# Reads the #include lines under a folder `tttlib` and fails when a header includes what its layer may not.
#   include_arrow.sh INCLUDE_DIR      (the folder that contains tttlib/)
set -euo pipefail
export LC_ALL=C
cd "${1:?usage: include_arrow.sh INCLUDE_DIR}"

find tttlib -type f \( -name '*.hpp' -o -name '*.cuh' \) | sort | xargs awk '
BEGIN {
  # Who may include whom: core <- kernels <- ... <- models is one arrow, the others stand beside it.
  may["core"]     = "core"
  may["kernels"]  = may["core"] " kernels"
  may["backend"]  = may["kernels"] " backend"
  may["autograd"] = may["backend"] " autograd"
  may["ops"]      = may["autograd"] " ops"
  may["nn"]       = may["ops"] " nn"
  may["ttt"]      = may["nn"] " ttt"
  may["models"]   = may["ttt"] " models"
  may["optim"]    = may["nn"] " optim"
  may["io"]       = may["nn"] " io"
  may["data"]     = may["nn"] " io data"
  may["testing"]  = may["models"] " io optim testing"
  may["train"]    = may["models"] " optim io data train"
  may["umbrella"] = may["models"] " optim testing"
}

function problem(text) { print FILENAME ":" FNR ": " text; failed = 1 }

# The layer of a path: its folder below tttlib/, or "umbrella" for tttlib/tttlib.hpp.
function layer_of(path,   parts) {
  if (path == "tttlib/tttlib.hpp") return "umbrella"
  split(path, parts, "/")
  return parts[2]
}

FNR == 1 {
  exists[FILENAME] = 1
  files[++file_count] = FILENAME
  layer = layer_of(FILENAME)
  if (!(layer in may)) problem("folder " layer " is not in the table of layers")
}

/^[ \t]*#[ \t]*include/ {
  target = $0
  quoted = target ~ /include[ \t]*"/
  sub(/^[^<"]*[<"]/, "", target)
  sub(/[>"].*$/, "", target)
  if (target ~ /^tttlib\//) {
    ++include_count[FILENAME]
    includes[FILENAME, include_count[FILENAME]] = target
    line_of[FILENAME, include_count[FILENAME]] = FNR
    upper = layer_of(target)
    if (index(" " may[layer] " ", " " upper " ") == 0) problem(layer " may not include " upper ": " target)
    if (target ~ /\.cuh$/ && FILENAME !~ /\.cuh$/) problem("only CUDA code may include " target)
    if (target ~ /^tttlib\/backend\/cpu\// && FILENAME ~ /\.cuh$/) problem("CUDA code may not include " target)
    next
  }
  if (quoted) { problem("write the full path, tttlib/...: " target); next }
  external[FILENAME] = external[FILENAME] " " target
  if (target ~ /^(Eigen|unsupported)\// || target ~ /intrin\.h$/ || target ~ /^arm_(neon|sve)\.h$/)
    if (FILENAME != "tttlib/backend/cpu/eigen.hpp")
      problem("Eigen and intrinsics come only through tttlib/backend/cpu/eigen.hpp: " target)
  if (target ~ /^nlohmann\// && FILENAME !~ /^tttlib\/(io|train)\/.*-inl\.hpp$/)
    problem("JSON belongs in io/*-inl.hpp and train/*-inl.hpp: " target)
  if (target ~ /^CLI\//) problem("the command line belongs in examples: " target)
  if (target ~ /^(stb\/)?stb_/) problem("stb belongs in src/image.cpp: " target)
  if (target ~ /^catch2\//) problem("Catch2 belongs in tests: " target)
  if (target ~ /^(cuda|cublas|curand|nccl|nvtx3)/ && FILENAME !~ /\.cuh$/)
    problem("CUDA headers belong in .cuh files: " target)
}

# Everything reachable from a file must keep away from headers that match the pattern.
function keep_away(start, pattern, reason,   queue, head, tail, seen, file, i, next_file, words, count) {
  queue[tail = 1] = start
  seen[start] = start
  for (head = 1; head <= tail; ++head) {
    file = queue[head]
    count = split(external[file], words, " ")
    for (i = 1; i <= count; ++i)
      if (words[i] ~ pattern) { print start ": reaches " words[i] " (" seen[file] "): " reason; failed = 1 }
    for (i = 1; i <= include_count[file]; ++i) {
      next_file = includes[file, i]
      if (next_file in seen) continue
      seen[next_file] = seen[file] " -> " next_file
      if (next_file ~ pattern) { print start ": reaches " next_file " (" seen[next_file] "): " reason; failed = 1 }
      queue[++tail] = next_file
    }
  }
}

END {
  for (f = 1; f <= file_count; ++f) {
    file = files[f]
    for (i = 1; i <= include_count[file]; ++i)
      if (!(includes[file, i] in exists)) {
        print file ":" line_of[file, i] ": no such header: " includes[file, i]
        failed = 1
      }
    if (file ~ /\.cuh$/ || file == "tttlib/core/error.hpp" || file == "tttlib/backend/backend.hpp")
      keep_away(file, "^fmt/", "CUDA code cannot include fmt")
  }
  if ("tttlib/tttlib.hpp" in exists)
    keep_away("tttlib/tttlib.hpp", "^(tttlib/(io|data|train)|nlohmann|CLI|catch2)/",
              "the umbrella stays light")
  if (file_count == 0) { print "no headers found"; failed = 1 }
  if (failed) exit 1
  print file_count " headers, every include arrow points down"
}'

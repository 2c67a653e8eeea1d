#pragma once
// What the benchmarks measure time with.

#include <algorithm>
#include <chrono>
#include <vector>

#include "tttlib/backend/cuda.hpp"

/// Seconds of each of `repeat` calls, the fastest first; those of a GPU's work if it is done there.
template <class Work>
std::vector<double> seconds_of(int repeat, const Work& work, ttt::Device device = {}) {
  std::vector<double> seconds;
  ttt::synchronize(device);
  for (int i = 0; i < repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    ttt::synchronize(device);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

/// Seconds of the middle one.
template <class Work>
double median_seconds(int repeat, const Work& work, ttt::Device device = {}) {
  return seconds_of(repeat, work, device)[static_cast<std::size_t>(repeat) / 2];
}

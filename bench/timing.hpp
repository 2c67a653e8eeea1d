#pragma once
// What the benchmarks measure time with.

#include <algorithm>
#include <chrono>
#include <vector>

/// Seconds of each of `repeat` calls, the fastest first.
template <class Work>
std::vector<double> seconds_of(int repeat, const Work& work) {
  std::vector<double> seconds;
  for (int i = 0; i < repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

/// Seconds of the middle one.
template <class Work>
double median_seconds(int repeat, const Work& work) {
  return seconds_of(repeat, work)[static_cast<std::size_t>(repeat) / 2];
}

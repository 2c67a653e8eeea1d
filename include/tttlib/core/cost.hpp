#pragma once
/// Counting multiply-accumulates: products and convolutions report theirs to whoever is counting on this thread.

#include <cstdint>

namespace ttt {

/// Where multiply-accumulates are added up; null when nobody counts.
inline std::int64_t*& mac_counter() {
  thread_local std::int64_t* counter = nullptr;
  return counter;
}
inline void count_macs(std::int64_t n) {
  if (mac_counter()) *mac_counter() += n;
}

}  // namespace ttt

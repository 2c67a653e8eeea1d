#pragma once
/// FNV-1a (Fowler, Noll & Vo): a number that tells contents apart.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ttt {

/// In 64 bits, of what is added in its order.
struct Fnv {
  std::uint64_t hash = 0xcbf29ce484222325U;

  void add(std::uint64_t word) { hash = (hash ^ word) * 0x100000001b3U; }
  /// Byte by byte.
  void add(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < bytes; ++i) add(p[i]);
  }
};

inline std::uint64_t fnv(const void* data, std::size_t bytes) {
  Fnv of;
  of.add(data, bytes);
  return of.hash;
}
inline std::uint64_t fnv(std::string_view text) { return fnv(text.data(), text.size()); }

}  // namespace ttt

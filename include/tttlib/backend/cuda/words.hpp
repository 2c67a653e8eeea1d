#pragma once
/// Neighbouring numbers moved as one access of memory, and bf16 numbers as floats in registers.

#include <cstdint>

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/core/dtype.hpp"

namespace ttt::cuda_backend {

/// n words of 32 bits that one instruction moves, of whatever numbers.
template <int n>
using Words = Pack<std::uint32_t, n>;
template <int n>
TTT_DEVICE inline Words<n> load_words(const void* from) {
  return load_pack<n>(static_cast<const std::uint32_t*>(from));
}
template <int n>
TTT_DEVICE inline void store_words(const Words<n>& words, void* to) {
  store_pack(static_cast<std::uint32_t*>(to), words);
}

/// Two numbers rounded to bf16, the first in the lower half.
TTT_DEVICE inline std::uint32_t pair_of(float first, float second) {
#if defined(__CUDA_ARCH__)
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return bf16(first).bits | static_cast<std::uint32_t>(bf16(second).bits) << 16;
#endif
}

/// n numbers from memory that is aligned to all of them, or to 16 bytes.
template <int n>
TTT_DEVICE inline void load_numbers(const bf16* from, float (&to)[n]) {
  constexpr int words = n < 8 ? n / 2 : 4;
  for (int first = 0; first < n; first += 2 * words) {
    const Words<words> all = load_words<words>(from + first);
    for (int i = 0; i < words; ++i) {
      to[first + 2 * i] = __builtin_bit_cast(float, all[i] << 16);
      to[first + 2 * i + 1] = __builtin_bit_cast(float, all[i] & 0xffff0000U);
    }
  }
}
template <int n>
TTT_DEVICE inline void load_numbers(const float* from, float (&to)[n]) {
  for (int first = 0; first < n; first += 4) {
    const Words<4> all = load_words<4>(from + first);
    for (int i = 0; i < 4; ++i) to[first + i] = __builtin_bit_cast(float, all[i]);
  }
}
/// Rounds n numbers to memory that is aligned to all of them, or to 16 bytes.
template <int n>
TTT_DEVICE inline void store_numbers(const float (&from)[n], bf16* to) {
  constexpr int words = n < 8 ? n / 2 : 4;
  for (int first = 0; first < n; first += 2 * words) {
    Words<words> all;
    for (int i = 0; i < words; ++i) all[i] = pair_of(from[first + 2 * i], from[first + 2 * i + 1]);
    store_words(all, to + first);
  }
}

}  // namespace ttt::cuda_backend

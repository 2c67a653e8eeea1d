#pragma once
/// Neighbouring numbers moved as one access of memory, and bf16 numbers as floats in registers.

#include <cstdint>
#if !defined(__CUDACC__)
#include <cstring>
#endif

#include "tttlib/core/config.hpp"
#include "tttlib/core/dtype.hpp"
#include "tttlib/core/error.hpp"

namespace ttt::cuda_backend {

/// n words of 32 bits that one instruction moves.
template <int n>
struct alignas(4 * n) Words {
  std::uint32_t at[n];
};
#if !defined(__CUDACC__)
/// Throws where a GPU would fault.
template <int n>
void require_aligned_words(const void* at) {
  if (reinterpret_cast<std::uintptr_t>(at) % alignof(Words<n>) != 0)
    fail<Error>("cuda", concat("words of ", 4 * n, " bytes at a misaligned address"));
}
#endif
template <int n>
TTT_DEVICE inline Words<n> load_words(const void* from) {
#if defined(__CUDACC__)
  return *static_cast<const Words<n>*>(from);
#else
  require_aligned_words<n>(from);
  Words<n> words;
  std::memcpy(&words, from, sizeof words);
  return words;
#endif
}
template <int n>
TTT_DEVICE inline void store_words(const Words<n>& words, void* to) {
#if defined(__CUDACC__)
  *static_cast<Words<n>*>(to) = words;
#else
  require_aligned_words<n>(to);
  std::memcpy(to, &words, sizeof words);
#endif
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
      to[first + 2 * i] = __builtin_bit_cast(float, all.at[i] << 16);
      to[first + 2 * i + 1] = __builtin_bit_cast(float, all.at[i] & 0xffff0000U);
    }
  }
}
template <int n>
TTT_DEVICE inline void load_numbers(const float* from, float (&to)[n]) {
  for (int first = 0; first < n; first += 4) {
    const Words<4> all = load_words<4>(from + first);
    for (int i = 0; i < 4; ++i) to[first + i] = __builtin_bit_cast(float, all.at[i]);
  }
}
/// Rounds n numbers to memory that is aligned to all of them, or to 16 bytes.
template <int n>
TTT_DEVICE inline void store_numbers(const float (&from)[n], bf16* to) {
  constexpr int words = n < 8 ? n / 2 : 4;
  for (int first = 0; first < n; first += 2 * words) {
    Words<words> all;
    for (int i = 0; i < words; ++i) all.at[i] = pair_of(from[first + 2 * i], from[first + 2 * i + 1]);
    store_words(all, to + first);
  }
}

}  // namespace ttt::cuda_backend

#pragma once
/// Vectors as the compiler offers them: as wide as the instruction set of this file, and lowered to what the machine has.

#include <cstdint>
#include <utility>

#include "tttlib/core/config.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

/// A vector of T that may be read from any element's address.
template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(vector_bytes), aligned(8), may_alias));
};
/// Its number of elements.
template <class T>
inline constexpr std::int64_t lanes = vector_bytes / static_cast<int>(sizeof(T));

/// Exchanges, between two vectors, the odd blocks of `size` lanes of `a` and the even ones of `b`.
template <class T, std::int64_t size, std::int64_t... lane>
void exchange_blocks(typename VectorOf<T>::type& a, typename VectorOf<T>::type& b, std::integer_sequence<std::int64_t, lane...>) {
  const auto x = a, y = b;
  a = __builtin_shufflevector(x, y, (lane / size % 2 == 0 ? lane : lanes<T> + lane - size)...);
  b = __builtin_shufflevector(x, y, (lane / size % 2 == 0 ? lane + size : lanes<T> + lane)...);
}
template <class T, std::int64_t size = lanes<T> / 2>
void transpose_blocks(typename VectorOf<T>::type (&rows)[lanes<T>]) {
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < lanes<T>; ++i)
    if (i / size % 2 == 0) exchange_blocks<T, size>(rows[i], rows[i + size], std::make_integer_sequence<std::int64_t, lanes<T>>{});
  if constexpr (size > 1) transpose_blocks<T, size / 2>(rows);
}
/// A square of lanes × lanes numbers, transposed in registers: to[j, i] = from[i, j].
template <class T>
void transpose_square(const T* from, std::int64_t from_row, T* to, std::int64_t to_row) {
  using Vector = typename VectorOf<T>::type;
  Vector rows[lanes<T>];
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < lanes<T>; ++i) rows[i] = *reinterpret_cast<const Vector*>(from + i * from_row);
  transpose_blocks<T>(rows);
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < lanes<T>; ++i) *reinterpret_cast<Vector*>(to + i * to_row) = rows[i];
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

#pragma once
/// Vectors as the compiler offers them: as wide as the instruction set of this file, and lowered to what the machine has.

#include <cstdint>

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

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

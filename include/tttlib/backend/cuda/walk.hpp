#pragma once
/// Where the elements of strided operands are, computed from the number of the element: by each thread, or by the host.

#include <algorithm>

#include "tttlib/backend/axes.hpp"
#include "tttlib/core/config.hpp"

namespace ttt::cuda_backend {

/// Offsets of one element in K operands.
template <int K>
struct Offsets {
  std::int64_t at[K];
  TTT_HD std::int64_t operator[](int k) const { return at[k]; }
};

/// Divides numbers below 2³¹ by the same one of them: a multiplication and a shift (Granlund & Montgomery 1994).
struct Divisor {
  std::uint32_t multiplier = 1, shift = 0;  // by 1
  Divisor() = default;
  explicit Divisor(std::int64_t by) {
    while ((std::int64_t(1) << shift) < by) ++shift;
    multiplier = static_cast<std::uint32_t>((std::uint64_t(1) << 32) * ((std::uint64_t(1) << shift) - static_cast<std::uint64_t>(by)) /
                                                static_cast<std::uint64_t>(by) + 1);
  }
  TTT_HD std::uint32_t operator()(std::uint32_t n) const {
    return (static_cast<std::uint32_t>((static_cast<std::uint64_t>(n) * multiplier) >> 32) + n) >> shift;
  }
};

/// K operands of one shape walked together, axes merged where all operands allow it: one multiplication per operand if all are
/// contiguous, else a division per axis on top, by multiplication wherever the number of elements allows it.
template <int K>
struct Walk {
  std::int64_t count = 1;
  int rank = 0;
  std::int64_t shape[Dims::max_rank], strides[K][Dims::max_rank];
  Divisor divisors[Dims::max_rank];
  static constexpr std::int64_t small = 0x7fffffff;

  Walk(const Shape& full, const Strides (&all)[K]) {
    Shape merged;
    Strides steps[K];
    backend::merge_axes(full, all, merged, steps);
    rank = static_cast<int>(merged.size());
    for (int axis = 0; axis < rank; ++axis) {
      const auto i = static_cast<std::size_t>(axis);
      shape[axis] = merged[i];
      count *= merged[i];
      for (int k = 0; k < K; ++k) strides[k][axis] = steps[k][i];
    }
    if (count > 0 && count <= small)
      for (int axis = 1; axis < rank; ++axis) divisors[axis] = Divisor(shape[axis]);
  }
  /// Along the last merged axis.
  TTT_HD std::int64_t inner_stride(int k) const { return strides[k][rank - 1]; }

  /// True if any n elements from a multiple of n on are side by side in operand k, or one and the same, n whole times away from others.
  bool in_packs(int k, std::int64_t n) const {
    const std::int64_t inner = inner_stride(k);
    if (inner > 1 || inner < 0 || (rank > 1 && shape[rank - 1] % n != 0)) return false;
    for (int axis = 0; axis + 1 < rank; ++axis)
      if (inner == 1 && strides[k][axis] % n != 0) return false;
    return true;
  }
  /// True if all strides of operand k are multiples of n.
  bool whole(int k, std::int64_t n) const {
    return std::all_of(strides[k], strides[k] + rank, [n](std::int64_t stride) { return stride % n == 0; });
  }

  /// Of element i in row-major order.
  TTT_HD Offsets<K> operator()(std::int64_t i) const {
    Offsets<K> offsets{};
#if defined(__CUDACC__)
#pragma unroll 1  // there are a few axes at most, and many walks in a kernel
#endif
    for (int axis = rank - 1; axis > 0; --axis) {
      const std::int64_t above = count <= small ? divisors[axis](static_cast<std::uint32_t>(i)) : i / shape[axis];
      const std::int64_t position = i - above * shape[axis];
      for (int k = 0; k < K; ++k) offsets.at[k] += position * strides[k][axis];
      i = above;
    }
    for (int k = 0; k < K; ++k) offsets.at[k] += i * strides[k][0];
    return offsets;
  }
};

}  // namespace ttt::cuda_backend

#pragma once
/// Where the elements of strided operands are, computed from the number of the element: by each thread, or by the host.

#include "tttlib/backend/axes.hpp"
#include "tttlib/core/config.hpp"

namespace ttt::cuda_backend {

/// Offsets of one element in K operands.
template <int K>
struct Offsets {
  std::int64_t at[K];
  TTT_HD std::int64_t operator[](int k) const { return at[k]; }
};

/// K operands of one shape walked together, axes merged where all operands allow it: one multiplication per operand if
/// all are contiguous, else one division per axis, of 32 bits wherever the number of elements allows it.
template <int K>
struct Walk {
  std::int64_t count = 1;
  int rank = 0;
  std::int64_t shape[Dims::max_rank], strides[K][Dims::max_rank];

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
  }
  /// Along the last merged axis.
  std::int64_t inner_stride(int k) const { return strides[k][rank - 1]; }

  /// Of element i in row-major order.
  TTT_HD Offsets<K> operator()(std::int64_t i) const {
    Offsets<K> offsets{};
    for (int axis = rank - 1; axis > 0; --axis) {
      const std::int64_t above = count <= 0x7fffffff ? static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(shape[axis]) : i / shape[axis];
      const std::int64_t position = i - above * shape[axis];
      for (int k = 0; k < K; ++k) offsets.at[k] += position * strides[k][axis];
      i = above;
    }
    for (int k = 0; k < K; ++k) offsets.at[k] += i * strides[k][0];
    return offsets;
  }
};

}  // namespace ttt::cuda_backend

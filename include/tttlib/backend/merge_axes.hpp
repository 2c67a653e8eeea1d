#pragma once
/// Fewer axes for the same walk over several operands.

#include "tttlib/core/shape.hpp"

namespace ttt::backend {

/// Drops axes of length 1 and joins neighbours that all K operands walk alike, so that contiguous operands become one
/// long axis: `full` and `all` -> `shape` (one axis at least) and `strides`.
template <std::size_t K>
TTT_NOINLINE void merge_axes(const Shape& full, const Strides (&all)[K], Shape& shape, Strides (&strides)[K]) {
  for (std::size_t axis = 0; axis < full.size(); ++axis) {
    if (full[axis] == 1) continue;
    bool merges = !shape.empty();
    for (std::size_t k = 0; k < K; ++k) merges = merges && strides[k].back() == all[k][axis] * full[axis];
    if (merges) {
      shape[shape.size() - 1] *= full[axis];
      for (std::size_t k = 0; k < K; ++k) strides[k][shape.size() - 1] = all[k][axis];
    } else {
      shape.push_back(full[axis]);
      for (std::size_t k = 0; k < K; ++k) strides[k].push_back(all[k][axis]);
    }
  }
  if (shape.empty()) {
    shape.push_back(1);
    for (std::size_t k = 0; k < K; ++k) strides[k].push_back(1);
  }
}

}  // namespace ttt::backend

#pragma once
/// Which axes a kernel walks: fewer for the same walk over several operands; those that a reduction keeps.

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

/// The axes of a reduction of x to y, both with as many of them: kept where their lengths agree, reduced elsewhere.
struct ReducedAxes {
  Shape kept, reduced;
  Strides kept_y, kept_x, reduced_x;

  ReducedAxes(const Shape& shape_x, const Strides& strides_x, const Shape& shape_y, const Strides& strides_y) {
    for (std::size_t axis = 0; axis < shape_x.size(); ++axis) {
      if (shape_y[axis] == shape_x[axis]) {
        kept.push_back(shape_x[axis]);
        kept_y.push_back(strides_y[axis]);
        kept_x.push_back(strides_x[axis]);
      } else {
        reduced.push_back(shape_x[axis]);
        reduced_x.push_back(strides_x[axis]);
      }
    }
  }
};

}  // namespace ttt::backend

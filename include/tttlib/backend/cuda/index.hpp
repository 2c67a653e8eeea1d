#pragma once
/// Reading and adding along one axis at given positions. A position out of range reads NaN (0 for integers) and adds
/// nothing: on a GPU the op cannot check it without waiting. Bytes: the elements touched, once.
/// `scatter_add` is deterministic without atomics: a thread has a whole line along the axis to itself and adds in order,
/// so it is as parallel as the other axes are long, and takes as many steps as the axis of `g` has positions.

#include <limits>

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/cuda/walk.hpp"
#include "tttlib/backend/table.hpp"

namespace ttt::cuda_backend {

template <class T>
struct Gather {
  const T* x;
  const std::int64_t* index;
  T* y;
  Walk<3> walk;  // y, index, x at position 0
  std::int64_t length, step_x;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const Offsets<3> at = walk(i);
    const std::int64_t position = index[at[1]];
    const bool inside = position >= 0 && position < length;
    y[at[0]] = inside ? x[at[2] + position * step_x] : std::numeric_limits<T>::quiet_NaN();
  }
};
template <class L, class T>
void gather(View<const T> x, View<const std::int64_t> index, std::size_t axis, View<T> y) {
  Strides from = x.strides;
  from[axis] = 0;  // the index decides where along this axis
  const Walk<3> walk(y.shape, {y.strides, index.strides, from});
  for_each(L("gather", y.device), walk.count, Gather<T>{x.data, index.data, y.data, walk, x.shape[axis], x.strides[axis]});
}

template <class T>
struct ScatterAdd {
  const T* g;
  const std::int64_t* index;
  T* y;
  Walk<3> lines;  // y, index, g
  std::int64_t n, length, step_y, step_index, step_g;
  TTT_DEVICE void operator()(std::int64_t line) const {
    const Offsets<3> at = lines(line);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t position = index[at[1] + i * step_index];
      if (position >= 0 && position < length) y[at[0] + position * step_y] += g[at[2] + i * step_g];
    }
  }
};
template <class L, class T>
void scatter_add(View<const T> g, View<const std::int64_t> index, std::size_t axis, View<T> y) {
  Shape lines = g.shape;
  lines[axis] = 1;
  const Walk<3> walk(lines, {y.strides, index.strides, g.strides});
  for_each(L("scatter_add", y.device), walk.count,
           ScatterAdd<T>{g.data, index.data, y.data, walk, g.shape[axis], y.shape[axis], y.strides[axis], index.strides[axis], g.strides[axis]});
}

template <class L, class T>
void add_indexing(Verbs<T>& verbs) {
  verbs.gather = gather<L, T>;
  verbs.scatter_add = scatter_add<L, T>;
}

}  // namespace ttt::cuda_backend

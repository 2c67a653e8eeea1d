#pragma once
/// Reading and adding along one axis at given positions. Positions were checked by the op. Bytes: the
/// elements touched, once. `scatter_add` cuts only the other axes, so equal positions are always added in the
/// same order.

#include "tttlib/backend/cpu/elementwise-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

template <class T>
void gather(View<const T> x, View<const std::int64_t> index, std::size_t axis, View<T> y) {
  Strides from = x.strides;
  from[axis] = 0;  // the index decides where along this axis
  const std::int64_t stride = x.strides[axis];
  const Walk<3> walk(y.shape, {y.strides, index.strides, from});
  const std::int64_t sy = walk.inner_stride(0), si = walk.inner_stride(1), sx = walk.inner_stride(2);
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    T* out = y.data + at[0];
    const std::int64_t* position = index.data + at[1];
    const T* in = x.data + at[2];
    if (si == 0) {
      in += *position * stride;
      for (std::int64_t i = 0; i < n; ++i) out[i * sy] = in[i * sx];
    } else {
      for (std::int64_t i = 0; i < n; ++i) out[i * sy] = in[i * sx + position[i * si] * stride];
    }
  });
}

template <class T>
void scatter_add(View<const T> g, View<const std::int64_t> index, std::size_t axis, View<T> y) {
  Shape rest = g.shape;
  rest[axis] = 1;
  if (g.numel() == 0) return;
  const Walk<3> walk(rest, {y.strides, index.strides, g.strides});
  const std::int64_t n = g.shape[axis], step_y = y.strides[axis], step_i = index.strides[axis],
                     step_g = g.strides[axis];
  const std::int64_t sy = walk.inner_stride(0), si = walk.inner_stride(1), sg = walk.inner_stride(2);
  const std::int64_t columns = walk.inner(), width = columns < 256 ? columns : 256;
  const std::int64_t pieces = (columns + width - 1) / width;
  parallel_for(walk.outer() * pieces, elementwise_grain / (n * width) + 1,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t unit = begin; unit < end; ++unit) {
                   const std::int64_t first = unit % pieces * width,
                                      last = first + width < columns ? first + width : columns;
                   walk.rows(unit / pieces, unit / pieces + 1, [&](const std::int64_t* at) {
                     for (std::int64_t i = 0; i < n; ++i)
                       for (std::int64_t c = first; c < last; ++c)
                         y.data[at[0] + c * sy + index.data[at[1] + c * si + i * step_i] * step_y] +=
                             g.data[at[2] + c * sg + i * step_g];
                   });
                 }
               });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

#pragma once
/// Random fills: element i (row-major) takes number i of its stream, whatever the layout or thread count.

#include "tttlib/backend/cpu/elementwise-inl.hpp"
#include "tttlib/kernels/draws.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// y_i = draw(i) for contiguous y.
template <class T, class Draw>
void fill_from(View<T> y, const Draw& draw) {
  parallel_for(y.numel(), 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y.data[i] = draw(static_cast<std::uint64_t>(i));
  });
}

template <class T>
void uniform(std::uint64_t seed, std::uint64_t stream, double low, double high, View<T> y) {
  fill_from(y, draws::Uniform<T>(seed, stream, low, high));
}
template <class T>
void normal(std::uint64_t seed, std::uint64_t stream, double mean, double std, View<T> y) {
  fill_from(y, draws::Normal<T>{seed, stream, mean, std});
}
template <class T>
void truncated_normal(std::uint64_t seed, std::uint64_t stream, double std, double bound, View<T> y) {
  fill_from(y, draws::TruncatedNormal<T>(seed, stream, std, bound));
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

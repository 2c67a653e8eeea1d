#pragma once
/// Random fills: element i (row-major) takes number i of its stream, whatever the layout or thread count.

#include "tttlib/backend/cpu/elementwise-inl.hpp"
#include "tttlib/core/random.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// y_i = draw(i) for contiguous y.
template <class T, class Draw>
void fill_from(View<T> y, const Draw& draw) {
  parallel_for(y.numel(), 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y.data[i] = static_cast<T>(draw(static_cast<std::uint64_t>(i)));
  });
}

template <class T>
void uniform(std::uint64_t seed, std::uint64_t stream, double low, double high, View<T> y) {
  const T a = static_cast<T>(low), b = static_cast<T>(high), span = static_cast<T>(high - low);
  fill_from(y, [=](std::uint64_t i) {
    const T value = a + span * philox_uniform<T>(seed, stream, i);
    return value < b ? value : a;  // the sum may round up to b
  });
}

template <class T>
void normal(std::uint64_t seed, std::uint64_t stream, double mean, double std, View<T> y) {
  fill_from(y, [=](std::uint64_t i) { return mean + std * philox_normal(seed, stream, i); });
}

template <class T>
void truncated_normal(std::uint64_t seed, std::uint64_t stream, double std, double bound, View<T> y) {
  const double limit = std::erf(bound / std * 0.70710678118654752440);  // P(|x| ≤ bound)
  fill_from(y, [=](std::uint64_t i) {
    const PhiloxBlock block = philox(seed, stream, i);
    const double p = (2.0 * uniform53(block.word[0], block.word[1]) - 1.0) * limit;
    const double x = std * 1.41421356237309504880 * erf_inverse(p);
    return x < -bound ? -bound : (x > bound ? bound : x);
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

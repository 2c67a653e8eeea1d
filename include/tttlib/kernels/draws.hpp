#pragma once
/// Random number i of a stream in the distributions that tensors are filled with, once for every device.

#include <cmath>
#include <cstdint>

#include "tttlib/core/random.hpp"

namespace ttt::draws {

/// low + (high − low)·u; the fused multiply-add makes it the same bits on every device.
template <class T>
struct Uniform {
  std::uint64_t seed, stream;
  T low, high, span;
  Uniform(std::uint64_t s, std::uint64_t number, double from, double to)
      : seed(s), stream(number), low(static_cast<T>(from)), high(static_cast<T>(to)), span(static_cast<T>(to - from)) {}
  TTT_HD T operator()(std::uint64_t i) const {
    const T value = std::fma(span, philox_uniform<T>(seed, stream, i), low);
    return value < high ? value : low;  // the sum may round up to `high`
  }
};

template <class T>
struct Normal {
  std::uint64_t seed, stream;
  double mean, std;
  TTT_HD T operator()(std::uint64_t i) const { return static_cast<T>(mean + std * philox_normal(seed, stream, i)); }
};

/// Normal of deviation `std`, by inversion inside [−bound, bound].
template <class T>
struct TruncatedNormal {
  std::uint64_t seed, stream;
  double std, bound, limit;  // limit = P(|x| ≤ bound)
  TruncatedNormal(std::uint64_t s, std::uint64_t number, double deviation, double most)
      : seed(s), stream(number), std(deviation), bound(most), limit(::erf(most / deviation * 0.70710678118654752440)) {}
  TTT_HD T operator()(std::uint64_t i) const {
    const PhiloxBlock block = philox(seed, stream, i);
    const double p = (2.0 * uniform53(block.word[0], block.word[1]) - 1.0) * limit;
    const double x = std * 1.41421356237309504880 * erf_inverse(p);
    return static_cast<T>(x < -bound ? -bound : (x > bound ? bound : x));
  }
};

}  // namespace ttt::draws

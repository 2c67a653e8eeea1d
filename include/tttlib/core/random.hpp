#pragma once
/// Counter-based random numbers (Philox 4x32-10; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
/// Number i of a stream depends on (seed, stream, i) alone: any backend and any thread count draws the same.

#include <atomic>
#include <cmath>
#include <cstdint>

#include "tttlib/core/config.hpp"

namespace ttt {

/// Four 32-bit random words.
struct PhiloxBlock {
  std::uint32_t word[4];
};

/// Block number `counter` of stream `stream` of seed `seed`.
TTT_HD PhiloxBlock philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter) {
  std::uint32_t c0 = static_cast<std::uint32_t>(counter), c1 = static_cast<std::uint32_t>(counter >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(stream), c3 = static_cast<std::uint32_t>(stream >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t(0xD2511F53U) * c0, p1 = std::uint64_t(0xCD9E8D57U) * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {{c0, c1, c2, c3}};
}

/// Uniform in [0, 1) with 24 bits, exact in float.
TTT_HD float uniform24(std::uint32_t word) { return static_cast<float>(word >> 8) * (1.0f / 16777216.0f); }

/// Uniform in [0, 1) with 53 bits from two words.
TTT_HD double uniform53(std::uint32_t high, std::uint32_t low) {
  return static_cast<double>(((static_cast<std::uint64_t>(high) << 32) | low) >> 11) * (1.0 / 9007199254740992.0);
}

/// Uniform number `i` of a stream: 24 bits for float, 53 for double, so that both round the same way everywhere.
template <class T>
TTT_HD T philox_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
  const PhiloxBlock b = philox(seed, stream, i);
  if constexpr (sizeof(T) == 8) return uniform53(b.word[0], b.word[1]);
  else return uniform24(b.word[0]);
}

/// Standard normal number `i` of a stream (Box–Muller, computed in double).
TTT_HD double philox_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
  const PhiloxBlock b = philox(seed, stream, i);
  const double u = 1.0 - uniform53(b.word[0], b.word[1]);  // (0, 1]
  const double v = uniform53(b.word[2], b.word[3]);
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586476925286766559 * v);
}

/// The inverse of erf on (−1, 1): Winitzki's closed form (2008) as a start, then three Newton steps.
TTT_HD double erf_inverse(double p) {
  constexpr double a = 0.147, pi = 3.14159265358979323846;
  const double l = std::log1p(-p * p), t = 2.0 / (pi * a) + 0.5 * l;
  double x = std::copysign(std::sqrt(std::sqrt(t * t - l / a) - t), p);
  for (int i = 0; i < 3; ++i) x -= (std::erf(x) - p) * 0.88622692545275801365 * std::exp(x * x);
  return x;
}

/// The default generator: a seed and the number of the next unused stream; every random op takes one stream.
struct Generator {
  std::atomic<std::uint64_t> seed{0};
  std::atomic<std::uint64_t> next_stream{0};
};
namespace detail {
/// What a guard of this thread put in its place; null: the program's.
inline Generator*& guarded_generator() {
  thread_local Generator* generator = nullptr;
  return generator;
}
}  // namespace detail
inline Generator& default_generator() {
  static Generator generator;
  return detail::guarded_generator() ? *detail::guarded_generator() : generator;
}

/// Another default generator on this thread, until the end of the scope.
class GeneratorGuard {
 public:
  explicit GeneratorGuard(Generator& generator) : before_(detail::guarded_generator()) { detail::guarded_generator() = &generator; }
  ~GeneratorGuard() { detail::guarded_generator() = before_; }
  GeneratorGuard(const GeneratorGuard&) = delete;
  GeneratorGuard& operator=(const GeneratorGuard&) = delete;

 private:
  Generator* before_;
};

/// Restarts the default generator.
inline void manual_seed(std::uint64_t seed) {
  default_generator().seed = seed;
  default_generator().next_stream = 0;
}

}  // namespace ttt

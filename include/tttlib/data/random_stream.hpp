#pragma once
/// Random numbers of the data layer: every decision has its own Philox counter, so that no order of work
/// changes it.

#include <cstdint>

#include "tttlib/core/random.hpp"

namespace ttt {

/// What a random number decides.
enum class DataDraw : std::uint64_t { shuffle = 1, crop = 2, flip = 3, shape = 4, shape_noise = 5 };

/// The stream of one purpose within an epoch or split. The purpose sits in the top byte, out of the way of
/// the streams that tensor functions take from the default generator.
inline std::uint64_t data_stream(DataDraw purpose, std::int64_t part) {
  return static_cast<std::uint64_t>(purpose) << 56 | static_cast<std::uint64_t>(part);
}

/// Number `i` of a stream as an integer in [0, n).
inline std::int64_t draw_below(std::int64_t n, std::uint64_t seed, std::uint64_t stream, std::int64_t i) {
  const double u = philox_uniform<double>(seed, stream, static_cast<std::uint64_t>(i));
  return static_cast<std::int64_t>(u * static_cast<double>(n));
}

}  // namespace ttt

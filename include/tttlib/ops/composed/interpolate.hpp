#pragma once
/// Resizing channels-last images. Pixel centres are half-integers (`align_corners=false` elsewhere), the
/// border is repeated, and there is no smoothing when an image shrinks.

#include <cmath>

#include "tttlib/ops/composed/pool.hpp"

namespace ttt {

enum class Interpolation { nearest, bilinear, bicubic };

namespace detail {

/// Weights [outputs, length] that resize one axis. Bicubic: Keys 1981 with a = −0.75.
template <class T>
Tensor<T> resize_weights(std::int64_t outputs, std::int64_t length, Interpolation mode, Device device) {
  constexpr double a = -0.75;
  const auto near = [](double d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };       // |d| ≤ 1
  const auto far = [](double d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };  // 1 ≤ |d| ≤ 2
  std::vector<Wide<T>> weights(static_cast<std::size_t>(numel({outputs, length})));
  for (std::int64_t o = 0; o < outputs; ++o) {
    const auto put = [&](std::int64_t at, double weight) {
      at = at < 0 ? 0 : (at >= length ? length - 1 : at);
      weights[static_cast<std::size_t>(o * length + at)] += static_cast<Wide<T>>(weight);
    };
    double centre =
        (static_cast<double>(o) + 0.5) * static_cast<double>(length) / static_cast<double>(outputs) - 0.5;
    if (mode == Interpolation::bilinear && centre < 0) centre = 0;
    const double floor = std::floor(centre), t = centre - floor;
    const auto first = static_cast<std::int64_t>(floor);
    if (mode == Interpolation::bilinear) {
      put(first, 1 - t);
      put(first + 1, t);
    } else {
      put(first - 1, far(t + 1));
      put(first, near(t));
      put(first + 1, near(1 - t));
      put(first + 2, far(2 - t));
    }
  }
  return cast<T>(from_data(weights, {outputs, length}, device));
}

}  // namespace detail

/// x [B, H, W, C] -> [B, size.rows, size.columns, C]. Throws ShapeError if either image is empty.
template <class T>
Tensor<T> interpolate(const Tensor<T>& x, Pair size, Interpolation mode = Interpolation::nearest) {
  detail::require_output_size("interpolate", x, size);
  const auto nearest = [&](std::int64_t outputs, std::int64_t length) {
    std::vector<std::int64_t> positions(static_cast<std::size_t>(outputs));
    for (std::int64_t o = 0; o < outputs; ++o) positions[static_cast<std::size_t>(o)] = o * length / outputs;
    return from_data(positions, {outputs}, x.device());
  };
  return within_memory("interpolate", detail::output_text(size), [&] {
    if (mode != Interpolation::nearest)
      return detail::resample(x, detail::resize_weights<T>(size.rows, x.size(1), mode, x.device()),
                              detail::resize_weights<T>(size.columns, x.size(2), mode, x.device()));
    return index_select(index_select(x, nearest(size.rows, x.size(1)), 1), nearest(size.columns, x.size(2)), 2);
  });
}

}  // namespace ttt

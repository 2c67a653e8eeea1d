#pragma once
/// Two-dimensional rotary position embedding (H-ViT³; paper's reference: over all C channels, before the head split).
/// C/2 neighbouring pairs (2p, 2p+1), K = C/4 frequencies θ_j = 10000^(−j/K): pair p < K turns by row·θ_p, pair p ≥ K by
/// column·θ_{p−K}; (a, b) becomes (a·cosφ − b·sinφ, a·sinφ + b·cosφ).

#include <cmath>

#include "tttlib/ops/elementwise.hpp"

namespace ttt {

/// The angles' cosines and sines of a grid, ready for `apply_rope`; constants.
template <class T>
class Rope {
 public:
  /// Throws ShapeError if the channels are not a multiple of 4.
  Rope(std::int64_t height, std::int64_t width, std::int64_t channels, Device device = cpu())
      : cosine_(Shape{height, width, channels / 2, 1}), sine_(Shape{height, width, channels / 2, 1}) {
    if (channels % 4 != 0) fail<ShapeError>("rope", concat("channels must be a multiple of 4: ", channels));
    const std::int64_t frequencies = channels / 4, pairs = channels / 2;
    for (std::int64_t row = 0; row < height; ++row)
      for (std::int64_t column = 0; column < width; ++column)
        for (std::int64_t p = 0; p < pairs; ++p) {
          const std::int64_t j = p % frequencies;
          const double position = static_cast<double>(p < frequencies ? row : column);
          const double angle = position * std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(frequencies));
          const std::int64_t at = (row * width + column) * pairs + p;
          cosine_.data()[at] = convert<T>(std::cos(angle));
          sine_.data()[at] = convert<T>(std::sin(angle));
        }
    cosine_ = cosine_.to(device), sine_ = sine_.to(device);
  }

  /// Rotates the channel pairs of a grid: [B, h, w, C] -> [B, h, w, C].
  Tensor<T> operator()(const Tensor<T>& x) const {
    const Tensor<T> pairs = reshape(x, {x.size(0), x.size(1), x.size(2), x.size(3) / 2, 2});  // [B, h, w, C/2, 2]
    const Tensor<T> a = slice(pairs, -1, 0, 1), b = slice(pairs, -1, 1, 2);                   // [B, h, w, C/2, 1]
    const Tensor<T> turned = cat<T>({sub(mul(a, cosine_), mul(b, sine_)),                     // [B, h, w, C/2, 2]
                                     add(mul(a, sine_), mul(b, cosine_))}, -1);
    return reshape(turned, x.shape());
  }

 private:
  Tensor<T> cosine_, sine_;  // [h, w, C/2, 1]
};

}  // namespace ttt

#pragma once
/// Random crop, flip and normalisation of one picture.

#include <array>
#include <cstdint>

#include "tttlib/data/dataset.hpp"
#include "tttlib/data/random_stream.hpp"

namespace ttt {

struct AugmentOptions {
  int crop_padding = 0;  ///< black border from which a window of the picture's size is cut at random
  bool flip = false;     ///< mirror left to right with probability 1/2
};

/// The random decisions for one picture.
struct Augmentation {
  int shift_x = 0, shift_y = 0;  ///< the window's corner relative to the picture's
  bool flip = false;
};

/// Draws the decisions of picture `index` in an epoch; each has its own counter.
inline Augmentation draw_augmentation(const AugmentOptions& options, std::uint64_t seed, std::int64_t epoch,
                                      std::int64_t index) {
  Augmentation result;
  if (options.crop_padding > 0) {
    const auto shift = [&](std::int64_t axis) {
      const std::int64_t span = 2 * std::int64_t(options.crop_padding) + 1;
      const std::uint64_t stream = data_stream(DataDraw::crop, epoch);
      return static_cast<int>(draw_below(span, seed, stream, 2 * index + axis) - options.crop_padding);
    };
    result.shift_x = shift(0);
    result.shift_y = shift(1);
  }
  if (options.flip) result.flip = draw_below(2, seed, data_stream(DataDraw::flip, epoch), index) == 1;
  return result;
}

/// Turns bytes into (value/255 − mean) / stddev by table, after cropping and flipping; pixels outside the
/// picture are black before normalisation.
class Normalizer {
 public:
  explicit Normalizer(const ImageDataset& dataset) : height_(dataset.height), width_(dataset.width) {
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t value = 0; value < 256; ++value)
        table_[c][value] = (static_cast<float>(value) / 255.0f - dataset.mean[c]) / dataset.stddev[c];
  }

  /// Writes a [height, width, 3] picture to `out`.
  void operator()(const std::uint8_t* image, const Augmentation& augmentation, float* out) const {
    static constexpr std::uint8_t black[3] = {0, 0, 0};
    for (int y = 0; y < height_; ++y)
      for (int x = 0; x < width_; ++x) {
        const int from_y = y + augmentation.shift_y;
        const int from_x = (augmentation.flip ? width_ - 1 - x : x) + augmentation.shift_x;
        const bool inside = from_y >= 0 && from_y < height_ && from_x >= 0 && from_x < width_;
        const std::uint8_t* pixel = inside ? image + (std::int64_t(from_y) * width_ + from_x) * 3 : black;
        for (std::size_t c = 0; c < 3; ++c) *out++ = table_[c][pixel[c]];
      }
  }

 private:
  int height_, width_;
  std::array<std::array<float, 256>, 3> table_;
};

}  // namespace ttt

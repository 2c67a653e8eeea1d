#pragma once
/// Labelled pictures of one size, held in memory.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tttlib/io/image.hpp"

namespace ttt {

enum class Split : std::uint8_t { train, test };

/// n RGB pictures with their labels.
struct ImageDataset {
  std::vector<std::uint8_t> pixels;  // [n, height, width, 3]
  std::vector<std::int64_t> labels;  // [n]
  int height = 0, width = 0;
  std::vector<std::string> class_names;
  /// Per channel, of pixel / 255 over the training split.
  std::array<float, 3> mean{}, stddev{1, 1, 1};

  std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
  std::int64_t image_bytes() const { return std::int64_t(height) * width * 3; }
  /// First byte of picture `i`.
  std::uint8_t* image_data(std::int64_t i) { return pixels.data() + i * image_bytes(); }
  const std::uint8_t* image_data(std::int64_t i) const { return pixels.data() + i * image_bytes(); }
  /// A copy of picture `i`.
  Image image(std::int64_t i) const {
    Image result(width, height);
    result.pixels.assign(image_data(i), image_data(i) + image_bytes());
    return result;
  }
};

}  // namespace ttt

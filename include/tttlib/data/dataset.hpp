#pragma once
/// Labelled pictures of one size, held in memory.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tttlib/core/error.hpp"
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

/// n pictures of a data set, as many of each class: the first ones, in their order. Throws ShapeError if n is no positive multiple of
/// the number of classes, or a class has too few.
inline ImageDataset first_of_each_class(const ImageDataset& all, std::int64_t n) {
  const auto classes = static_cast<std::int64_t>(all.class_names.size());
  if (classes < 1 || n < 1 || n % classes != 0)
    fail<ShapeError>("first_of_each_class", concat("needs as many images of each class: ", n, " images, ", classes, " classes"));
  std::vector<std::int64_t> missing(static_cast<std::size_t>(classes), n / classes);
  ImageDataset some{{}, {}, all.height, all.width, all.class_names, all.mean, all.stddev};
  for (std::int64_t i = 0; i < all.size(); ++i) {
    const std::int64_t label = all.labels[static_cast<std::size_t>(i)];
    if (label < 0 || label >= classes)
      fail<ShapeError>("first_of_each_class", concat("label out of range: image ", i, ", label ", label, ", ", classes, " classes"));
    if (missing[static_cast<std::size_t>(label)]-- <= 0) continue;
    some.labels.push_back(label);
    some.pixels.insert(some.pixels.end(), all.image_data(i), all.image_data(i) + all.image_bytes());
  }
  if (some.size() != n)
    fail<ShapeError>("first_of_each_class", concat("a class has too few images: ", n / classes, " of each of ", classes, " classes asked for, ",
                                                   all.size(), " images in all"));
  return some;
}

}  // namespace ttt

#pragma once
/// Small data sets for the tests of data/.

#include <cstdint>
#include <string>

#include "tttlib/data/dataset.hpp"

/// n pictures whose bytes count up and whose label is i % 10.
inline ttt::ImageDataset counting_dataset(std::int64_t n, int height = 4, int width = 6) {
  ttt::ImageDataset dataset;
  dataset.height = height;
  dataset.width = width;
  dataset.pixels.resize(static_cast<std::size_t>(n * dataset.image_bytes()));
  for (std::size_t i = 0; i < dataset.pixels.size(); ++i)
    dataset.pixels[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  for (std::int64_t i = 0; i < n; ++i) dataset.labels.push_back(i % 10);
  dataset.class_names.assign(10, "class");
  dataset.mean = {0.5f, 0.25f, 0};
  dataset.stddev = {0.5f, 0.25f, 1};
  return dataset;
}

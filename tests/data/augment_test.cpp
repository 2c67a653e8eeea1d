#include "tttlib/data/augment.hpp"

#include <map>
#include <set>

#include "catch.hpp"
#include "data/dataset_files.hpp"

using namespace ttt;

namespace {

/// Picture 0 of a data set after augmentation.
std::vector<float> augmented(const ImageDataset& dataset, const Augmentation& augmentation) {
  std::vector<float> out(static_cast<std::size_t>(dataset.image_bytes()));
  Normalizer normalize(dataset);
  normalize(dataset.image_data(0), augmentation, out.data());
  return out;
}

}  // namespace

TEST_CASE("Normalizer subtracts the mean and divides by the standard deviation") {
  const ImageDataset dataset = counting_dataset(1);
  const std::vector<float> out = augmented(dataset, {});
  for (std::size_t i = 0; i < out.size(); ++i)
    CHECK(out[i] ==
          (static_cast<float>(dataset.pixels[i]) / 255.0f - dataset.mean[i % 3]) / dataset.stddev[i % 3]);
}

TEST_CASE("crop and flip equal: pad with black, cut the window, mirror it") {
  const ImageDataset dataset = counting_dataset(1);
  const int h = dataset.height, w = dataset.width;
  for (int dy : {-3, 0, 2, 4})
    for (int dx : {-6, -1, 0, 3})
      for (bool flip : {false, true}) {
        ImageDataset expected = dataset;
        for (int y = 0; y < h; ++y)
          for (int x = 0; x < w; ++x)
            for (int c = 0; c < 3; ++c) {
              const int sy = y + dy, sx = (flip ? w - 1 - x : x) + dx;
              const bool inside = sy >= 0 && sy < h && sx >= 0 && sx < w;
              expected.pixels[static_cast<std::size_t>((y * w + x) * 3 + c)] =
                  inside ? dataset.image_data(0)[(sy * w + sx) * 3 + c] : std::uint8_t(0);
            }
        Augmentation augmentation;
        augmentation.shift_x = dx;
        augmentation.shift_y = dy;
        augmentation.flip = flip;
        CHECK(augmented(dataset, augmentation) == augmented(expected, {}));
      }
}

TEST_CASE("augmentation is drawn uniformly and only where it is asked for") {
  std::map<int, int> shifts_x, shifts_y;
  std::set<std::pair<int, int>> pairs;
  int flips = 0;
  const AugmentOptions options{.crop_padding = 4, .flip = true};
  const int n = 9000;
  for (int i = 0; i < n; ++i) {
    const Augmentation a = draw_augmentation(options, 5, 2, i);
    ++shifts_x[a.shift_x];
    ++shifts_y[a.shift_y];
    pairs.insert({a.shift_x, a.shift_y});
    flips += a.flip;
  }
  CHECK(shifts_x.size() == 9);
  CHECK(shifts_x.begin()->first == -4);
  CHECK(shifts_y.size() == 9);
  CHECK(pairs.size() == 81);
  // Five standard deviations of a binomial around its mean.
  for (const auto& [shift, count] : shifts_x) CHECK(std::abs(count - n / 9) < 150);
  for (const auto& [shift, count] : shifts_y) CHECK(std::abs(count - n / 9) < 150);
  CHECK(std::abs(flips - n / 2) < 240);

  const Augmentation none = draw_augmentation({}, 5, 2, 1);
  CHECK(none.shift_x == 0);
  CHECK(none.shift_y == 0);
  CHECK_FALSE(none.flip);
}

TEST_CASE("augmentation changes with seed, epoch and picture, and one option does not disturb the other") {
  const AugmentOptions both{.crop_padding = 4, .flip = true}, crop{.crop_padding = 4, .flip = false};
  const auto shifts = [&](const AugmentOptions& options, std::uint64_t seed, std::int64_t epoch,
                          std::int64_t first) {
    std::vector<int> result;
    for (std::int64_t i = first; i < first + 20; ++i) {
      const Augmentation a = draw_augmentation(options, seed, epoch, i);
      result.push_back(a.shift_x);
      result.push_back(a.shift_y);
    }
    return result;
  };
  const auto base = shifts(both, 1, 0, 0);
  CHECK(shifts(both, 1, 0, 0) == base);
  CHECK(shifts(crop, 1, 0, 0) == base);
  CHECK(shifts(both, 2, 0, 0) != base);
  CHECK(shifts(both, 1, 1, 0) != base);
  CHECK(shifts(both, 1, 0, 20) != base);
}

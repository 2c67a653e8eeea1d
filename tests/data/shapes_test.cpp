#include "tttlib/data/shapes.hpp"

#include <cmath>
#include <set>
#include <string>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

using namespace ttt;

namespace {

/// Test accuracy of softmax regression on the raw pixels, trained by plain gradient descent on single
/// pictures.
double linear_accuracy(const ImageDataset& train, const ImageDataset& test, int epochs) {
  const auto inputs = static_cast<std::size_t>(train.image_bytes());
  std::vector<float> weights(10 * inputs), x(inputs);
  const auto scores = [&](const std::uint8_t* image) {
    std::array<float, 10> result{};
    for (std::size_t i = 0; i < inputs; ++i) x[i] = (static_cast<float>(image[i]) / 255.0f - 0.57f) / 0.265f;
    for (std::size_t c = 0; c < 10; ++c)
      for (std::size_t i = 0; i < inputs; ++i) result[c] += weights[c * inputs + i] * x[i];
    return result;
  };
  for (int epoch = 0; epoch < epochs; ++epoch)
    for (std::int64_t n = 0; n < train.size(); ++n) {
      auto p = scores(train.image_data(n));
      const float largest = *std::max_element(p.begin(), p.end());
      float sum = 0;
      for (float& v : p) sum += v = std::exp(v - largest);
      for (std::size_t c = 0; c < 10; ++c) {
        const bool is_label = static_cast<std::int64_t>(c) == train.labels[static_cast<std::size_t>(n)];
        const float step = 2e-5f * (p[c] / sum - (is_label ? 1.0f : 0.0f));
        for (std::size_t i = 0; i < inputs; ++i) weights[c * inputs + i] -= step * x[i];
      }
    }
  int right = 0;
  for (std::int64_t n = 0; n < test.size(); ++n) {
    const auto p = scores(test.image_data(n));
    right += std::max_element(p.begin(), p.end()) - p.begin() == test.labels[static_cast<std::size_t>(n)];
  }
  return right / static_cast<double>(test.size());
}

}  // namespace

TEST_CASE("make_shapes gives ten classes in turn") {
  const ImageDataset dataset = make_shapes(25, 32, 0, Split::train);
  CHECK(dataset.size() == 25);
  CHECK(dataset.pixels.size() == 25 * 32 * 32 * 3);
  CHECK(dataset.class_names.size() == 10);
  CHECK(std::set<std::string>(dataset.class_names.begin(), dataset.class_names.end()).size() == 10);
  for (std::int64_t i = 0; i < 25; ++i) CHECK(dataset.labels[static_cast<std::size_t>(i)] == i % 10);
  CHECK(make_shapes(0, 32, 0, Split::train).size() == 0);
}

TEST_CASE("a generated picture depends on seed, split, size and number alone") {
  const ImageDataset base = make_shapes(200, 32, 1, Split::train);
  const ImageDataset fewer = make_shapes(70, 32, 1, Split::train);
  CHECK(std::equal(fewer.pixels.begin(), fewer.pixels.end(), base.pixels.begin()));
  const int threads = num_threads();
  for (int n : {1, 3}) {
    set_num_threads(n);
    CHECK(make_shapes(200, 32, 1, Split::train).pixels == base.pixels);
  }
  set_num_threads(threads);
  CHECK(make_shapes(200, 32, 2, Split::train).pixels != base.pixels);

  // No picture is in both splits, and none twice in one.
  const ImageDataset test = make_shapes(200, 32, 1, Split::test);
  std::set<std::vector<std::uint8_t>> pictures;
  for (const ImageDataset* set : {&base, &test})
    for (std::int64_t i = 0; i < set->size(); ++i) pictures.insert(set->image(i).pixels);
  CHECK(pictures.size() == 400);
}

TEST_CASE("generated pictures come in any size and show the same scene") {
  const ImageDataset small = make_shapes(10, 16, 4, Split::test), large = make_shapes(10, 64, 4, Split::test);
  CHECK(large.width == 64);
  for (std::int64_t i = 0; i < 10; ++i) {
    // The mean of each 4 x 4 block of the large picture is close to the small picture's pixel: noise and
    // edges differ.
    double difference = 0;
    for (int y = 0; y < 16; ++y)
      for (int x = 0; x < 16; ++x) {
        double block = 0;
        for (int dy = 0; dy < 4; ++dy)
          for (int dx = 0; dx < 4; ++dx) block += large.image(i).at(4 * x + dx, 4 * y + dy)[1] / 16.0;
        difference += std::fabs(block - small.image(i).at(x, y)[1]) / 256;
      }
    CHECK(difference < 20);
  }
  CHECK(message_of<ShapeError>([] { make_shapes(-1, 8, 0, Split::train); }) ==
        "ttt::make_shapes: n must not be negative, size at least 16: n -1, size 8");
  CHECK(message_of<Error>([] { make_shapes(1, 100000000, 0, Split::train); }) ==
        "ttt::make_shapes: out of memory: 1 pictures of size 100000000");
  CHECK_THROWS_AS(make_shapes(std::int64_t(1) << 62, 32, 0, Split::train), Error);
}

TEST_CASE("mean and standard deviation of the generated set are the stated ones") {
  const ImageDataset dataset = make_shapes(3000, 32, 0, Split::train);
  double sum[3] = {}, squares[3] = {};
  for (std::size_t i = 0; i < dataset.pixels.size(); ++i) {
    const double value = dataset.pixels[i] / 255.0;
    sum[i % 3] += value;
    squares[i % 3] += value * value;
  }
  const double n = static_cast<double>(dataset.pixels.size()) / 3;
  for (std::size_t c = 0; c < 3; ++c) {
    CHECK(sum[c] / n == Approx(dataset.mean[c]).margin(0.02));
    CHECK(std::sqrt(squares[c] / n - sum[c] * sum[c] / n / n) == Approx(dataset.stddev[c]).margin(0.02));
  }
}

TEST_CASE("colour says nothing about the class, and a linear classifier on the pixels says little") {
  const ImageDataset train = make_shapes(3000, 32, 0, Split::train),
                     test = make_shapes(1000, 32, 0, Split::test);
  double mean[10][3] = {};
  for (std::int64_t i = 0; i < train.size(); ++i)
    for (std::int64_t p = 0; p < train.image_bytes(); ++p)
      mean[i % 10][p % 3] += train.image_data(i)[p] / 255.0 / 1024 / (static_cast<double>(train.size()) / 10);
  // 300 pictures a class, whose mean colours spread by about 0.17: five standard errors are 0.05.
  for (const auto& channels : mean)
    for (double value : channels) CHECK(value == Approx(0.57).margin(0.06));

  const double accuracy = linear_accuracy(train, test, 3);
  INFO("linear classifier: " << accuracy);
  CHECK(accuracy < 0.4);
}

#include "tttlib/core/random.hpp"

#include <thread>
#include <vector>

#include "catch.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/ops/create.hpp"

using namespace ttt;

namespace {
bool is(const PhiloxBlock& block, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  return block.word[0] == a && block.word[1] == b && block.word[2] == c && block.word[3] == d;
}
}  // namespace

TEST_CASE("Philox 4x32-10 gives the published answers") {
  // Known answers of the Random123 distribution (counter, key -> block).
  CHECK(is(philox(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  const std::uint64_t ones = ~std::uint64_t(0);
  CHECK(is(philox(ones, ones, ones), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  const std::uint64_t counter = 0x85a308d3243f6a88, stream = 0x0370734413198a2e,
                      key = 0x299f31d0a4093822;  // digits of π
  CHECK(is(philox(key, stream, counter), 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST_CASE("a stream does not depend on the number of threads") {
  const int threads = num_threads();
  std::vector<std::vector<float>> normals;
  std::vector<std::vector<double>> truncated;
  for (int n : {1, 2, 3}) {
    set_num_threads(n);
    manual_seed(7);
    normals.push_back(randn({50000}).to_vector());
    truncated.push_back(trunc_normal<double>({50000}).to_vector());
  }
  set_num_threads(threads);
  CHECK(normals[0] == normals[1]);
  CHECK(normals[0] == normals[2]);
  CHECK(truncated[0] == truncated[2]);
}

TEST_CASE("the seed decides, and each call takes a stream of its own") {
  manual_seed(1);
  const auto a = rand<double>({100}).to_vector(), b = rand<double>({100}).to_vector();
  manual_seed(1);
  CHECK(rand<double>({100}).to_vector() == a);
  CHECK(rand<double>({100}).to_vector() == b);
  CHECK(a != b);
  manual_seed(2);
  CHECK(rand<double>({100}).to_vector() != a);
}

TEST_CASE("a thread may draw from a generator of its own") {
  manual_seed(1);
  const auto a = rand<double>({100}).to_vector(), b = rand<double>({100}).to_vector();
  manual_seed(1);
  Generator mine;
  mine.seed = 1;
  {
    const GeneratorGuard guard(mine);
    CHECK(rand<double>({100}).to_vector() == a);
    std::thread([&] { CHECK(default_generator().next_stream == 0); }).join();  // others have the program's
  }
  CHECK(mine.next_stream == 1);
  CHECK(rand<double>({100}).to_vector() == a);
  const GeneratorGuard guard(mine);
  CHECK(rand<double>({100}).to_vector() == b);
}

namespace {
struct Moments {
  double mean = 0, variance = 0, skew = 0, kurtosis = 0, low = 1e300, high = -1e300;
  explicit Moments(const std::vector<double>& values) {
    const double n = static_cast<double>(values.size());
    for (double v : values) mean += v / n, low = std::fmin(low, v), high = std::fmax(high, v);
    for (double v : values) variance += (v - mean) * (v - mean) / n;
    for (double v : values) {
      const double z = (v - mean) / std::sqrt(variance);
      skew += z * z * z / n;
      kurtosis += z * z * z * z / n;
    }
  }
};
}  // namespace

TEST_CASE("moments of the distributions") {
  // Bounds are five standard errors of the estimate with n numbers.
  constexpr std::int64_t n = 200000;
  const double root = std::sqrt(static_cast<double>(n));
  manual_seed(3);
  const Moments uniform(rand<double>({n}).to_vector());
  CHECK(std::fabs(uniform.mean - 0.5) < 5 * std::sqrt(1.0 / 12) / root);
  CHECK(std::fabs(uniform.variance - 1.0 / 12) < 5 * std::sqrt(1.0 / 180) / root);
  CHECK(uniform.low >= 0);
  CHECK(uniform.high < 1);
  const Moments normal(randn<double>({n}).to_vector());
  CHECK(std::fabs(normal.mean) < 5 / root);
  CHECK(std::fabs(normal.variance - 1) < 5 * std::sqrt(2.0) / root);
  CHECK(std::fabs(normal.skew) < 5 * std::sqrt(6.0) / root);
  CHECK(std::fabs(normal.kurtosis - 3) < 5 * std::sqrt(24.0) / root);
  const Moments truncated(trunc_normal<double>({n}).to_vector());
  CHECK(truncated.low >= -2);
  CHECK(truncated.high <= 2);
  CHECK(truncated.high > 1.99);
  CHECK(std::fabs(truncated.mean) < 5 * 0.88 / root);
  CHECK(std::fabs(truncated.variance - 0.7737413) < 5 * 0.8 / root);  // 1 − 2·2φ(2)/(2Φ(2) − 1)
}

TEST_CASE("uniform never reaches its upper bound, even where the sum rounds up") {
  float largest = 0;
  for (float v : uniform<float>({1 << 16}, 1, 1.0000002384185791015625).to_vector())
    largest = std::fmax(largest, v);
  CHECK(largest == std::nextafter(1.0f, 2.0f));  // [1, 1 + 2 ulp) holds two numbers
}

TEST_CASE("uniform24 and uniform53 stay below one") {
  CHECK(uniform24(0xffffffff) < 1.0f);
  CHECK(uniform53(0xffffffff, 0xffffffff) < 1.0);
  CHECK(uniform24(0) == 0.0f);
  CHECK(uniform53(0, 0) == 0.0);
}

TEST_CASE("erf_inverse inverts erf") {
  for (double p : {-0.999999, -0.9, -0.3, -1e-9, 1e-12, 0.2, 0.7, 0.9999})
    CHECK(std::erf(erf_inverse(p)) == Approx(p).epsilon(1e-12));
}

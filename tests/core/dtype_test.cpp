#include "tttlib/core/dtype.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "catch.hpp"

using namespace ttt;

namespace {
float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
std::uint16_t rounded(std::uint32_t bits) { return bf16(from_bits(bits)).bits; }
}  // namespace

TEST_CASE("bf16 rounds to nearest, ties to even") {
  CHECK(rounded(0x3f800000) == 0x3f80);  // 1 is exact
  CHECK(rounded(0x3f807fff) == 0x3f80);  // just under the middle
  CHECK(rounded(0x3f808000) == 0x3f80);  // the middle, even below
  CHECK(rounded(0x3f808001) == 0x3f81);  // just over the middle
  CHECK(rounded(0x3f818000) == 0x3f82);  // the middle, even above
  CHECK(rounded(0xbf818000) == 0xbf82);  // and its negative
  CHECK(rounded(0x00000001) == 0x0000);  // the smallest denormal vanishes
  CHECK(rounded(0x80000000) == 0x8000);  // −0 stays −0
}

TEST_CASE("bf16 keeps infinities and NaN") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(bf16(inf).bits == 0x7f80);
  CHECK(bf16(-inf).bits == 0xff80);
  CHECK(bf16(std::numeric_limits<float>::max()).bits == 0x7f80);  // too large: rounds to infinity
  CHECK(std::isnan(float(bf16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isnan(float(bf16(from_bits(0x7f800001)))));  // a payload only in the bits that are dropped
  CHECK(std::isnan(float(bf16(from_bits(0xffffffff)))));
}

TEST_CASE("every bf16 survives the way to float and back") {
  int changed = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    bf16 value;
    value.bits = static_cast<std::uint16_t>(bits);
    const float wide = float(value);
    if (!std::isnan(wide) && bf16(wide).bits != value.bits) ++changed;
  }
  CHECK(changed == 0);
}

TEST_CASE("element types have names, sizes and conversions") {
  CHECK(std::string(to_string(dtype_of<float>)) == "float32");
  CHECK(std::string(to_string(dtype_of<double>)) == "float64");
  CHECK(std::string(to_string(dtype_of<bf16>)) == "bfloat16");
  CHECK(std::string(to_string(dtype_of<std::int64_t>)) == "int64");
  CHECK(size_of(DType::bfloat16) == 2);
  CHECK(size_of(DType::float32) == 4);
  CHECK(size_of(DType::float64) == 8);
  CHECK(size_of(DType::int64) == 8);
  CHECK(convert<std::int64_t>(-2.9) == -2);
  CHECK(convert<double>(bf16(1.5f)) == 1.5);
  CHECK(float(convert<bf16>(0.1)) == 0.10009765625f);
}

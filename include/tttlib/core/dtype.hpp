#pragma once
/// Element types: float, double, bf16, int64.

#include <cstdint>
#include <cstring>
#include <ostream>
#include <type_traits>

#include "tttlib/core/config.hpp"

namespace ttt {

/// The upper half of a float: 8 bits of exponent, 8 of significand. Ops on bf16 tensors compute in float and round once (backend/bf16.hpp).
struct bf16 {
  std::uint16_t bits = 0;

  bf16() = default;
  TTT_HD explicit bf16(float value) : bits(round(value)) {}
  TTT_HD operator float() const {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
  }
  TTT_HD friend bool operator==(bf16 a, bf16 b) { return float(a) == float(b); }

 private:
  /// Rounds to nearest, ties to even; NaN stays NaN.
  TTT_HD static std::uint16_t round(float value) {
    std::uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    if ((wide & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((wide >> 16) | 0x40U);
    wide += 0x7fffU + ((wide >> 16) & 1U);
    return static_cast<std::uint16_t>(wide >> 16);
  }
};

/// The type that numbers of T are computed and summed in, and that a number beside a tensor of T has: float for bf16, else T itself.
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<bf16> {
  using type = float;
};
template <class T>
using Wide = typename WideOf<T>::type;

/// Whether tensors of T have gradients: float, double and bf16.
template <class T>
inline constexpr bool is_floating = std::is_floating_point_v<Wide<T>>;

enum class DType : std::uint8_t { float32, float64, bfloat16, int64 };

/// Whether there are tensors of T.
template <class T>
inline constexpr bool is_element = is_floating<T> || std::is_same_v<T, std::int64_t>;

template <class T>
inline constexpr DType dtype_of = std::is_same_v<T, float>    ? DType::float32
                                  : std::is_same_v<T, double> ? DType::float64
                                  : std::is_same_v<T, bf16>   ? DType::bfloat16
                                                              : DType::int64;

inline const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::float64: return "float64";
    case DType::bfloat16: return "bfloat16";
    case DType::int64: return "int64";
  }
  return "?";
}
inline std::ostream& operator<<(std::ostream& out, DType dtype) { return out << to_string(dtype); }

/// Bytes per element.
inline std::size_t size_of(DType dtype) {
  return dtype == DType::bfloat16 ? 2 : dtype == DType::float32 ? 4 : 8;
}

/// Converts one element; bf16 goes through float.
template <class To, class From>
TTT_HD To convert(From value) {
  if constexpr (std::is_same_v<To, From>) return value;
  else if constexpr (std::is_same_v<From, bf16>) return static_cast<To>(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, bf16>) return bf16(static_cast<float>(value));
  else return static_cast<To>(value);
}

}  // namespace ttt

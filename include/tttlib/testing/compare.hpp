#pragma once
/// How far two tensors are apart.

#include <cmath>
#include <limits>

#include "tttlib/ops/create.hpp"

namespace ttt {

namespace detail {
/// Values of both as doubles, after checking that the shapes agree.
template <class T, class U>
std::pair<std::vector<T>, std::vector<U>> comparable(const char* op, const Tensor<T>& a, const Tensor<U>& b) {
  if (a.shape() != b.shape()) fail<ShapeError>(op, concat("shapes differ: a ", a.shape(), ", b ", b.shape()));
  return {a.to_vector(), b.to_vector()};
}
}  // namespace detail

/// ‖a − b‖ / ‖b‖ in the 2-norm; ‖a‖ where b is zero; infinity where a NaN is involved. Throws ShapeError if
/// the shapes differ.
template <class T, class U>
double relative_error(const Tensor<T>& a, const Tensor<U>& b) {
  const auto values = detail::comparable("relative_error", a, b);
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < values.first.size(); ++i) {
    const double x = convert<double>(values.first[i]), y = convert<double>(values.second[i]);
    difference += x == y ? 0 : (x - y) * (x - y);
    size += y * y;
  }
  const double error = std::sqrt(difference) / (size > 0 ? std::sqrt(size) : 1);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

/// True if |a − b| ≤ absolute + relative·|b| everywhere. Throws ShapeError if the shapes differ.
template <class T, class U>
bool all_close(const Tensor<T>& a, const Tensor<U>& b, double relative = 1e-5, double absolute = 1e-8) {
  const auto values = detail::comparable("all_close", a, b);
  for (std::size_t i = 0; i < values.first.size(); ++i) {
    const double x = convert<double>(values.first[i]), y = convert<double>(values.second[i]);
    if (x != y && !(std::abs(x - y) <= absolute + relative * std::abs(y))) return false;
  }
  return true;
}

}  // namespace ttt

#pragma once
/// Making tensors: constants, ranges, random numbers, data from the host; and reading them back.

#include <cmath>
#include <utility>

#include "tttlib/autograd/accumulate.hpp"
#include "tttlib/core/random.hpp"

namespace ttt {

/// Uninitialised tensor.
template <class T = float>
Tensor<T> empty(const Shape& shape, Device device = cpu()) {
  return Tensor<T>(shape, device);
}
template <class T = float>
Tensor<T> zeros(const Shape& shape, Device device = cpu()) {
  return full<T>(shape, 0, device);
}
template <class T = float>
Tensor<T> ones(const Shape& shape, Device device = cpu()) {
  return full<T>(shape, 1, device);
}

/// Copies host values, row-major. Throws ShapeError if their number does not fit the shape.
template <class T>
Tensor<T> from_data(const std::vector<T>& values, const Shape& shape, Device device = cpu()) {
  if (static_cast<std::int64_t>(values.size()) != numel(shape))
    fail<ShapeError>("from_data", concat(values.size(), " values for shape ", shape, " of ", numel(shape), " elements"));
  Tensor<T> host(shape);
  for (std::size_t i = 0; i < values.size(); ++i) host.data()[i] = values[i];
  return device.is_cpu() ? host : host.to(device);
}
/// One-dimensional tensor of the given values.
template <class T = float>
Tensor<T> tensor(std::initializer_list<Wide<T>> values) {
  std::vector<T> numbers;
  for (const Wide<T> value : values) numbers.push_back(convert<T>(value));
  return from_data(numbers, Shape{static_cast<std::int64_t>(values.size())});
}
/// Two-dimensional tensor of rows of one length. Throws ShapeError if they differ.
template <class T = float>
Tensor<T> tensor(std::initializer_list<std::initializer_list<Wide<T>>> rows) {
  std::vector<T> values;
  for (const auto& row : rows) {
    if (row.size() != rows.begin()->size())
      fail<ShapeError>("tensor", concat("rows differ in length: ", rows.begin()->size(), " and ", row.size()));
    for (const Wide<T> value : row) values.push_back(convert<T>(value));
  }
  const std::size_t columns = rows.size() == 0 ? 0 : rows.begin()->size();
  return from_data(values, Shape{static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(columns)});
}
/// A tensor without axes.
template <class T>
Tensor<T> scalar(T value, Device device = cpu()) {
  return full<T>(Shape{}, value, device);
}

/// start, start + step, … below stop: [n].
template <class T = float>
Tensor<T> arange(Wide<T> start, Wide<T> stop, Wide<T> step = 1) {
  if (step == 0) fail<ShapeError>("arange", concat("step must not be zero: start ", start, ", stop ", stop));
  const double count = std::ceil(static_cast<double>(stop - start) / static_cast<double>(step));
  if (!(count < 9e18)) fail<ShapeError>("arange", concat("no number of elements: start ", start, ", stop ", stop, ", step ", step));
  Tensor<T> y(Shape{count > 0 ? static_cast<std::int64_t>(count) : 0});
  for (std::int64_t i = 0; i < y.numel(); ++i) y.data()[i] = convert<T>(start + static_cast<Wide<T>>(i) * step);
  return y;
}
/// n numbers from start to stop, both included: [n].
template <class T = float>
Tensor<T> linspace(Wide<T> start, Wide<T> stop, std::int64_t n) {
  Tensor<T> y(Shape{n});
  for (std::int64_t i = 0; i < n; ++i)
    y.data()[i] = convert<T>(n == 1 ? start : start + (stop - start) * static_cast<Wide<T>>(i) / static_cast<Wide<T>>(n - 1));
  return y;
}
/// Identity matrix [n, n].
template <class T = float>
Tensor<T> eye(std::int64_t n) {
  Tensor<T> y = zeros<T>({n, n});
  for (std::int64_t i = 0; i < n; ++i) y.data()[i * n + i] = T(1);
  return y;
}

namespace detail {
/// Takes the next stream of the default generator and fills a new tensor from it.
template <class T, class Fill>
Tensor<T> random(const Shape& shape, Device device, const Fill& fill) {
  static_assert(is_floating<T>, "random numbers come in float, double and bf16");
  Tensor<T> y(shape, device);
  fill(default_generator().seed.load(), default_generator().next_stream.fetch_add(1), mutable_view(y));
  return y;
}
}  // namespace detail

/// Uniform in [0, 1); of bf16 rounded, so that 1 is possible.
template <class T = float>
Tensor<T> rand(const Shape& shape, Device device = cpu()) {
  return detail::random<T>(shape, device, [](auto seed, auto stream, auto y) { backend::uniform(seed, stream, 0, 1, y); });
}
/// Uniform in [low, high). Throws ShapeError unless low ≤ high.
template <class T = float>
Tensor<T> uniform(const Shape& shape, double low, double high, Device device = cpu()) {
  if (!(low <= high)) fail<ShapeError>("uniform", concat("low must not be above high: low ", low, ", high ", high));
  return detail::random<T>(shape, device,
                           [=](auto seed, auto stream, auto y) { backend::uniform(seed, stream, low, high, y); });
}
/// Standard normal.
template <class T = float>
Tensor<T> randn(const Shape& shape, Device device = cpu()) {
  return detail::random<T>(shape, device, [](auto seed, auto stream, auto y) { backend::normal(seed, stream, 0, 1, y); });
}
/// Normal of deviation `std`, cut to [−bound, bound] (default ±2, as in the reference's initialisation).
/// Throws ShapeError for a negative one.
template <class T = float>
Tensor<T> trunc_normal(const Shape& shape, double std = 1, double bound = 2, Device device = cpu()) {
  if (!(std >= 0 && bound >= 0)) fail<ShapeError>("trunc_normal", concat("std and bound must not be negative: std ", std, ", bound ", bound));
  return detail::random<T>(shape, device,
                           [=](auto seed, auto stream, auto y) { backend::truncated_normal(seed, stream, std, bound, y); });
}

/// The first axis along which elements are one number in memory; −1 if every element has its own.
inline std::int64_t expanded_axis(const TensorBase& x) {
  for (std::size_t i = 0; i < x.shape().size(); ++i)
    if (x.strides()[i] == 0 && x.shape()[i] > 1) return static_cast<std::int64_t>(i);
  return -1;
}

/// Overwrites `target` with the values of `source` (same shape): the only in-place change. Throws GradError while
/// recording a tracked target; a sweep that still needs the old values throws later.
template <class T>
void assign(Tensor<T>& target, const Tensor<T>& source) {
  if (target.is_tracked() && grad_mode())
    fail<GradError>("assign", concat("in-place change of a tracked tensor ", target.shape()), "do it under NoGradGuard");
  if (target.shape() != source.shape())
    fail<ShapeError>("assign", concat("shapes differ: target ", target.shape(), ", source ", source.shape()));
  require_same_device("assign", target, source);
  if (const std::int64_t axis = expanded_axis(target); axis >= 0)
    fail<ShapeError>("assign", concat("elements of the target share memory: ", target.shape(), " is expanded along axis ", axis),
                     "assign to the tensor before expand, or to a clone");
  const Tensor<T> values = source.storage() == target.storage() ? clone(source.detach()) : source;  // may overlap
  backend::copy(view(values), mutable_view(target));
  target.storage()->bump_version();
}

template <class T>
std::vector<T> Tensor<T>::to_vector() const {
  require_defined("to_vector", *this);
  const Tensor<T> host = to(cpu()).detach().contiguous();
  return std::vector<T>(host.data(), host.data() + host.numel());
}

template <class T>
T Tensor<T>::item() const {
  require_defined("item", *this);
  if (numel() != 1) fail<ShapeError>("item", concat("needs one element, the tensor is ", shape_));
  return to_vector()[0];
}

}  // namespace ttt

#include "tttlib/ops/movement.hpp"

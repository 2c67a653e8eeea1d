#pragma once
/// Shapes and strides: short lists of integers, and the pure functions on them (broadcasting, axes, counting).

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>
#include <type_traits>

#include "tttlib/core/error.hpp"

namespace ttt {

class Dims;
inline std::string to_string(const Dims& dims);

/// Up to eight integers without an allocation: a shape, strides, or a list of axes.
class Dims {
 public:
  static constexpr std::size_t max_rank = 8;

  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values) : Dims(values.begin(), values.end()) {}
  /// One axis, so that sum(x, 0) reads as it is written.
  template <class I>
    requires(std::is_integral_v<I> && !std::is_same_v<I, bool>)
  Dims(I value) { push_back(static_cast<std::int64_t>(value)); }  // NOLINT: implicit on purpose
  template <class It>
  Dims(It first, It last) {
    for (; first != last; ++first) push_back(static_cast<std::int64_t>(*first));
  }
  static Dims filled(std::size_t rank, std::int64_t value) {
    Dims d;
    for (std::size_t i = 0; i < rank; ++i) d.push_back(value);
    return d;
  }

  std::size_t size() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  /// Not checked, kernels read it in loops; `x.size(axis)` is.
  std::int64_t operator[](std::size_t i) const { return values_[i]; }
  std::int64_t& operator[](std::size_t i) { return values_[i]; }
  /// The first and the last. Throw ShapeError if there is none.
  std::int64_t front() const { return require_axes(), values_[0]; }
  std::int64_t back() const { return require_axes(), values_[rank_ - 1]; }
  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + rank_; }
  std::int64_t* begin() { return values_.data(); }
  std::int64_t* end() { return values_.data() + rank_; }

  void push_back(std::int64_t value) {
    if (rank_ == max_rank) [[unlikely]] fail_full(value);
    values_[rank_++] = value;
  }
  void insert(std::size_t position, std::int64_t value) {
    push_back(value);
    for (std::size_t i = rank_ - 1; i > position; --i) values_[i] = values_[i - 1];
    values_[position] = value;
  }
  void erase(std::size_t position) {
    for (std::size_t i = position; i + 1 < rank_; ++i) values_[i] = values_[i + 1];
    --rank_;
  }
  friend bool operator==(const Dims& a, const Dims& b) {
    if (a.rank_ != b.rank_) return false;
    for (std::size_t i = 0; i < a.rank_; ++i)
      if (a.values_[i] != b.values_[i]) return false;
    return true;
  }
  friend bool operator!=(const Dims& a, const Dims& b) { return !(a == b); }

 private:
  void require_axes() const {
    if (rank_ == 0) [[unlikely]] fail<ShapeError>("Shape", "no axes: [] has no first and no last one");
  }
  [[noreturn]] TTT_COLD void fail_full(std::int64_t value) const {
    fail<ShapeError>("Shape", concat("too many axes: ", to_string(*this), " and ", value, "; at most ", max_rank, " are supported"));
  }

  std::array<std::int64_t, max_rank> values_{};
  std::size_t rank_ = 0;
};

using Shape = Dims;
using Strides = Dims;
using Axes = Dims;

/// "[2, 3, 4]"
inline std::string to_string(const Dims& dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}
inline std::ostream& operator<<(std::ostream& out, const Dims& dims) { return out << to_string(dims); }

/// Number of elements of a shape; 1 for a scalar. Throws ShapeError if there are more than an int64 can count.
inline std::int64_t numel(const Shape& shape) {
  std::int64_t n = 1;
  for (std::int64_t d : shape)
    if (__builtin_mul_overflow(n, d, &n)) fail<ShapeError>("Shape", concat("too many elements: shape ", shape));
  return n;
}

/// The sum of two lengths. Throws ShapeError if it is more than an int64 can count.
inline std::int64_t add_lengths(const char* op, std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) fail<ShapeError>(op, concat("too many elements: ", a, " + ", b, " along one axis"));
  return sum;
}

/// Row-major strides of a shape, in elements.
inline Strides contiguous_strides(const Shape& shape) {
  Strides strides = Dims::filled(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * (shape[i] > 0 ? shape[i] : 1);
  return strides;
}

/// Turns a negative axis into its non-negative twin. Throws ShapeError, with the shape if that is known, if it is out of range.
inline std::size_t normalize_axis(const char* op, std::int64_t axis, std::size_t rank, const Shape* shape = nullptr) {
  const auto r = static_cast<std::int64_t>(rank);
  if (axis < -r || axis >= r) [[unlikely]]
    fail<ShapeError>(op, concat("axis out of range: axis ", axis, " of a tensor with ", rank, " axes", shape ? ": x " + to_string(*shape) : ""));
  return static_cast<std::size_t>(axis < 0 ? axis + r : axis);
}

/// The shape two operands broadcast to (NumPy's rule). Throws ShapeError naming the axis that clashes.
inline Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  const std::size_t rank = a.size() > b.size() ? a.size() : b.size();
  Shape result = Dims::filled(rank, 1);
  for (std::size_t i = 1; i <= rank; ++i) {
    const std::int64_t x = i <= a.size() ? a[a.size() - i] : 1;
    const std::int64_t y = i <= b.size() ? b[b.size() - i] : 1;
    if (x != y && x != 1 && y != 1)
      fail<ShapeError>(op, concat("shapes do not broadcast: a ", a, ", b ", b, "; axis -", i, " is ", x, " and ", y));
    result[rank - i] = x == 1 ? y : x;
  }
  return result;
}

}  // namespace ttt

#pragma once
/// Tensors as text that a person can read: aligned columns, large ones summarised, element type and shape at
/// the end.

#include <fmt/core.h>

#include <cmath>
#include <cstdio>
#include <ostream>
#include <string>
#include <vector>

#include "tttlib/core/tensor.hpp"

namespace ttt {

namespace detail {

/// Formats numbers alike, so that they line up: whole numbers as "3.", otherwise up to four decimals, and in
/// scientific notation where those would hide a number.
inline std::vector<std::string> format_floats(const std::vector<double>& values) {
  double largest = 0, smallest = HUGE_VAL;  // of the magnitudes that are not 0
  bool whole = true;
  for (double v : values) {
    if (!std::isfinite(v)) continue;
    largest = std::fmax(largest, std::fabs(v));
    if (v != 0) smallest = std::fmin(smallest, std::fabs(v));
    whole = whole && v == std::floor(v);
  }
  // Four decimals have to show a digit of every number, and not too many of the largest.
  const bool scientific = largest >= 1e7 || (largest > 0 && largest < 1e-3) || smallest < 1e-4 || (largest > 1e5 * smallest && !whole);
  int decimals = 0;  // as many of four as any number needs
  std::vector<std::string> texts;
  for (double v : values) {
    if (std::isnan(v)) texts.push_back("nan");  // its sign means nothing
    else if (!std::isfinite(v)) texts.push_back(fmt::format("{}", v));
    else if (scientific) texts.push_back(fmt::format("{:.4e}", v));
    else {
      texts.push_back(fmt::format("{:.4f}", v));
      const std::string& text = texts.back();
      const std::size_t last = text.find_last_not_of('0'), point = text.size() - 5;
      if (static_cast<int>(last - point) > decimals) decimals = static_cast<int>(last - point);
    }
  }
  if (!scientific)
    for (std::string& text : texts)
      if (text.find('.') != std::string::npos)
        text.resize(text.size() - 4 + static_cast<std::size_t>(decimals));
  return texts;
}

/// Writes one tensor, axis by axis.
template <class T>
class TensorPrinter {
 public:
  explicit TensorPrinter(const Tensor<T>& x)
      : x_(x.device().is_cpu() ? x.detach() : x.detach().to(cpu())), summarised_(is_long(x.shape())) {}

  std::string run() {
    collect(0, 0);
    if constexpr (std::is_same_v<T, std::int64_t>)
      for (std::int64_t value : values_) texts_.push_back(fmt::format("{}", value));
    else texts_ = format_floats(values_);
    for (const std::string& text : texts_)
      if (text.size() > width_) width_ = text.size();
    write(0);
    return std::move(out_);
  }

 private:
  using Value = std::conditional_t<std::is_same_v<T, std::int64_t>, std::int64_t, double>;
  static constexpr std::int64_t edge = 3, gap = -1;
  static constexpr std::size_t line_width = 100;

  /// Whether there are more than 1000 numbers, or lines of none.
  static bool is_long(const Shape& shape) {
    std::int64_t n = 1;
    for (std::int64_t length : shape)
      if (length > 0 && (length > 1000 || (n *= length) > 1000)) return true;
    return false;
  }

  /// Positions of an axis that are shown; `gap` stands for those that are not.
  std::vector<std::int64_t> shown(std::size_t axis) const {
    const std::int64_t n = x_.shape()[axis];
    std::vector<std::int64_t> positions;
    for (std::int64_t i = 0; i < n; ++i) {
      if (summarised_ && n > 2 * edge && i == edge) {
        positions.push_back(gap);
        i = n - edge;
      }
      positions.push_back(i);
    }
    return positions;
  }

  void collect(std::size_t axis, std::int64_t offset) {
    if (axis == x_.shape().size()) return values_.push_back(convert<Value>(x_.data()[offset]));
    for (std::int64_t i : shown(axis))
      if (i != gap) collect(axis + 1, offset + i * x_.strides()[axis]);
  }

  void write(std::size_t axis) {
    const std::size_t rank = x_.shape().size();
    if (axis == rank) {
      const std::string& text = texts_[next_++];
      out_.append(width_ - text.size(), ' ').append(text);
      return;
    }
    out_ += '[';
    bool first = true;
    for (std::int64_t i : shown(axis)) {
      if (!first && axis + 1 < rank) {
        start_line(rank - 1 - axis, axis);
      } else if (!first) {
        if (out_.size() - line_ + width_ + 1 > line_width) start_line(1, axis);
        else out_ += ' ';
      }
      first = false;
      if (i == gap) out_ += "…";
      else write(axis + 1);
    }
    out_ += ']';
  }

  void start_line(std::size_t newlines, std::size_t axis) {
    out_.append(newlines, '\n');
    line_ = out_.size();
    out_.append(axis + 1, ' ');
  }

  Tensor<T> x_;
  bool summarised_;
  std::vector<Value> values_;
  std::vector<std::string> texts_;
  std::size_t width_ = 0, next_ = 0, line_ = 0;
  std::string out_;
};

}  // namespace detail

/// The elements in brackets, then element type, shape and, off the CPU, the device. Above 1000 elements only
/// the first and last three of each axis are shown.
template <class T>
std::string to_string(const Tensor<T>& x) {
  if (!x.defined()) return "undefined tensor";
  return detail::TensorPrinter<T>(x).run() + "  " + to_string(x.dtype()) + " " + to_string(x.shape()) +
         (x.device().is_cpu() ? "" : " on " + to_string(x.device()));
}
template <class T>
std::ostream& operator<<(std::ostream& out, const Tensor<T>& x) {
  return out << to_string(x);
}
/// One tensor per line.
template <class T>
std::ostream& operator<<(std::ostream& out, const std::vector<Tensor<T>>& xs) {
  for (std::size_t i = 0; i < xs.size(); ++i) out << (i ? "\n" : "") << xs[i];
  return out;
}

/// Writes anything that has `operator<<`, and a newline, to standard output.
template <class X>
void print(const X& x) {
  std::string text;
  if constexpr (std::is_same_v<X, bool>) text = x ? "true" : "false";
  else if constexpr (std::is_floating_point_v<X>) text = fmt::format("{}", x);
  else text = concat(x);
  text += '\n';
  std::fwrite(text.data(), 1, text.size(), stdout);
}

}  // namespace ttt

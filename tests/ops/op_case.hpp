#pragma once
/// The table of ops: a case is an op, its naive definition in plain loops over doubles, and inputs.
/// `run_case` checks values in double, float and bf16, derivatives to the case's order, cotangents in bf16, and
/// rules fed with cotangents of another layout.

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/ops/ops.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"

namespace ops_test {

using namespace ttt;
using Index = std::vector<std::int64_t>;

// ------------------------------------------------------------------------------------- naive arrays and
// loops
struct Array {
  Shape shape;
  std::vector<double> values;
  explicit Array(const Shape& s) : shape(s), values(static_cast<std::size_t>(numel(s))) {}
  explicit Array(const Tensor<double>& x) : shape(x.shape()), values(x.to_vector()) {}

  /// Element at an index that may have more axes; axes of length 1 repeat.
  double& at(const Index& index) {
    std::size_t flat = 0;
    const std::size_t skip = index.size() - shape.size();
    for (std::size_t i = 0; i < shape.size(); ++i)
      flat = flat * static_cast<std::size_t>(shape[i]) +
             static_cast<std::size_t>(shape[i] == 1 ? 0 : index[skip + i]);
    return values[flat];
  }
  double at(const Index& index) const { return const_cast<Array*>(this)->at(index); }
};
using Arrays = std::vector<Array>;

inline void for_each_index(const Shape& shape, const std::function<void(const Index&)>& visit) {
  Index index(shape.size(), 0);
  for (std::int64_t n = numel(shape); n > 0; --n) {
    visit(index);
    for (std::size_t i = shape.size(); i-- > 0;) {
      if (++index[i] < shape[i]) break;
      index[i] = 0;
    }
  }
}
/// y[index] = value(index)
inline Array build(const Shape& shape, const std::function<double(const Index&)>& value) {
  Array y(shape);
  for_each_index(shape, [&](const Index& i) { y.at(i) = value(i); });
  return y;
}
using Reference = std::function<Array(const Arrays&)>;

/// f of one, two or three numbers, element by element, broadcast.
inline Reference each(double (*f)(double)) {
  return [f](const Arrays& x) { return build(x[0].shape, [&](const Index& i) { return f(x[0].at(i)); }); };
}
inline Reference each2(double (*f)(double, double)) {
  return [f](const Arrays& x) {
    return build(broadcast_shapes("test", x[0].shape, x[1].shape),
                 [&](const Index& i) { return f(x[0].at(i), x[1].at(i)); });
  };
}
/// f of all elements along `axes` (empty: all), one output each.
inline Reference reducing(const Axes& axes, bool keep, double (*f)(const std::vector<double>&)) {
  return [=](const Arrays& x) {
    const detail::ReducedShape to("test", x[0].shape, axes);
    std::map<std::size_t, std::vector<double>> groups;
    Array kept(to.kept);
    for (std::size_t i = 0; i < kept.values.size(); ++i) groups[i];
    for_each_index(x[0].shape, [&](const Index& i) {
      groups[static_cast<std::size_t>(&kept.at(i) - kept.values.data())].push_back(x[0].at(i));
    });
    for (const auto& [at, values] : groups) kept.values[at] = f(values);
    kept.shape = keep ? to.kept : to.dropped;
    return kept;
  };
}
/// f turns each line along `axis` into a line of the same length.
inline Reference along(std::int64_t axis,
                       const std::function<std::vector<double>(const std::vector<double>&)>& f) {
  return [=](const Arrays& x) {
    const std::size_t at = normalize_axis("test", axis, x[0].shape.size());
    Shape starts = x[0].shape;
    starts[at] = 1;
    Array y(x[0].shape);
    if (y.values.empty()) return y;
    for_each_index(starts, [&](const Index& start) {
      std::vector<double> line;
      Index i = start;
      for (i[at] = 0; i[at] < x[0].shape[at]; ++i[at]) line.push_back(x[0].at(i));
      line = f(line);
      for (i[at] = 0; i[at] < x[0].shape[at]; ++i[at]) y.at(i) = line[static_cast<std::size_t>(i[at])];
    });
    return y;
  };
}

// -------------------------------------------------------------------------------------------------- inputs
inline std::uint64_t next_seed() {
  static std::uint64_t seed = 100;
  return ++seed;
}
inline Tensor<double> normal(const Shape& shape) {
  Tensor<double> x(shape);
  backend::normal(next_seed(), 0, 0, 1, mutable_view(x));
  return x;
}
inline Tensor<double> between(double low, double high, const Shape& shape) {
  Tensor<double> x(shape);
  backend::uniform(next_seed(), 0, low, high, mutable_view(x));
  return x;
}
/// Either sign, at least 0.2 from 0: clear of a kink there.
inline Tensor<double> off_zero(const Shape& shape) {
  const Tensor<double> x = normal(shape);
  return x + sign(x) * 0.2;
}
/// No two elements closer than 0.25, in a scrambled order: clear of ties.
inline Tensor<double> spaced(const Shape& shape) {
  Tensor<double> x(shape);
  const std::int64_t n = x.numel();
  std::int64_t step = 7;
  while (n > 0 && n % step == 0) ++step;  // 7, or the next number that visits every residue
  for (std::int64_t i = 0; i < n; ++i)
    x.data()[i] = 0.25 * static_cast<double>((i * step + 3) % n) - 0.1 * static_cast<double>(n);
  return x;
}
/// The same values, axes stored in reverse order and every second element of memory unused.
template <class T>
Tensor<T> strided(const Tensor<T>& x) {
  Shape reversed(x.shape());
  for (std::size_t i = 0; i < reversed.size(); ++i) reversed[i] = x.shape()[reversed.size() - 1 - i];
  Strides strides = contiguous_strides(reversed), result = strides;
  for (std::size_t i = 0; i < strides.size(); ++i) result[i] = 2 * strides[strides.size() - 1 - i];
  const Tensor<T> memory = full<T>({2 * x.numel() + 1}, T(77));
  Tensor<T> y(memory.storage(), 1, x.shape(), result);
  backend::copy(view(x), mutable_view(y));
  return y;
}
/// The same layout in another element type.
template <class To>
Tensor<To> with_layout(const Tensor<double>& x) {
  Tensor<To> memory(Shape{static_cast<std::int64_t>(x.storage()->bytes() / sizeof(double))});
  const auto* from = static_cast<const double*>(x.storage()->data());
  for (std::int64_t i = 0; i < memory.numel(); ++i) memory.data()[i] = convert<To>(from[i]);
  return Tensor<To>(memory.storage(), x.offset(), x.shape(), x.strides());
}

// --------------------------------------------------------------------------------------------------- cases
template <class T>
using Op = std::function<Tensor<T>(const Tensors<T>&)>;

struct OpCase {
  std::string name;
  Op<double> op;
  Op<float> op_float;
  Op<bf16> op_bf16;
  Reference reference;
  std::vector<Tensors<double>> inputs;
  int order = 2;
  double float_tolerance =
      1e-5;  // 2-norm, relative: a few float roundings (6e-8) times the conditioning of the op
  double bf16_roundings = 2;  // of a value, times the conditioning; 4 and 8 times as many of a first and second cotangent
  int bf16_order = 2;         // 1 where second derivatives are small differences of large numbers
};

/// `op` is a generic lambda on a list of tensors.
template <class F>
OpCase op_case(std::string name, F op, Reference reference, std::vector<Tensors<double>> inputs,
               int order = 2, double float_tolerance = 1e-5, double bf16_roundings = 2, int bf16_order = 2) {
  return {std::move(name), op, op, op, std::move(reference), std::move(inputs), order, float_tolerance, bf16_roundings, bf16_order};
}

/// Whether x is y to a relative error of the 2-norm, or, where y is small by cancellation, to that much of 1.
inline bool close_in_bf16(const Tensor<bf16>& x, const Tensor<double>& y, double roundings) {
  const double error = roundings * 0x1p-8;  // a rounding moves a number by 2^-8 of itself at most
  return relative_error(x, y) <= error || amax(abs(sub(cast<double>(x).to(cpu()), y))).item() <= error;
}
/// The op with its first and second cotangents in bf16, beside those of the same numbers in double; `place` moves
/// tensors to a device.
template <class Place>
void check_bf16(const OpCase& c, const Tensors<double>& xs, const Place& place) {
  const auto again = [](const auto& f) {  // random ops draw the same numbers every time
    return [&f](const auto& x) {
      default_generator().next_stream = 7;
      return f(x);
    };
  };
  const auto op = again(c.op);
  const auto op_bf16 = again(c.op_bf16);
  Tensors<bf16> halves, directions;
  Tensors<double> wide, wide_directions;
  for (const Tensor<double>& x : xs) {
    const Tensor<bf16> half = with_layout<bf16>(x), direction = cast<bf16>(normal(x.shape()));
    halves.push_back(place(half)), directions.push_back(place(direction));
    wide.push_back(cast<double>(half)), wide_directions.push_back(cast<double>(direction));
  }
  const Tensor<double> expected = op(wide);
  CHECK(close_in_bf16(op_bf16(halves), expected, c.bf16_roundings));
  const Tensor<bf16> u = cast<bf16>(normal(expected.shape()));
  const Tensors<double> first = vjp(op, wide, cast<double>(u));
  const Tensors<bf16> first_bf16 = vjp(op_bf16, halves, place(u));
  for (std::size_t i = 0; i < xs.size(); ++i) CHECK(close_in_bf16(first_bf16[i], first[i], 4 * c.bf16_roundings));
  if (c.bf16_order == 1) return;
  const auto second_of = [](const auto& f, const auto& inputs, const auto& cotangent, const auto& directions) {
    return grad([&](const auto& zs) {  // Σ ⟨cotangent of input i, direction i⟩
      const auto d = vjp(f, zs, cotangent);
      auto total = sum(mul(d[0], directions[0]));
      for (std::size_t i = 1; i < d.size(); ++i) total = add(total, sum(mul(d[i], directions[i])));
      return total;
    })(inputs);
  };
  const Tensors<double> second = second_of(op, wide, cast<double>(u), wide_directions);
  const Tensors<bf16> second_bf16 = second_of(op_bf16, halves, place(u), directions);
  for (std::size_t i = 0; i < xs.size(); ++i) CHECK(close_in_bf16(second_bf16[i], second[i], 8 * c.bf16_roundings));
}

inline void run_case(const OpCase& c) {
  for (std::size_t k = 0; k < c.inputs.size(); ++k) {
    const Tensors<double>& xs = c.inputs[k];
    std::string shapes;
    Arrays arrays;
    for (const Tensor<double>& x : xs) {
      shapes += to_string(x.shape()) + (x.is_contiguous() ? " " : "(strided) ");
      arrays.emplace_back(x);
    }
    INFO(c.name << ", inputs " << k << ": " << shapes);
    const Tensor<double> y = c.op(xs);
    const Array expected = c.reference(arrays);
    REQUIRE(y.shape() == expected.shape);
    CHECK(relative_error(y, from_data(expected.values, expected.shape)) <=
          1e-12);  // sums of up to ~1000 terms in double

    Tensors<float> floats;
    Tensors<double> rounded;
    for (const Tensor<double>& x : xs) {
      floats.push_back(with_layout<float>(x));
      rounded.push_back(cast<double>(floats.back()));
    }
    CHECK(relative_error(c.op_float(floats), c.op(rounded)) <= c.float_tolerance);
    check_bf16(c, xs, [](const Tensor<bf16>& x) { return x; });

    const GradCheck check = check_grads(c.op, xs, c.order);
    INFO(check);
    CHECK(check.ok);

    const Tensor<double> u = normal(y.shape());
    const Tensors<double> plain = vjp(c.op, xs, u), other = vjp(c.op, xs, strided(u));
    for (std::size_t i = 0; i < xs.size(); ++i) CHECK(relative_error(other[i], plain[i]) <= 1e-12);
  }
}

/// All tables, so that one test can ask which ops have a case.
inline std::map<std::string, std::vector<OpCase> (*)()>& tables() {
  static std::map<std::string, std::vector<OpCase> (*)()> all;
  return all;
}
/// Registers a table and runs each of its cases as one section.
struct Table {
  Table(const char* name, std::vector<OpCase> (*cases)()) { tables()[name] = cases; }
};

}  // namespace ops_test

#define TTT_OP_TABLE(table_name, cases)                                \
  static const ops_test::Table registered_##cases(table_name, &cases); \
  TEST_CASE("ops: " table_name) {                                      \
    for (const ops_test::OpCase& c : cases()) {                        \
      DYNAMIC_SECTION(c.name) { ops_test::run_case(c); }               \
    }                                                                  \
  }

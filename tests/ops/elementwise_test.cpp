// Elementwise ops against the formulas of <cmath>.
#include <cmath>

#include "op_case.hpp"

namespace {
using namespace ops_test;

/// A scalar, a size-1 axis, an empty axis, a strided view, and enough elements for the vector loop and its
/// tail.
std::vector<Tensors<double>> singles(const std::function<Tensor<double>(const Shape&)>& make) {
  return {{make({})}, {make({1, 3})}, {make({0, 2})}, {strided(make({2, 3, 4}))}, {make({37})}};
}
std::vector<Tensors<double>> pairs(const std::function<Tensor<double>(const Shape&)>& make) {
  return {{make({}), make({})},         {make({4, 1}), make({3})}, {make({2, 1, 3}), strided(make({2, 3}))},
          {make({0, 2}), make({1, 2})}, {make({35}), make({})},    {strided(make({3, 5})), make({3, 5})}};
}
double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }
double silu_slope(double x) { return sigmoid_of(x) * (1 + x * (1 - sigmoid_of(x))); }

std::vector<OpCase> arithmetic() {
  const auto positive = [](const Shape& s) { return between(0.5, 2, s); };
  return {
      op_case(
          "neg", [](const auto& x) { return neg(x[0]); }, each([](double x) { return -x; }), singles(normal),
          3),
      op_case(
          "add", [](const auto& x) { return x[0] + x[1]; }, each2([](double a, double b) { return a + b; }),
          pairs(normal), 3),
      op_case(
          "sub", [](const auto& x) { return x[0] - x[1]; }, each2([](double a, double b) { return a - b; }),
          pairs(normal), 3),
      op_case(
          "mul", [](const auto& x) { return x[0] * x[1]; }, each2([](double a, double b) { return a * b; }),
          pairs(normal), 3),
      op_case(
          "div", [](const auto& x) { return x[0] / x[1]; }, each2([](double a, double b) { return a / b; }),
          pairs(off_zero), 3, 1e-5, 4),
      op_case(
          "add_scalar", [](const auto& x) { return 2 + (x[0] - 0.5f); },
          each([](double x) { return x + 1.5; }), singles(normal), 3),
      op_case(
          "mul_scalar", [](const auto& x) { return 3 * x[0] / 4; }, each([](double x) { return 0.75 * x; }),
          singles(normal), 3),
      op_case(
          "scalar_minus", [](const auto& x) { return 2 - x[0]; }, each([](double x) { return 2 - x; }),
          singles(normal)),
      op_case(
          "scalar_over", [](const auto& x) { return 2 / x[0]; }, each([](double x) { return 2 / x; }),
          singles(positive)),
      op_case(
          "square", [](const auto& x) { return square(x[0]); }, each([](double x) { return x * x; }),
          singles(normal), 3),
      op_case(
          "reciprocal", [](const auto& x) { return reciprocal(x[0]); }, each([](double x) { return 1 / x; }),
          singles(positive), 3),
      op_case(
          "reciprocal_or_zero", [](const auto& x) { return reciprocal_or_zero(x[0]); },
          each([](double x) { return 1 / x; }), singles(positive), 3),
      op_case(
          "pow_3", [](const auto& x) { return pow(x[0], 3); }, each([](double x) { return x * x * x; }),
          singles(normal), 3),
      op_case(
          "pow_-1.5", [](const auto& x) { return pow(x[0], -1.5); },
          each([](double x) { return std::pow(x, -1.5); }), singles(positive), 3),
      op_case(
          "pow_tensor", [](const auto& x) { return pow(x[0], x[1]); },
          each2([](double a, double b) { return std::pow(a, b); }), pairs(positive), 3, 1e-5, 4),
  };
}
TTT_OP_TABLE("arithmetic", arithmetic)

std::vector<OpCase> functions() {
  const auto positive = [](const Shape& s) { return between(0.5, 2, s); };
  return {
      op_case(
          "exp", [](const auto& x) { return exp(x[0]); }, each([](double x) { return std::exp(x); }),
          singles(normal), 3),
      op_case(
          "log", [](const auto& x) { return log(x[0]); }, each([](double x) { return std::log(x); }),
          singles(positive), 3),
      op_case(
          "log1p", [](const auto& x) { return log1p(x[0]); }, each([](double x) { return std::log1p(x); }),
          singles(positive), 3),
      op_case(
          "sqrt", [](const auto& x) { return sqrt(x[0]); }, each([](double x) { return std::sqrt(x); }),
          singles(positive), 3),
      op_case(
          "rsqrt", [](const auto& x) { return rsqrt(x[0]); }, each([](double x) { return 1 / std::sqrt(x); }),
          singles(positive), 3),
      op_case(
          "sin", [](const auto& x) { return sin(x[0]); }, each([](double x) { return std::sin(x); }),
          singles(normal), 3),
      op_case(
          "cos", [](const auto& x) { return cos(x[0]); }, each([](double x) { return std::cos(x); }),
          singles(normal), 3),
      op_case(
          "tanh", [](const auto& x) { return tanh(x[0]); }, each([](double x) { return std::tanh(x); }),
          singles(normal), 3),
      op_case(
          "sigmoid", [](const auto& x) { return sigmoid(x[0]); }, each(sigmoid_of), singles(normal), 3),
      op_case(
          "erf", [](const auto& x) { return erf(x[0]); }, each([](double x) { return std::erf(x); }),
          singles(normal), 3),
      op_case(
          "softplus", [](const auto& x) { return softplus(x[0]); },
          each([](double x) { return std::log1p(std::exp(x)); }), singles(normal), 3),
      op_case(
          "abs", [](const auto& x) { return abs(x[0]); }, each([](double x) { return std::abs(x); }),
          singles(off_zero)),
      op_case(
          "sign", [](const auto& x) { return sign(x[0]); }, each([](double x) { return x > 0 ? 1.0 : -1.0; }),
          singles(off_zero)),
  };
}
TTT_OP_TABLE("functions", functions)

std::vector<OpCase> activations() {
  return {
      op_case(
          "relu", [](const auto& x) { return relu(x[0]); }, each([](double x) { return x > 0 ? x : 0.0; }),
          singles(off_zero)),
      op_case(
          "silu", [](const auto& x) { return silu(x[0]); }, each([](double x) { return x * sigmoid_of(x); }),
          singles(normal), 4),
      op_case(
          "silu_grad", [](const auto& x) { return silu_grad(x[0]); }, each(silu_slope), singles(normal), 3),
      op_case(
          "gelu", [](const auto& x) { return gelu(x[0]); },
          each([](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }), singles(normal), 3),
      op_case(
          "gelu_tanh", [](const auto& x) { return gelu_tanh(x[0]); }, each([](double x) {
            return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
          }),
          singles(normal), 3, 1e-5, 2, 1),
  };
}
TTT_OP_TABLE("activations", activations)

std::vector<OpCase> choices() {
  // Both operands from one spaced set, so that no two are close.
  std::vector<Tensors<double>> apart;
  for (const Shape& shape : {Shape{2, 1}, Shape{2, 12}, Shape{2, 0}}) {
    const Tensor<double> both = spaced(shape);
    apart.push_back({select(both, 0, 0), strided(select(both, 0, 1))});
  }
  const Tensor<double> values = spaced({24});
  apart.push_back({slice(values, 0, 0, 4).reshape({4, 1}), slice(values, 0, 4, 7)});
  apart.push_back({select(values, 0, 0), select(values, 0, 1)});
  const Tensor<double> mask = from_data<double>({1, 0, 1}, {3});
  return {
      op_case(
          "maximum", [](const auto& x) { return maximum(x[0], x[1]); },
          each2([](double a, double b) { return a > b ? a : b; }), apart),
      op_case(
          "minimum", [](const auto& x) { return minimum(x[0], x[1]); },
          each2([](double a, double b) { return a < b ? a : b; }), apart),
      op_case(
          "clamp", [](const auto& x) { return clamp(x[0], -0.1f, 0.1f); },
          each([](double x) { return x < 0 ? -double(0.1f) : double(0.1f); }), singles(off_zero)),
      op_case(
          "clamp_inside", [](const auto& x) { return clamp(x[0], -9, 9); }, each([](double x) { return x; }),
          singles(normal)),
      op_case(
          "add_scaled",
          [](const auto& x) {
            using T = typename std::decay_t<decltype(x[0])>::value_type;
            return add_scaled(x[0], square(x[1]), reshape(tensor<T>({3, 0}), {2, 1}).to(x[0].device()));
          },
          [](const Arrays& x) {
            return build(x[0].shape, [&](const Index& i) {
              return x[0].at(i) + (i[i.size() - 2] == 0 ? 3 : 0) * x[1].at(i) * x[1].at(i);
            });
          },
          {{normal({2, 3}), normal({2, 3})},
           {normal({4, 2, 5}), normal({2, 1})},
           {strided(normal({2, 3})), normal({1, 3})},
           {normal({2, 0}), normal({2, 0})}}, 3, 1e-5, 4),
      op_case(
          "where",
          [](const auto& x) {
            using T = typename std::decay_t<decltype(x[0])>::value_type;
            return where(tensor<T>({1, 0, 1}).to(x[0].device()), square(x[0]), x[1]);
          },
          [mask](const Arrays& x) {
            const Array condition(mask);
            return build(
                broadcast_shapes("test", {3}, broadcast_shapes("test", x[0].shape, x[1].shape)),
                [&](const Index& i) { return condition.at(i) != 0 ? x[0].at(i) * x[0].at(i) : x[1].at(i); });
          },
          {{normal({2, 3}), normal({2, 3})},
           {normal({}), normal({1})},
           {strided(normal({4, 3})), normal({4, 1})},
           {normal({0, 3}), normal({3})}}),
  };
}
TTT_OP_TABLE("choices", choices)

TEST_CASE("ops: comparisons") {
  const auto a = tensor<double>({1, 2, 3}), b = tensor<double>({2, 2, 2});
  CHECK(eq(a, b).to_vector() == std::vector<double>{0, 1, 0});
  CHECK(ne(a, b).to_vector() == std::vector<double>{1, 0, 1});
  CHECK(lt(a, b).to_vector() == std::vector<double>{1, 0, 0});
  CHECK(le(a, b).to_vector() == std::vector<double>{1, 1, 0});
  CHECK(gt(a, b).to_vector() == std::vector<double>{0, 0, 1});
  CHECK(ge(a, b).to_vector() == std::vector<double>{0, 1, 1});
  CHECK(lt(a, scalar(2.5)).to_vector() == std::vector<double>{1, 1, 0});
  auto leaf = tensor<double>({1, 2, 3});
  leaf.requires_grad();
  CHECK_FALSE(lt(leaf, b).is_tracked());
}

TEST_CASE("ops: small values of softplus and of the binary cross entropy keep their digits") {
  const auto x = tensor<double>({-2, -10, -20, -40, -80}), one = ones_like(x), zero = zeros_like(x);
  std::vector<double> values;
  for (const double v : x.to_vector()) values.push_back(std::log1p(std::exp(v)));
  const auto expected = from_data(values, x.shape());
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const auto at = [i](const auto& y) { return select(y, 0, i); };
    CHECK(relative_error(at(softplus(x)), at(expected)) <= 1e-15);
    CHECK(relative_error(at(softplus(cast<float>(x))), at(expected)) <= 3e-7);  // exp is right to 1.2e-7
    CHECK(relative_error(at(bce_with_logits(x, zero, Reduce::none)), at(expected)) <= 1e-15);
    CHECK(relative_error(at(bce_with_logits(-x, one, Reduce::none)), at(expected)) <= 1e-15);
    CHECK(relative_error(at(bce_with_logits(cast<float>(-x), cast<float>(one), Reduce::none)), at(expected)) <= 3e-7);
  }
}

TEST_CASE("ops: log1p of floats has their precision everywhere") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const auto x = tensor({-1, -0.999f, -0.6f, -1e-3f, -1e-8f, 1e-30f, 1e-8f, 0.017f, 0.414f, 0.4143f, 1, 1.724f, 100, 1e30f, inf});
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const auto number = select(x, 0, i);
    INFO(number.item());
    const double expected = std::log1p(static_cast<double>(number.item()));
    CHECK(relative_error(log1p(number), scalar(expected)) <= 9e-8);  // of every 37th float the worst is 8.3e-8
  }
  CHECK(std::isnan(log1p(scalar(-2.f)).item()));
  CHECK(std::isnan(log1p(scalar(NAN)).item()));
}

TEST_CASE("ops: extreme arguments stay finite") {
  const auto x = tensor<double>({-1000, -40, 0, 40, 1000});
  CHECK(sigmoid(x).to_vector()[0] == 0.0);
  CHECK(sigmoid(x).to_vector()[4] == 1.0);
  CHECK(softplus(x).to_vector()[4] == 1000.0);
  for (const auto& f : {Op<double>([](const auto& v) { return sigmoid(v[0]); }),
                        Op<double>([](const auto& v) { return tanh(v[0]); }),
                        Op<double>([](const auto& v) { return silu(v[0]); }),
                        Op<double>([](const auto& v) { return gelu(v[0]); }),
                        Op<double>([](const auto& v) { return gelu_tanh(v[0]); }),
                        Op<double>([](const auto& v) { return softplus(v[0]); }),
                        Op<double>([](const auto& v) { return log_softmax(v[0]); })}) {
    CHECK(backend::all_finite(view(f({x}))));
    CHECK(backend::all_finite(view(vjp(f, Tensors<double>{x}, ones_like(x))[0])));
  }
}

}  // namespace

// vjp, value_and_grad, hvp and jacobian against closed forms.
#include "helpers.hpp"
#include "tttlib/ops/composed/jacobian.hpp"

using namespace ttt;

namespace {
Tensor<double> cubes(const Tensor<double>& x) { return sum(x * x * x); }
Tensor<double> squares_of_list(const Tensors<double>& xs) { return sum(xs[0] * xs[0]); }
}  // namespace

TEST_CASE("vjp of a matrix product") {
  const NoLeaks leaks;
  manual_seed(5);
  const auto a = randn<double>({3, 4}), b = randn<double>({4, 2}), u = randn<double>({3, 2});
  const auto f = [](const Tensors<double>& x) { return matmul(x[0], x[1]); };
  const Tensors<double> g = vjp(f, Tensors<double>{a, b}, u);
  CHECK(difference(g[0], matmul(u, transpose(b))) < 1e-14);
  CHECK(difference(g[1], matmul(transpose(a), u)) < 1e-14);
}

TEST_CASE("value_and_grad in its three forms") {
  const NoLeaks leaks;
  const auto x = tensor<double>({1, 2}), y = tensor<double>({3, 4});
  const auto one = value_and_grad([](const Tensor<double>& a) { return sum(a * a); })(x);
  CHECK(one.first.item() == 5);
  CHECK(has_values(one.second, {2, 4}));
  const auto two =
      value_and_grad([](const Tensor<double>& a, const Tensor<double>& b) { return sum(a * b); })(x, y);
  CHECK(two.first.item() == 11);
  CHECK(has_values(two.second[0], {3, 4}));
  CHECK(has_values(two.second[1], {1, 2}));
  const auto list =
      value_and_grad([](const Tensors<double>& a) { return sum(a[0] * a[1]); })(Tensors<double>{x, y});
  CHECK(has_values(list.second[1], {1, 2}));
}

TEST_CASE("the value of value_and_grad can be differentiated") {
  const NoLeaks leaks;
  const auto f = [](const Tensor<double>& x) {
    const auto [value, gradient] = value_and_grad([](const Tensor<double>& a) { return sum(a * a * a); })(x);
    return value + sum(gradient);  // x³ + 3x²
  };
  CHECK(has_values(grad(f)(tensor<double>({2})), {24}));  // 3x² + 6x
}

TEST_CASE("hvp of a quadratic form and of a quartic") {
  const NoLeaks leaks;
  manual_seed(6);
  const auto a = randn<double>({4, 4}), x = randn<double>({4}), v = randn<double>({4});
  const auto form = [&](const Tensor<double>& x) { return sum(x * matmul(a, x)); };
  CHECK(difference(hvp(form, x, v), matmul(a + transpose(a), v)) < 1e-14);
  const auto quartic = [](const Tensor<double>& x) { return sum(square(square(x))); };
  CHECK(difference(hvp(quartic, x, v), x * x * v * 12.0) < 1e-14);
}

TEST_CASE("what a function under grad does to its captures is seen") {  // g++ 12 lost it where it optimised
  int gradients = 0, values = 0;
  const auto x = tensor<double>({1, 2});
  grad([&](const Tensor<double>& x) {
    ++gradients;
    return sum(x * x);
  })(x);
  value_and_grad([&](const Tensors<double>& xs) {
    ++values;
    return sum(xs[0] * xs[0]);
  })(Tensors<double>{x});
  CHECK(gradients == 1);
  CHECK(values == 1);
}

TEST_CASE("a plain function has a gradient") {
  const auto x = tensor<double>({1, 2});
  CHECK(has_values(grad(cubes)(x), {3, 12}));
  CHECK(has_values(grad(squares_of_list)(Tensors<double>{x})[0], {2, 4}));
}

TEST_CASE("jacobian") {
  const NoLeaks leaks;
  manual_seed(7);
  const auto a = randn<double>({3, 4}), x = randn<double>({4});
  const auto linear_map = [&](const Tensor<double>& x) { return matmul(a, x); };
  CHECK(difference(jacobian(linear_map, x), a) < 1e-15);
  const auto matrix = randn<double>({2, 3});
  const auto transposed = jacobian([](const Tensor<double>& m) { return transpose(m); }, matrix);  // [6, 6]
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 3; ++j)
      CHECK(select(select(transposed, 0, j * 2 + i), 0, i * 3 + j).item() == 1);
  CHECK(sum(transposed).item() == 6);
  // d/dx Σ J(x ⊙ x) = d/dx Σ 2x = 2: a jacobian is differentiable as well.
  const auto outer = [](const Tensor<double>& x) {
    return sum(jacobian([](const Tensor<double>& y) { return y * y; }, x));
  };
  CHECK(has_values(grad(outer)(tensor<double>({1, 2, 3})), {2, 2, 2}));
  CHECK(jacobian([](const Tensor<double>& y) { return slice(y, 0, 0, 0); }, x).shape() == Shape{0, 4});
}

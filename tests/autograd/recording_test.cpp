// The recording rules: who records, what a sweep meets, and which derivatives survive.
#include "helpers.hpp"

using namespace ttt;

namespace {
Tensor<double> cube(const Tensor<double>& x) { return sum(x * x * x); }
}  // namespace

TEST_CASE("backward, grad(outputs, inputs) and grad(f) agree to the bit through an inner step") {
  const NoLeaks leaks;
  manual_seed(1);
  const TttExample step;
  const Tensors<double> by_function = grad(TttExample::loss)(step.all());

  Tensors<double> leaves;
  for (const auto& x : step.all()) leaves.push_back(clone(x).requires_grad());
  const Tensors<double> by_list = grad(Tensors<double>{TttExample::loss(leaves)}, leaves);
  TttExample::loss(leaves).backward();

  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(same_bits(by_function[i], by_list[i]));
    CHECK(same_bits(by_function[i], leaves[i].grad()));
    double size = 0;
    for (double v : by_function[i].to_vector()) size += std::fabs(v);
    CHECK(size > 0.1);  // k and v are reached through the inner gradient only
  }
}

TEST_CASE("the gradient through an inner step is the derivative of the whole") {
  const NoLeaks leaks;
  manual_seed(2);
  const TttExample step;
  const Tensors<double> g = grad(TttExample::loss)(step.all());
  for (std::size_t i = 0; i < 4; ++i) {
    const auto direction = randn<double>(step.all()[i].shape());
    const double h = 1e-5;
    Tensors<double> up = step.all(), down = step.all();
    up[i] = up[i] + direction * h;
    down[i] = down[i] - direction * h;
    const double numeric = (TttExample::loss(up).item() - TttExample::loss(down).item()) / (2 * h);
    CHECK(sum(g[i] * direction).item() == Approx(numeric).epsilon(1e-6));
  }
}

TEST_CASE("no_grad around an inner grad: same output, a constant, nothing left alive") {
  const NoLeaks leaks;
  manual_seed(3);
  TttExample step;
  step.w.requires_grad();
  step.k.requires_grad();
  const auto recorded = TttExample::output(step.q, step.k, step.v, step.w);
  CHECK(recorded.is_tracked());
  const std::int64_t before = live_nodes();
  const auto constant = no_grad([&] { return TttExample::output(step.q, step.k, step.v, step.w); });
  CHECK_FALSE(constant.is_tracked());
  CHECK(live_nodes() == before);
  CHECK(same_bits(constant, recorded));
}

TEST_CASE("grad of constants returns constants") {
  const NoLeaks leaks;
  const auto g = grad(cube)(tensor<double>({1, 2}));
  CHECK_FALSE(g.is_tracked());
  CHECK(has_values(g, {3, 12}));
  const auto result = value_and_grad(cube)(tensor<double>({1, 2}));
  CHECK_FALSE(result.first.is_tracked());
  CHECK(result.first.item() == 9);
}

TEST_CASE("a captured tensor gets its gradient through the outer levels") {
  const NoLeaks leaks;
  // f(a) = d/dx (a x³) at x = 2 is 12a; its derivative is 12.
  const auto outer = [](const Tensor<double>& a) {
    return sum(grad([&](const Tensor<double>& x) { return sum(a * x * x * x); })(tensor<double>({2})));
  };
  CHECK(has_values(grad(outer)(tensor<double>({5})), {12}));
  auto parameter = tensor<double>({5}).requires_grad();
  outer(parameter).backward();
  CHECK(has_values(parameter.grad(), {12}));
  auto unused = no_grad([&] { return outer(parameter); });
  CHECK_FALSE(unused.is_tracked());
}

TEST_CASE("a tensor both captured and passed is a constant where it is captured") {
  const NoLeaks leaks;
  const auto captured_twice = [](const Tensor<double>& x) {
    return grad([&](const Tensor<double>& inner) { return sum(inner * x); })(x);  // ∂(inner·x)/∂inner = x
  };
  CHECK(has_values(captured_twice(tensor<double>({3})), {3}));
  auto x = tensor<double>({3}).requires_grad();
  CHECK(has_values(captured_twice(x), {3}));
  const auto outer = [&](const Tensor<double>& x) { return sum(captured_twice(x)); };
  CHECK(has_values(grad(outer)(tensor<double>({3})), {1}));
}

TEST_CASE("levels are not confused") {
  const NoLeaks leaks;
  // d/dx [ x · d/dy (x + y) ] = d/dx x = 1: the classic trap answers 2.
  const auto f = [](const Tensor<double>& x) {
    return sum(x * grad([&](const Tensor<double>& y) { return sum(x + y); })(tensor<double>({1})));
  };
  CHECK(has_values(grad(f)(tensor<double>({1})), {1}));
  // The same value at two levels: d/dx d/dy (x·y)|_{y=x} differentiates x only where it is captured.
  const auto g = [](const Tensor<double>& x) {
    return sum(grad([&](const Tensor<double>& y) { return sum(x * x * y * y); })(x));  // 2x³
  };
  CHECK(has_values(grad(g)(tensor<double>({2})), {24}));  // 6x²
}

TEST_CASE("gradients of gradients to the fourth order") {
  const NoLeaks leaks;
  const auto f0 = [](const Tensor<double>& x) { return sum(square(square(x)) * x); };  // x⁵
  const auto f1 = [=](const Tensor<double>& x) { return sum(grad(f0)(x)); };
  const auto f2 = [=](const Tensor<double>& x) { return sum(grad(f1)(x)); };
  const auto f3 = [=](const Tensor<double>& x) { return sum(grad(f2)(x)); };
  CHECK(has_values(grad(f3)(tensor<double>({3})), {360}));  // 120x
}

TEST_CASE("a cotangent that somebody tracks is differentiated too") {
  const NoLeaks leaks;
  const auto square_of = [](const Tensor<double>& x) { return x * x; };
  const auto outer = [&](const Tensor<double>& u) {
    return sum(vjp(square_of, tensor<double>({3}), u));
  };  // 6u
  CHECK(has_values(grad(outer)(tensor<double>({1})), {6}));
  auto u = tensor<double>({1}).requires_grad();
  CHECK(vjp(square_of, tensor<double>({3}), u).is_tracked());
  const auto identity = [](const Tensor<double>& x) { return x; };
  CHECK_FALSE(no_grad([&] { return vjp(square_of, tensor<double>({3}), u); }).is_tracked());
  CHECK_FALSE(no_grad([&] { return vjp(identity, tensor<double>({3}), u); }).is_tracked());
}

TEST_CASE("no_grad inside a function cuts what it holds, and grad works inside it") {
  const NoLeaks leaks;
  const auto f = [](const Tensor<double>& x) {
    const auto held = no_grad([&] { return grad(cube)(x); });  // 3x², a constant
    return sum(held * x);
  };
  CHECK(has_values(grad(f)(tensor<double>({2})), {12}));
}

TEST_CASE("an argument that the function does not use has gradient zero, a captured result passes through") {
  const NoLeaks leaks;
  const auto first = [](const Tensor<double>& a, const Tensor<double>&) { return sum(a); };
  const Tensors<double> g = grad(first)(tensor<double>({1, 2}), tensor<double>({3}));
  CHECK(has_values(g[0], {1, 1}));
  CHECK(has_values(g[1], {0}));
  const auto parameter = scalar(2.0).requires_grad();
  CHECK(has_values(grad([&](const Tensor<double>&) { return parameter; })(tensor<double>({1})), {0}));
}

TEST_CASE("detach and stop_gradient end a path") {
  const NoLeaks leaks;
  const auto f = [](const Tensor<double>& x) { return sum(x * stop_gradient(x) + x.detach()); };
  CHECK(has_values(grad(f)(tensor<double>({2, 3})), {2, 3}));
}

TEST_CASE("integer tensors and masks are never tracked") {
  const NoLeaks leaks;
  auto x = tensor<double>({-1, 2}).requires_grad();
  CHECK_FALSE(gt(x, zeros_like(x)).is_tracked());
  CHECK_FALSE(argmax(x).is_tracked());
  CHECK_FALSE(cast<std::int64_t>(x).is_tracked());
}

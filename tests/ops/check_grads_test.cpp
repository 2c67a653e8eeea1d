// The checker itself: it must pass right rules and catch wrong ones.
#include "tttlib/testing/check_grads.hpp"

#include <sstream>

#include "catch.hpp"
#include "tttlib/ops/ops.hpp"
#include "tttlib/testing/compare.hpp"

namespace {
using namespace ttt;

/// tanh with a rule of one's own.
template <class Rule>
Function<double> tanh_with(Rule rule) {
  return [rule](const Tensors<double>& x) {
    return record<double>("wrong_tanh", saved(tanh(x[0].detach())), {saved(x[0])}, rule);
  };
}
const Tensor<double> point = tensor<double>({-1.2, 0.3, 0.7, 2.0});

TEST_CASE("check_grads: right rules pass to a high order") {
  const auto f = [](const auto& x) { return tanh(x[0] * x[1] + x[2]); };
  const GradCheck check =
      check_grads(f, {randn<double>({4, 1, 3}), randn<double>({2, 1}), randn<double>({3})}, 4);
  INFO(check);
  CHECK(check.ok);
  CHECK(check.order == 4);
  CHECK(check.relative_error < 1e-7);
}

TEST_CASE("check_grads: a rule that is 0.1 % off fails at order 1") {
  const auto f =
      tanh_with([](const Call<double>& c) { return mul(sub(c.g, mul(c.g, square(c.y()))), 1.001); });
  const GradCheck check = check_grads(f, {point});
  CHECK_FALSE(check);
  CHECK(check.order == 1);
  CHECK(check.relative_error == Approx(1e-3).epsilon(0.01));
}

TEST_CASE("check_grads: a rule right at order 1 and wrong at order 2 fails there") {
  const auto f = tanh_with([](const Call<double>& c) { return sub(c.g, mul(c.g, square(c.y().detach()))); });
  CHECK(check_grads(f, {point}, 1));
  const GradCheck check = check_grads(f, {point}, 2);
  CHECK_FALSE(check);
  CHECK(check.order == 2);
  std::ostringstream text;
  text << check;
  CHECK_THAT(text.str(), ContainsSubstring("gradients are wrong at order 2: differences give "));
}

TEST_CASE("check_grads: a rule right to order 2 and wrong at order 3 fails there") {
  const auto slope = [](const Tensor<double>& x) {  // 1 − tanh², whose own rule forgets what it depends on
    const Tensor<double> y = tanh(x.detach());
    return record<double>("half_right", add(neg(square(y)), 1), {saved(x)}, [](const Call<double>& c) {
      const Tensor<double> t = tanh(c.in(0).detach());
      return mul(c.g, mul(mul(t, sub(square(t), ones_like(t))), 2));
    });
  };
  const auto f = tanh_with([slope](const Call<double>& c) { return mul(c.g, slope(c.in(0))); });
  CHECK(check_grads(f, {point}, 2));
  CHECK(check_grads(f, {point}, 3).order == 3);
  CHECK_FALSE(check_grads(f, {point}, 3));
}

TEST_CASE("check_grads: differences over narrower steps for steep functions, and none that hide a wrong rule") {
  const auto steep = [](double factor) {
    return [factor](const Tensors<double>& x) {
      return record<double>("steep", saved(sin(x[0].detach() * 1000.0)), {saved(x[0])},
                            [factor](const Call<double>& c) { return c.g * cos(c.in(0) * 1000.0) * (1000.0 * factor); });
    };
  };
  CHECK(check_grads(steep(1), {point}, 2));
  const GradCheck check = check_grads(steep(1 + 1e-5), {point});
  CHECK_FALSE(check);
  CHECK(check.relative_error == Approx(1e-5).epsilon(0.01));
}

TEST_CASE("check_grads: a small wrong part beside large values is seen") {
  const auto f = [](const Tensor<double>& a, const Tensor<double>& b) {
    return record<double>(
        "leaky", add(mul(a, 1e3), b), {a, b}, [](const Call<double>& c) { return mul(c.g, 1e3); },
        [](const Call<double>& c) { return mul(c.g, 1.01); });
  };
  CHECK_FALSE(check_grads(f, {randn<double>({3}), randn<double>({3})}));
}

TEST_CASE("check_grads: every way to pass a function") {
  const auto x = point;
  CHECK(check_grads([](const Tensor<double>& a) { return sin(a); }, {x}, 3));
  CHECK(check_grads([](const Tensor<double>& a, const Tensor<double>& b) { return a * b; }, {x, x}));
  CHECK(check_grads([](const Tensors<double>& list) { return list[0] * list[1]; }, {x, x}));
  CHECK(check_grads([](const auto& list) { return exp(list[0]); }, {x}));
  CHECK(check_grads(Function<double>([](const Tensors<double>& list) { return cos(list[0]); }), {x}));
  CHECK(check_grads(&silu<double>, {x}));
  CHECK(check_grads([](const Tensor<double>& a) { return dropout(a, 0.5); },
                    {x}));  // the same mask at every call
  CHECK(check_grads([](const Tensor<double>& a) { return sum(a); }, {zeros<double>({0, 3})}));
  CHECK_THROWS_WITH(check_grads([](const Tensor<double>& a, const Tensor<double>& b) { return a * b; }, {x}),
                    "ttt::check_grads: the function takes 2 tensors, got 1");
  CHECK_THROWS_AS(check_grads([](const Tensor<double>& a) { return a; }, {}), GradError);
  CHECK_THROWS_AS(check_grads([](const Tensor<double>& a) { return a; }, {x}, 0), GradError);
}

TEST_CASE("check_grads: through an inner training step, to order 3") {
  const auto q = randn<double>({2, 5, 3}), k = randn<double>({2, 5, 3}), v = randn<double>({2, 5, 3});
  const auto outer = [&](const Tensor<double>& w0) {
    auto w = expand(w0, {2, 3, 3});
    const auto inner = [&](const Tensor<double>& w) { return sum(tanh(matmul(k, w)) * v); };
    w = w - grad(inner)(w) * 0.3;
    return mean(square(matmul(q, w)));
  };
  const auto w0 = randn<double>({3, 3});
  const GradCheck check = check_grads(outer, {w0}, /*order=*/3);
  std::ostringstream text;
  text << check;
  CHECK(check);
  CHECK_THAT(text.str(), ContainsSubstring("gradients agree to order 3: relative error "));
}

TEST_CASE("compare: distances between tensors") {
  const auto a = tensor<double>({3, 4}), b = tensor<double>({3, 4.5});
  CHECK(relative_error(a, a) == 0);
  CHECK(relative_error(b, a) == Approx(0.1));
  CHECK(relative_error(a, zeros<double>({2})) == Approx(5));
  CHECK(relative_error(tensor<float>({3, 4}), a) == 0);
  CHECK(std::isinf(relative_error(tensor<double>({NAN, 4}), a)));
  CHECK(all_close(a, a));
  CHECK_FALSE(all_close(b, a));
  CHECK(all_close(b, a, 0.2));
  CHECK_FALSE(all_close(tensor<double>({NAN, 4}), tensor<double>({NAN, 4})));
  CHECK(all_close(tensor<double>({INFINITY}), tensor<double>({INFINITY})));
  CHECK_THROWS_AS(relative_error(a, ones<double>({3})), ShapeError);
}

}  // namespace

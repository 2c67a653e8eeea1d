// Ops of the user's own, and fused ops with their twins.
#include "tttlib/autograd/custom.hpp"

#include "helpers.hpp"
#include "tttlib/autograd/fused.hpp"

using namespace ttt;

TEST_CASE("a custom op works to any order") {
  const NoLeaks leaks;
  const auto cube = custom_op<double>(
      "cube", [](const Tensors<double>& x) { return x[0] * x[0] * x[0]; },
      [](const Tensors<double>& x, const Tensor<double>&, const Tensor<double>& g) {
        return Tensors<double>{g * x[0] * x[0] * 3.0};
      });
  const auto f = [&](const Tensor<double>& x) { return sum(cube(x)); };
  const auto df = [&](const Tensor<double>& x) { return sum(grad(f)(x)); };
  CHECK(has_values(grad(f)(tensor<double>({1, 2})), {3, 12}));
  CHECK(has_values(grad(df)(tensor<double>({1, 2})), {6, 12}));
  CHECK_FALSE(cube(tensor<double>({2})).is_tracked());
}

TEST_CASE("a custom rule may use the output, and several inputs") {
  const NoLeaks leaks;
  const auto exp_product = custom_op<double>(
      "exp_product", [](const Tensors<double>& x) { return exp(x[0] * x[1]); },
      [](const Tensors<double>& x, const Tensor<double>& y, const Tensor<double>& g) {
        return Tensors<double>{g * y * x[1], g * y * x[0]};
      });
  const auto a = tensor<double>({0.5}), b = tensor<double>({2});
  const auto custom = [&](const Tensors<double>& x) { return sum(exp_product(x[0], x[1])); };
  const auto plain = [](const Tensors<double>& x) { return sum(exp(x[0] * x[1])); };
  const auto second = [&](const auto& f) {
    return grad([&](const Tensors<double>& x) { return sum(grad(f)(x)[0] * 3.0) + sum(grad(f)(x)[1]); })(
        Tensors<double>{a, b});
  };
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(difference(grad(custom)(Tensors<double>{a, b})[i], grad(plain)(Tensors<double>{a, b})[i]) < 1e-15);
    CHECK(difference(second(custom)[i], second(plain)[i]) < 1e-15);
  }
}

TEST_CASE("a fused op uses its fast rule at order one and its definition above") {
  const NoLeaks leaks;
  int fast = 0, defined = 0;
  const auto definition = [&defined](const Tensors<double>& x) {
    ++defined;
    return x[0] * x[0] * x[1];
  };
  const auto op = [&](const Tensor<double>& a, const Tensor<double>& b) {
    const auto y = no_grad([&] { return a * a * b; });
    return fused<double>("square_times", y, {a, b}, definition,
                         [&fast](const Call<double>& c, const std::vector<bool>& needs) {
                           ++fast;
                           Tensors<double> out(2);
                           if (needs[0]) out[0] = c.g * c.in(0) * c.in(1) * 2.0;
                           if (needs[1]) out[1] = c.g * c.in(0) * c.in(0);
                           return out;
                         });
  };
  const auto b = tensor<double>({5});
  const auto f = [&](const Tensor<double>& a) { return sum(op(a, b)); };
  CHECK(has_values(grad(f)(tensor<double>({3})), {30}));
  CHECK(fast == 1);
  CHECK(defined == 0);
  CHECK(
      has_values(grad([&](const Tensor<double>& a) { return sum(grad(f)(a)); })(tensor<double>({3})), {10}));
  CHECK(fast == 1);
  CHECK(defined == 1);
}

TEST_CASE("a fused op without a fast rule computes only the cotangents that are needed") {
  const NoLeaks leaks;
  bool second_tracked = false;
  const auto definition = [&](const Tensors<double>& x) {
    second_tracked = x[1].is_tracked();
    return x[0] * x[1];
  };
  const auto b = tensor<double>({5});
  const auto f = [&](const Tensor<double>& a) {
    return sum(fused<double>("product", no_grad([&] { return a * b; }), {a, b}, definition));
  };
  CHECK(has_values(grad(f)(tensor<double>({3})), {5}));
  CHECK_FALSE(second_tracked);
}

TEST_CASE("a custom op that makes nothing says so") {
  const auto nothing = custom_op<double>(
      "nothing", [](const Tensors<double>&) { return Tensor<double>(); },
      [](const Tensors<double>&, const Tensor<double>&, const Tensor<double>& g) { return Tensors<double>{g}; });
  auto x = tensor<double>({1, 2}).requires_grad();
  CHECK_THROWS_WITH(nothing(x), "ttt::nothing: the forward function returned an undefined tensor");
}

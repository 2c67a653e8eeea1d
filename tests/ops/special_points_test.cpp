// The table of docs/numerics.md: values and derivatives where a formula alone does not say what they are.
#include <cmath>

#include "catch.hpp"
#include "tttlib/ops/ops.hpp"
#include "tttlib/testing/compare.hpp"

namespace {
using namespace ttt;
using F = std::function<Tensor<double>(const Tensor<double>&)>;
constexpr double inf = std::numeric_limits<double>::infinity();

struct Point {
  const char* name;
  F f;
  double x, value, first, second;
};

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

TEST_CASE("numerics: value, first and second derivative at special points") {
  const auto one = scalar(1.0);
  const std::vector<Point> points{
      {"abs at 0", [](const auto& x) { return abs(x); }, 0, 0, 0, 0},
      {"sign at 0", [](const auto& x) { return sign(x); }, 0, 0, 0, 0},
      {"relu at 0", [](const auto& x) { return relu(x); }, 0, 0, 0, 0},
      {"norm at 0", [](const auto& x) { return norm(x); }, 0, 0, 0, 0},
      {"x/(norm + 1) at 0", [](const auto& x) { return x / (norm(x) + 1); }, 0, 0, 1, 0},
      {"maximum at a tie", [one](const auto& x) { return maximum(x, one); }, 1, 1, 0.5, 0},
      {"minimum at a tie", [one](const auto& x) { return minimum(x, one); }, 1, 1, 0.5, 0},
      {"clamp on the lower bound", [](const auto& x) { return clamp(x, -1, 1); }, -1, -1, 1, 0},
      {"clamp on the upper bound", [](const auto& x) { return clamp(x, -1, 1); }, 1, 1, 1, 0},
      {"clamp with its bounds the wrong way round", [](const auto& x) { return clamp(x, 5, 0); }, -1, 0, 0, 0},
      {"clamp with its bounds the wrong way round, between", [](const auto& x) { return clamp(x, 5, 0); }, 3, 0, 0, 0},
      {"clamp outside", [](const auto& x) { return clamp(x, -1, 1); }, 2, 1, 0, 0},
      {"pow 0 at 0", [](const auto& x) { return pow(x, 0); }, 0, 1, 0, 0},
      {"pow 1 at 0", [](const auto& x) { return pow(x, 1); }, 0, 0, 1, 0},
      {"pow 2 at 0", [](const auto& x) { return pow(x, 2); }, 0, 0, 0, 2},
      {"pow 3 at 0", [](const auto& x) { return pow(x, 3); }, 0, 0, 0, 0},
      {"pow 3 at -2", [](const auto& x) { return pow(x, 3); }, -2, -8, 12, -12},
      {"pow of tensors, 0^2", [](const auto& x) { return pow(x, full<double>({}, 2)); }, 0, 0, 0, 2},
      {"pow of tensors, 0^0 in the base", [](const auto& x) { return pow(x, full<double>({}, 0)); }, 0, 1, 0, 0},
      {"pow of tensors, (-2)^3", [](const auto& x) { return pow(x, full<double>({}, 3)); }, -2, -8, 12, -12},
      {"pow of tensors, 0^2 in the exponent", [](const auto& x) { return pow(full<double>({}, 0), x); }, 2, 0, 0, 0},
      {"pow of tensors, 0^0 in the exponent", [](const auto& x) { return pow(full<double>({}, 0), x); }, 0, 1, 0, 0},
      {"sqrt at 0", [](const auto& x) { return sqrt(x); }, 0, 0, inf, -inf},
      {"rsqrt at 0", [](const auto& x) { return rsqrt(x); }, 0, inf, -inf, inf},
      {"log at 0", [](const auto& x) { return log(x); }, 0, -inf, inf, -inf},
      {"reciprocal_or_zero at 0", [](const auto& x) { return reciprocal_or_zero(x); }, 0, 0, 0, 0},
      {"silu at 0", [](const auto& x) { return silu(x); }, 0, 0, 0.5, 0.5},
      {"bce_with_logits at 0", [one](const auto& x) { return bce_with_logits(x, one); }, 0, std::log(2.0), -0.5, 0.25},
      {"log1p at 0", [](const auto& x) { return log1p(x); }, 0, 0, 1, -1},
      {"softplus at 0", [](const auto& x) { return softplus(x); }, 0, std::log(2.0), 0.5, 0.25},
  };
  for (const Point& p : points) {
    INFO(p.name);
    const auto x = scalar(p.x);
    const auto slope = [&](const Tensor<double>& at) { return grad(p.f)(at); };
    CHECK(same(p.f(x).item(), p.value));
    CHECK(same(slope(x).item(), p.first));  // a sweep that is not recorded
    CHECK(same(grad(slope)(x).item(), p.second));
    const auto recorded = [&](const Tensor<double>& at) { return sum(slope(at)); };
    CHECK(same(value_and_grad(recorded)(x).first.item(), p.first));  // a recorded one takes other rules
  }
}

TEST_CASE("numerics: the column clip g/(norm + 1) has derivative I at g = 0") {
  const auto clip = [](const Tensor<double>& g) { return div(g, norm(g, {0}, true) + 1); };
  const auto zero = zeros<double>({3, 2}), u = from_data<double>({1, 2, 3, 4, 5, 6}, {3, 2});
  CHECK(vjp(clip, zero, u).to_vector() == u.to_vector());
  const auto second = hvp([&](const Tensor<double>& g) { return sum(clip(g) * u); }, zero, u);
  for (double v : second.to_vector()) CHECK(v == 0);  // other engines give NaN
}

TEST_CASE("numerics: ties of reductions") {
  const auto x = tensor<double>({3, 1, 3, 1});
  CHECK(grad([](const Tensor<double>& v) { return max(v, 0); })(x).to_vector() ==
        std::vector<double>{1, 0, 0, 0});
  CHECK(grad([](const Tensor<double>& v) { return min(v, 0); })(x).to_vector() ==
        std::vector<double>{0, 1, 0, 0});
  CHECK(grad([](const Tensor<double>& v) { return amax(v); })(x).to_vector() ==
        std::vector<double>{0.5, 0, 0.5, 0});
  CHECK(grad([](const Tensor<double>& v) { return amin(v); })(x).to_vector() ==
        std::vector<double>{0, 0.5, 0, 0.5});
}

TEST_CASE("numerics: NaN is never lost") {
  const auto x = tensor<double>({1, NAN, 3});
  CHECK(std::isnan(amax(x).item()));
  CHECK(std::isnan(amin(x).item()));
  CHECK(std::isnan(max(x, 0).item()));
  CHECK(std::isnan(min(x, 0).item()));
  CHECK(std::isnan(maximum(x, scalar(2.0)).to_vector()[1]));
  CHECK(std::isnan(maximum(scalar(2.0), x).to_vector()[1]));
  CHECK(std::isnan(minimum(x, scalar(2.0)).to_vector()[1]));
  CHECK(std::isnan(relu(x).to_vector()[1]));
  CHECK(std::isnan(clamp(x, 0, 1).to_vector()[1]));
  CHECK(std::isnan(sum(x).item()));
  CHECK(std::isnan(softmax(x).to_vector()[0]));
  CHECK(std::isnan(max_pool2d(reshape(x, {1, 1, 3, 1}), {1, 3}).item()));
}

}  // namespace

// Inner losses: the formulas against plain loops, weights, the mixed derivative of the paper's table, lookup, warning.
#include <cmath>

#include "catch.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/inner_layer.hpp"

using namespace ttt;

namespace {

/// Collects warnings for as long as it lives.
struct CatchWarnings {
  std::vector<std::string> texts;
  std::function<void(const std::string&)> before = warning_handler();
  CatchWarnings() {
    warning_handler() = [this](const std::string& text) { texts.push_back(text); };
  }
  ~CatchWarnings() { warning_handler() = before; }
};

/// One term of a loss, summed by `total`.
double term(const std::string& name, double p, double v) {
  const double x = p - v, size = std::abs(x);
  if (name == "dot" || name == "dot_sum" || name == "block_dot") return -p * v;
  if (name == "mse" || name == "l2_sum") return x * x / 2;
  if (name == "rmse") return x * x;
  if (name == "mae") return size;
  return size < 1 ? x * x / 2 : size - 0.5;
}

}  // namespace

TEST_CASE("every inner loss against plain loops, with and without weights per token") {
  manual_seed(1);
  const std::int64_t B = 2, H = 3, n = 5, d = 4;
  const Tensor<double> p = randn<double>({B, H, n, d}), v = randn<double>({B, H, n, d}), r = rand<double>({B, H, n});
  for (const InnerLoss<double>& loss : losses::all<double>()) {
    INFO(loss.name());
    for (const bool weighted : {false, true}) {
      const std::vector<double> ps = p.to_vector(), vs = v.to_vector(), rs = r.to_vector();
      std::vector<double> expected(6, 0.0);
      for (std::size_t i = 0; i < ps.size(); ++i) expected[i / 20] += term(loss.name(), ps[i], vs[i]) * (weighted ? rs[i / 4] : 1);
      for (double& e : expected) {
        if (loss.name() == "block_dot") e *= 1.0 / 3 / 5;
        else if (loss.name() != "dot_sum" && loss.name() != "l2_sum") e /= 5 * std::sqrt(4.0);
        if (loss.name() == "rmse") e = std::sqrt(e);
      }
      CHECK(relative_error(loss(p, v, weighted ? r : Tensor<double>()), from_data(expected, {B, H})) < 1e-14);
    }
    const GradCheck check = check_grads([&](const Tensors<double>& x) { return loss(x[0], x[1], x[2]); }, {p, v, r}, 2);
    INFO(check);
    CHECK(check);
  }
}

TEST_CASE("mixed second derivatives are those of the paper's table") {
  manual_seed(2);
  const std::int64_t n = 4, d = 3;
  const double scale = 1 / (n * std::sqrt(double(d)));
  const Tensor<double> p = randn<double>({1, 1, n, d}) * 1.5, v = randn<double>({1, 1, n, d});
  const std::vector<double> x = sub(p, v).to_vector();
  const auto entries = [&](const InnerLoss<double>& loss, int probes = 8) {
    return mixed_second_derivative(loss, p, v, probes).entries.to_vector();
  };
  for (const double e : entries(losses::dot)) CHECK(e == Approx(-scale));
  for (const double e : entries(losses::mse)) CHECK(e == Approx(-scale));
  for (const double e : entries(losses::mae)) CHECK(e == 0);
  const std::vector<double> smooth = entries(losses::smooth_l1);
  std::int64_t dead = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    CHECK(smooth[i] == Approx(std::abs(x[i]) < 1 ? -scale : 0));
    dead += std::abs(x[i]) >= 1;
  }
  CHECK(dead > 0);
  CHECK(mixed_second_derivative<double>(losses::smooth_l1, p, v).dead_share == Approx(double(dead) / double(n * d)));
  // rmse joins all entries: the estimate closes in on the diagonal as probes are added.
  double s = 0;
  for (const double e : x) s += e * e * scale;
  const std::vector<double> rmse = entries(losses::rmse, 4000);
  for (std::size_t i = 0; i < x.size(); ++i)
    CHECK(rmse[i] == Approx(-scale / std::sqrt(s) + x[i] * x[i] * scale * scale / std::pow(s, 1.5)).margin(0.1 * scale / std::sqrt(s)));
  CHECK(mixed_second_derivative<double>(losses::rmse, p, v).dead_share == 0);
}

TEST_CASE("on random data: what vanishes, in both precisions and for a loss of one's own") {
  CHECK(mixed_second_derivative(losses::mae).vanishes());
  CHECK(mixed_second_derivative<float>(losses::mae).vanishes());
  CHECK(mixed_second_derivative(losses::dot).dead_share == 0);
  CHECK(mixed_second_derivative(losses::dot).magnitude == Approx(1 / (32 * 4.0)));
  const MixedDerivative smooth = mixed_second_derivative(losses::smooth_l1);
  CHECK(smooth.dead_share > 0.3);  // |x| ≥ 1 with x of deviation √2: 0.48
  CHECK(smooth.dead_share < 0.6);
  CHECK_THAT(concat(smooth), ContainsSubstring("% of the values are dead"));
  const auto rooted = [](const auto& p, const auto& v) { return sum(sqrt(square(sub(p, v))), {-2, -1}); };  // |x|, with rounding noise
  CHECK(mixed_second_derivative<float>(rooted).vanishes());
  CHECK(mixed_second_derivative<double>(rooted).vanishes());
  const auto quartic = [](const auto& p, const auto& v) { return sum(pow(sub(p, v), 4), {-2, -1}); };
  CHECK(mixed_second_derivative<double>(quartic).dead_share == 0);
  // A loss that joins V with its neighbour: the diagonal is zero, but every value still gets a signal.
  const auto shifted = [](const auto& p, const auto& v) { return sum(mul(slice(p, -2, 0, -1), slice(v, -2, 1, v.size(-2))), {-2, -1}); };
  CHECK(mixed_second_derivative<double>(shifted).dead_share == Approx(1.0 / 32));  // only the first token's value is unused
}

TEST_CASE("a layer with a loss that gives the values no signal warns once, with reason and source") {
  CatchWarnings caught;
  for (int i = 0; i < 2; ++i) InnerTrainingLayer<float>(8, 2, "fc", {.loss = {"my |error|", [](const auto& p, const auto& v) { return sum(abs(sub(p, v)), {-2, -1}); }}});
  InnerTrainingLayer<float>(8, 2, "fc", {.loss = losses::mse});
  InnerTrainingLayer<float>(8, 2, "fc", {.loss = losses::smooth_l1});
  CHECK(caught.texts == std::vector<std::string>{
            "inner loss my |error|: the mixed second derivative d2L/dV'dV is zero everywhere, so the projection W_V of the values gets no "
            "gradient through the inner step (ViT3 paper, arXiv 2512.01643, section 3.2, insight 1)"});
}

TEST_CASE("losses by name; mistakes are told") {
  CHECK(losses::find<float>("smooth_l1").name() == "smooth_l1");
  CHECK_THROWS_WITH(losses::find("l3"), "ttt::losses::find: unknown inner loss \"l3\". Hint: known names: dot, mse, rmse, mae, smooth_l1, "
                                        "dot_sum, l2_sum, block_dot");
  const InnerLoss<double> mine = [](const auto& p, const auto& v) { return sum(square(sub(p, v)), {-2, -1}); };
  const Tensor<double> x = zeros<double>({1, 1, 2, 2});
  CHECK_THROWS_WITH(mine(x, x, ones<double>({1, 1, 2})), "ttt::InnerLoss: the loss takes no weights per token: of your own. Hint: write it as a function of "
                                                         "(prediction, v, weights); weights are [B, H, n] or undefined");
  const InnerLoss<double> weighted = [](const auto& p, const auto& v, const auto& w) { return losses::weighted_sum(mul(p, v), w); };
  CHECK(weighted(ones<double>({1, 1, 2, 2}), ones<double>({1, 1, 2, 2}), tensor<double>({1, 3}).reshape({1, 1, 2})).item() == 8);
  const InnerLoss<double> whole = [](const auto& p, const auto& v) { return sum(mul(p, v)); };
  CHECK_THROWS_WITH(inner_train<double>(inner::fc<double>(2), {zeros<double>({1, 2, 2})}, x, x, {.loss = whole}),
                    "ttt::inner_train: a loss must give one number per image and head: loss of your own gave [], v [1, 1, 2, 2]. Hint: sum over the axes "
                    "{-2, -1} only\n  in inner_step");
}

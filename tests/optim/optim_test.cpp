// Optimisers against their formulas written out; groups, clipping, schedule, averaging, state.
#include <cmath>

#include "catch.hpp"
#include "tttlib/nn/linear.hpp"
#include "tttlib/optim/ema.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/optim/schedule.hpp"

using namespace ttt;

TEST_CASE("parameters with one axis are not decayed") {
  Mlp<double> mlp(3, 4);
  const auto groups = param_groups<double>(mlp, {.weight_decay = 0.05});
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].weight_decay == 0.05);
  CHECK(groups[1].weight_decay == 0);
  CHECK(groups[0].parameters[1].first == "fc2.weight");
  CHECK(groups[1].parameters[0].first == "fc1.bias");
}

TEST_CASE("AdamW follows its formula over several steps") {
  Tensor<double> p = from_data<double>({1.0, -2.0}, {2});
  p.requires_grad();
  AdamW<double> optimizer({{{{"p", p}}, 0.1, 1}}, {.lr = 0.01, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6});
  double expected[2] = {1.0, -2.0}, m[2] = {0, 0}, v[2] = {0, 0};
  for (int k = 1; k <= 3; ++k) {
    const double g[2] = {0.5 * k, -0.25};
    p.set_grad(from_data<double>({g[0], g[1]}, {2}));
    optimizer.step();
    for (int i = 0; i < 2; ++i) {
      m[i] = 0.8 * m[i] + 0.2 * g[i];
      v[i] = 0.95 * v[i] + 0.05 * g[i] * g[i];
      expected[i] *= 1 - 0.01 * 0.1;
      expected[i] -= 0.01 / (1 - std::pow(0.8, k)) * m[i] / (std::sqrt(v[i]) / std::sqrt(1 - std::pow(0.95, k)) + 1e-6);
      CHECK(p.to_vector()[static_cast<std::size_t>(i)] == Approx(expected[i]).epsilon(1e-13));
    }
  }
}

TEST_CASE("optimiser state survives a round trip: two optimisers go on alike") {
  const auto start = from_data<double>({1, 2, 3}, {3});
  Tensor<double> a = clone(start), b;
  a.requires_grad();
  AdamW<double> first({{{{"p", a}}, 0, 1}});
  const auto step = [](AdamW<double>& optimizer, Tensor<double>& p, double g) {
    p.set_grad(full<double>({3}, g));
    optimizer.step();
  };
  step(first, a, 1);
  b = clone(a.detach());
  b.requires_grad();
  AdamW<double> second({{{{"p", b}}, 0, 1}});
  second.load_state_dict(first.state_dict());
  step(first, a, -2);
  step(second, b, -2);
  CHECK(a.to_vector() == b.to_vector());
  Tensor<double> other = zeros<double>({2});
  other.requires_grad();
  AdamW<double> wrong({{{{"p", other}}, 0, 1}});
  CHECK_THROWS_AS(wrong.load_state_dict(first.state_dict()), ShapeError);
}

TEST_CASE("plain SGD, momentum and Nesterov") {
  const auto run = [](const SgdOptions& options) {
    Tensor<double> p = from_data<double>({1.0}, {1});
    p.requires_grad();
    Sgd<double> optimizer({{{{"p", p}}, 0, 1}}, options);
    for (double g : {1.0, 2.0}) {
      p.set_grad(from_data<double>({g}, {1}));
      optimizer.step();
    }
    return p.item();
  };
  CHECK(run({.lr = 0.1}) == Approx(1 - 0.1 - 0.2));
  CHECK(run({.lr = 0.1, .momentum = 0.9}) == Approx(1 - 0.1 * 1 - 0.1 * (0.9 + 2)));
  CHECK(run({.lr = 0.1, .momentum = 0.9, .nesterov = true}) == Approx(1 - 0.1 * (1 + 0.9) - 0.1 * (2 + 0.9 * (0.9 + 2))));
}

TEST_CASE("clipping uses one norm over all gradients and leaves gradients that share memory intact") {
  Tensor<double> a = zeros<double>({2}), b = zeros<double>({2});
  a.requires_grad();
  b.requires_grad();
  sum(add(a, b) * 3.0).backward();  // both gradients may be one buffer
  CHECK(clip_grad_norm<double>({a, b}, 1.0) == Approx(6));
  CHECK(a.grad().to_vector()[0] == Approx(0.5).epsilon(1e-5));
  CHECK(b.grad().to_vector()[1] == Approx(0.5).epsilon(1e-5));
  CHECK(clip_grad_norm<double>({a, b}, 5.0) == Approx(1).epsilon(1e-5));
}

TEST_CASE("cosine schedule with a multiplied warm-up ramp") {
  const CosineSchedule schedule{.lr = 1, .total_steps = 100, .warmup_steps = 10, .ramp = true};
  CHECK(schedule(0) == Approx(0.1));
  CHECK(schedule(4) == Approx(0.5 * 0.5 * (1 + std::cos(3.14159265358979323846 * 0.04))));
  CHECK(schedule(50) == Approx(0.5));
  CHECK(schedule(100) == 0);
}

TEST_CASE("averaged weights") {
  Linear<double> layer(1, 1, false);
  {
    NoGradGuard guard;
    assign(layer.weight, full<double>({1, 1}, 1));
  }
  Ema<double> ema(layer, 0.9);
  {
    NoGradGuard guard;
    assign(layer.weight, full<double>({1, 1}, 2));
  }
  ema.update(layer);
  CHECK(ema.state_dict()[0].second.item() == Approx(1.1));
}

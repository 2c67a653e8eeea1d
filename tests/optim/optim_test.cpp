// Optimisers against their formulas written out; groups, clipping, schedule, averaging, state.
#include <cmath>
#include <set>

#include "catch.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/nn/linear.hpp"
#include "tttlib/nn/sequential.hpp"
#include "tttlib/optim/ema.hpp"
#include "tttlib/optim/optimizer.hpp"
#include "tttlib/optim/schedule.hpp"
#include "tttlib/testing/compare.hpp"

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

namespace {

/// Parameters of many sizes, some of them none or more than one chunk of work, after three steps; gradients clipped in the update
/// if `max_norm` > 0.
Tensors<float> stepped(bool together, double max_norm, int threads) {
  const int before = num_threads();
  set_num_threads(threads);
  manual_seed(21);
  Tensors<float> parameters;
  for (std::int64_t n : {3, 0, 70000, 1, 192, 16384, 200000, 17}) parameters.push_back(randn<float>({n}).detach().requires_grad());
  std::vector<AdamW<float>> optimizers;
  StateDict<float> all;
  for (const Tensor<float>& p : parameters) all.emplace_back("p", p);
  if (together) optimizers.push_back(AdamW<float>({{all, 0.1, 0.5}}));
  else
    for (const auto& entry : all) optimizers.push_back(AdamW<float>({{{entry}, 0.1, 0.5}}));
  for (int k = 0; k < 3; ++k) {
    for (const Tensor<float>& p : parameters) p.set_grad(randn<float>(p.shape()));
    const Tensor<double> scale = max_norm > 0 ? grad_norm(parameters, max_norm).scale : Tensor<double>();
    for (AdamW<float>& optimizer : optimizers) optimizer.step(scale);
  }
  set_num_threads(before);
  return parameters;
}
bool same_bits(const Tensors<float>& a, const Tensors<float>& b) {
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i) same = a[i].to_vector() == b[i].to_vector();
  return same;
}

}  // namespace

TEST_CASE("AdamW over all parameters has the same bits at any number of threads, and as one at a time") {
  for (const double max_norm : {0.0, 7.0}) {
    const Tensors<float> expected = stepped(true, max_norm, 1);
    for (int threads : {2, 3}) CHECK(same_bits(stepped(true, max_norm, threads), expected));
    // Chunks begin elsewhere there, so the last bits may be those of other instructions.
    const Tensors<float> alone = stepped(false, max_norm, 2);
    for (std::size_t i = 0; i < alone.size(); ++i) CHECK((alone[i].numel() == 0 || relative_error(alone[i], expected[i]) < 1e-7));
  }
}

TEMPLATE_TEST_CASE("a group's rate is the optimiser's times its scale", "", AdamW<double>, Sgd<double>) {
  const auto p = from_data<double>({1, -2, 3}, {3}).requires_grad();
  const auto q = from_data<double>({1, -2, 3}, {3}).requires_grad();
  const auto r = from_data<double>({1, -2, 3}, {3}).requires_grad();
  TestType scaled({{{{"p", p}}, 0.1, 0.25}, {{{"q", q}}, 0.1, 1}}, {.lr = 0.04});
  TestType slow({{{{"r", r}}, 0.1, 1}}, {.lr = 0.01});
  for (int k = 1; k < 4; ++k) {
    for (const Tensor<double>& each : {p, q, r}) each.set_grad(from_data<double>({0.5 * k, -0.1, 2}, {3}));
    scaled.step();
    slow.step();
  }
  for (std::size_t i = 0; i < 3; ++i) CHECK(p.to_vector()[i] == Approx(r.to_vector()[i]).epsilon(1e-14));
  CHECK(std::abs(q.to_vector()[0] - p.to_vector()[0]) > 0.01);
}

TEMPLATE_TEST_CASE("clipping inside the update is clipping before it", "", AdamW<double>, Sgd<double>) {
  const auto run = [](bool inside) {
    Linear<double> layer(3, 4);
    for (Tensor<double> p : layer.parameters()) no_grad([&] { return assign(p, full<double>(p.shape(), 0.3)), p; });
    TestType optimizer(param_groups<double>(layer, {.weight_decay = 0.1}));
    for (int k = 1; k < 4; ++k) {
      for (const Tensor<double>& p : layer.parameters()) p.set_grad(full<double>(p.shape(), 0.4 * k));
      if (inside) {
        const GradNorm found = grad_norm(layer.parameters(), 2.0);
        CHECK(found.norm.item() == Approx(1.6 * k));
        optimizer.step(found.scale);
      } else {
        clip_grad_norm(layer, 2.0);
        optimizer.step();
      }
    }
    return layer.weight.to_vector();
  };
  const std::vector<double> before = run(false), inside = run(true);
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(inside[i] == Approx(before[i]).epsilon(1e-14));
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

namespace {

/// One step of `Kind` on every group; gradients count up from `first`.
template <class Kind>
void step_with_gradients(Kind& optimizer, const Tensors<double>& parameters, double first) {
  for (const Tensor<double>& p : parameters) p.set_grad(full<double>(p.shape(), first++));
  optimizer.step();
}

std::vector<ParamGroup<double>> groups_of(std::initializer_list<Module<double>*> modules) {
  std::vector<ParamGroup<double>> groups;
  for (Module<double>* module : modules)
    for (auto& group : param_groups(*module)) groups.push_back(group);
  return groups;
}

}  // namespace

TEMPLATE_TEST_CASE("modules whose parameters have the same names do not share state", "", AdamW<double>, Sgd<double>) {
  const auto make = [](std::vector<ParamGroup<double>> groups) {
    if constexpr (std::is_same_v<TestType, Sgd<double>>) return Sgd<double>(std::move(groups), {.lr = 0.1, .momentum = 0.9});
    else return AdamW<double>(std::move(groups));
  };
  Linear<double> small(2, 2), large(30, 30), small_alone(2, 2), large_alone(30, 30);
  small_alone.load_state_dict(small.state_dict());
  large_alone.load_state_dict(large.state_dict());
  auto both = make(groups_of({&small, &large}));
  auto first = make(groups_of({&small_alone})), second = make(groups_of({&large_alone}));
  for (int k = 0; k < 3; ++k) {
    step_with_gradients(both, {small.weight, small.bias, large.weight, large.bias}, k);
    step_with_gradients(first, {small_alone.weight, small_alone.bias}, k);
    step_with_gradients(second, {large_alone.weight, large_alone.bias}, k + 2);
  }
  CHECK(small.weight.to_vector() == small_alone.weight.to_vector());
  CHECK(small.bias.to_vector() == small_alone.bias.to_vector());
  CHECK(large.weight.to_vector() == large_alone.weight.to_vector());
  CHECK(large.bias.to_vector() == large_alone.bias.to_vector());

  // In a state dict the names are told apart, and a round trip puts each slot where it was.
  const StateDict<double> state = both.state_dict();
  std::set<std::string> names;
  for (const auto& entry : state) names.insert(entry.first);
  CHECK(names.size() == state.size());
  CHECK(names.count(std::is_same_v<TestType, Sgd<double>> ? "momentum:weight#2" : "mean:weight#2") == 1);
  StateDict<double> copy;
  for (const auto& entry : state) copy.emplace_back(entry.first, clone(entry.second));
  Linear<double> small_again(2, 2), large_again(30, 30);
  small_again.load_state_dict(small.state_dict());
  large_again.load_state_dict(large.state_dict());
  auto again = make(groups_of({&small_again, &large_again}));
  again.load_state_dict(copy);
  step_with_gradients(both, {small.weight, small.bias, large.weight, large.bias}, 5);
  step_with_gradients(again, {small_again.weight, small_again.bias, large_again.weight, large_again.bias}, 5);
  CHECK(again.steps() == 4);
  CHECK(small_again.weight.to_vector() == small.weight.to_vector());
  CHECK(large_again.weight.to_vector() == large.weight.to_vector());
}

TEST_CASE("a parameter that is listed twice is refused") {
  Linear<double> layer(2, 3);
  CHECK_THROWS_WITH(AdamW<double>(groups_of({&layer, &layer})), "ttt::Optimizer: a parameter is listed twice: weight and weight [3, 2]");
}

namespace {

/// The parameter after three steps with gradients that lie column by column.
template <class Kind>
std::vector<double> after_steps(Tensor<double> p) {
  p.requires_grad();
  Kind optimizer({{{{"p", p}}, 0.1, 1}});
  for (int k = 1; k < 4; ++k) {
    p.set_grad(transpose(reshape(arange<double>(0, 6), {3, 2}), 0, 1) * static_cast<double>(k));  // [2, 3]
    optimizer.step();
  }
  return p.to_vector();
}

}  // namespace

TEMPLATE_TEST_CASE("parameters of any layout are updated alike, and nothing beside them", "", AdamW<double>, Sgd<double>) {
  const Tensor<double> start = randn<double>({2, 3}), base = full<double>({4, 9}, 7);
  Tensor<double> apart = slice(slice(base, 0, 1, 3), 1, 0, 9, 4);  // [2, 3], every fourth number of two rows
  assign(apart, start);
  const std::vector<double> expected = after_steps<TestType>(clone(start));
  CHECK(after_steps<TestType>(clone(transpose(start, 0, 1)).transpose(0, 1)) == expected);
  CHECK(after_steps<TestType>(apart) == expected);
  CHECK(slice(slice(base, 0, 1, 3), 1, 0, 9, 4).to_vector() == expected);
  CHECK(sum(base).item() - sum(apart).item() == Approx(7 * 30));

  Tensor<double> shared = expand(ones<double>({1}), {1000});
  shared.requires_grad();
  CHECK_THROWS_WITH(TestType({{{{"x", shared}}, 0, 1}}), "ttt::Optimizer: elements of a parameter share memory: x [1000] is expanded along axis 0");
}

TEST_CASE("a tensor that gradients do not reach is no parameter") {
  Tensor<double> w = ones<double>({3});
  CHECK_THROWS_WITH(AdamW<double>({{{{"w", w}}, 0, 1}}),
                    "ttt::Optimizer: not a leaf that collects gradients: w [3]. Hint: call requires_grad() before the optimiser is made");
  w.requires_grad();
  CHECK_THROWS_AS(Sgd<double>({{{{"w", w * 2.0}}, 0, 1}}), GradError);
  // Frozen parameters are left out of the groups.
  Linear<double> layer(2, 3);
  layer.weight.requires_grad(false);
  const auto groups = param_groups<double>(layer);
  CHECK(groups[0].parameters.empty());
  CHECK(groups[1].parameters.size() == 1);
}

TEST_CASE("a module used twice is optimised once") {
  const auto layer = std::make_shared<Linear<double>>(3, 3);
  Sequential<double> net({layer, layer});
  CHECK(param_groups<double>(net)[0].parameters.size() == 1);
  CHECK_NOTHROW(AdamW<double>(param_groups<double>(net)));
  layer->weight.set_grad(full<double>({3, 3}, 1));
  CHECK(clip_grad_norm(net, 100) == Approx(3));
}

TEST_CASE("options that mean nothing are refused") {
  const auto adamw = [](const AdamWOptions& options) { AdamW<double>({}, options); };
  CHECK_THROWS_WITH(adamw({.lr = NAN}), "ttt::AdamW: lr must not be negative: nan");
  CHECK_THROWS_WITH(adamw({.beta1 = 1}), "ttt::AdamW: beta1 must be in [0, 1): 1");
  CHECK_THROWS_AS(adamw({.beta2 = -0.1}), Error);
  CHECK_THROWS_AS(adamw({.eps = -1}), Error);
  CHECK_THROWS_WITH(Sgd<double>({}, {.lr = -1}), "ttt::Sgd: lr must not be negative: -1");
  CHECK_THROWS_AS(Sgd<double>({}, {.momentum = NAN}), Error);
  Linear<double> layer(2, 3);
  CHECK_THROWS_WITH(Ema<double>(layer, NAN), "ttt::Ema: decay must be in [0, 1]: nan");
  CHECK_THROWS_AS(Ema<double>(layer, 1.1), Error);
  layer.bias.set_grad(ones<double>({3}));
  CHECK_THROWS_WITH(clip_grad_norm(layer, -1), "ttt::grad_norm: max_norm must not be negative: -1");
  CHECK_THROWS_AS(clip_grad_norm(layer, NAN), Error);
  CHECK(clip_grad_norm(layer, INFINITY) == Approx(std::sqrt(3.0)));
}

TEST_CASE("optimiser state that is not whole is refused by name and changes nothing") {
  Mlp<double> mlp(2, 2);
  AdamW<double> optimizer(param_groups(mlp));
  step_with_gradients(optimizer, mlp.parameters(), 1);
  const StateDict<double> whole = optimizer.state_dict();
  const double before = whole[1].second.to_vector()[0];
  StateDict<double> state;
  for (const auto& entry : whole) state.emplace_back(entry.first, zeros_like(entry.second));
  const auto without = [&](const std::string& name) {
    StateDict<double> rest;
    for (const auto& entry : state)
      if (entry.first != name) rest.push_back(entry);
    return rest;
  };
  CHECK_THROWS_WITH(optimizer.load_state_dict(without("mean:fc2.weight")),
                    "ttt::load_state_dict: state does not fit the optimiser: 1 missing (mean:fc2.weight)");
  CHECK_THROWS_WITH(optimizer.load_state_dict(without("steps")), ContainsSubstring("1 missing (steps)"));
  CHECK_THROWS_WITH(optimizer.load_state_dict({}), ContainsSubstring("9 missing (steps, mean:fc1.weight, variance:fc1.weight, …)"));
  StateDict<double> more = state;
  more.emplace_back("momentum:fc1.weight", zeros<double>({2, 2}));
  CHECK_THROWS_WITH(optimizer.load_state_dict(more), ContainsSubstring("1 unexpected (momentum:fc1.weight)"));
  StateDict<double> other = state;
  other[1].second = zeros<double>({3, 2});
  CHECK_THROWS_WITH(optimizer.load_state_dict(other), ContainsSubstring("1 of another shape (mean:fc1.weight: expected [2, 2], state [3, 2])"));
  CHECK(optimizer.steps() == 1);
  CHECK(optimizer.state_dict()[1].second.to_vector()[0] == before);
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

  // A state that is not whole is refused by name and changes nothing.
  CHECK_THROWS_WITH(ema.load_state_dict({}), "ttt::load_state_dict: state does not fit the averaged weights: 1 missing (weight)");
  CHECK_THROWS_WITH(ema.load_state_dict({{"weight", zeros<double>({1, 1})}, {"bias", zeros<double>({1})}}), ContainsSubstring("1 unexpected (bias)"));
  CHECK_THROWS_AS(ema.load_state_dict({{"weight", zeros<double>({2, 1})}}), ShapeError);
  CHECK(ema.state_dict()[0].second.item() == Approx(1.1));

  // Nor is a module that is not the one averaged.
  Linear<double> biased(1, 1), wide(2, 1, false);
  Sequential<double> none;
  CHECK_THROWS_WITH(ema.update(none), "ttt::Ema: the module is not the averaged one: 0 parameters and buffers, 1 averaged");
  CHECK_THROWS_AS(ema.update(biased), ShapeError);
  CHECK_THROWS_WITH(ema.update(wide), "ttt::Ema: the module is not the averaged one: weight [1, 2], averaged weight [1, 1]");
  CHECK(ema.state_dict()[0].second.item() == Approx(1.1));
}

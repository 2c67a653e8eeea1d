// Schedules and inner optimisers: what they do to any number of tokens, and the laws that tie them together.
#include <cmath>
#include <limits>

#include "catch.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/inner_scan.hpp"

using namespace ttt;

namespace {

using Read = Schedule::Read;
using Between = Schedule::Between;

/// "update [0, 3), apply [0, 3), detach"
std::string text_of(const std::vector<InnerAct>& acts) {
  std::string text;
  for (const InnerAct& act : acts) {
    const char* names[] = {"update", "apply", "causal", "detach", "reset"};
    text += concat(text.empty() ? "" : ", ", names[static_cast<int>(act.kind)]);
    if (act.last > 0) text += concat(" [", act.first, ", ", act.last, ")");
  }
  return text;
}

/// q, k, v [B, H, N, d] and weights of a two-layer model of width 5.
struct Setting {
  std::int64_t B = 2, H = 2, N = 7, d = 3;
  InnerModel<double> model = inner::mlp<double>(3, 5);
  Tensor<double> q, k, v;
  Tensors<double> w0;
  explicit Setting(std::uint64_t seed) {
    manual_seed(seed);
    q = randn<double>({B, H, N, d}), k = randn<double>({B, H, N, d}), v = randn<double>({B, H, N, d});
    w0 = model.initial_weights(H, 0.5);
  }
  Tensor<double> operator()(const InnerOptions<double>& o) const { return inner_scan(model, w0, q, k, v, o).output; }
};

Tensor<double> part(const Tensor<double>& x, std::int64_t first, std::int64_t last) { return slice(x, -2, first, last); }

/// Output and gradients for q, k, v, w0, rates of a random cotangent.
Tensors<double> value_and_gradients(const Function<double>& f, const Tensors<double>& xs, const Tensor<double>& u) {
  Tensors<double> all = vjp(f, xs, u);
  all.push_back(f(xs));
  return all;
}

}  // namespace

TEST_CASE("plans cover any number of tokens: the last chunk and the last segment are shorter") {
  CHECK(text_of(Schedule{}.plan(5)) == "update [0, 5), apply [0, 5)");
  CHECK(text_of(Schedule{.chunk = 2}.plan(5)) ==
        "update [0, 2), apply [0, 2), update [2, 4), apply [2, 4), update [4, 5), apply [4, 5)");
  CHECK(text_of(Schedule{.chunk = 3, .read = Read::before_update}.plan(4)) == "apply [0, 3), update [0, 3), apply [3, 4), update [3, 4)");
  CHECK(text_of(Schedule{.chunk = 9, .read = Read::causal}.plan(4)) == "causal [0, 4)");
  CHECK(text_of(Schedule{.chunk = 2, .read = Read::causal, .segment = 3, .between = Between::detach}.plan(5)) ==
        "causal [0, 2), causal [2, 3), detach, causal [3, 5)");
  CHECK(text_of(Schedule{.segment = 3, .between = Between::reset}.plan(4)) ==
        "update [0, 3), apply [0, 3), reset, update [3, 4), apply [3, 4)");
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  CHECK(text_of(Schedule{.chunk = most, .segment = 3}.plan(4)) == text_of(Schedule{.segment = 3}.plan(4)));
  CHECK(text_of(Schedule{.segment = most}.plan(4)) == text_of(Schedule{}.plan(4)));
  CHECK_THROWS_WITH(Schedule{.chunk = -1}.plan(4), "ttt::Schedule: sizes must not be negative: chunk -1, segment 0");
}

TEST_CASE("batches that do not divide the tokens differ by at most one token") {
  const Setting s(1);
  Tensors<double> w = expand_per_image(s.w0, s.B);
  const std::int64_t borders[] = {0, 2, 4, 7};  // ⌊b·7/3⌋
  for (int b = 0; b < 3; ++b) {
    const Tensor<double> k_b = part(s.k, borders[b], borders[b + 1]), v_b = part(s.v, borders[b], borders[b + 1]);
    const Tensors<double> g = grad([&](const Tensors<double>& at) { return sum(losses::mse(s.model(k_b, at), v_b)); })(w);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = sub(w[i], mul(g[i], 0.5));
  }
  const Tensors<double> trained = inner_train(s.model, s.w0, s.k, s.v, {.loss = losses::mse, .rate = 0.5, .batches = 3});
  for (std::size_t i = 0; i < w.size(); ++i) CHECK(relative_error(trained[i], w[i]) < 1e-14);
}

TEST_CASE("schedules that mean the same give the same") {
  const Setting s(2);
  const InnerOptions<double> plain{.loss = losses::mse, .rate = 0.5};
  InnerOptions<double> o = plain;
  const auto with = [&](const Schedule& schedule) {
    o.schedule = schedule;
    return s(o);
  };
  const Tensor<double> full_batch = s.model(s.q, inner_train(s.model, s.w0, s.k, s.v, plain));
  CHECK(s(plain).to_vector() == full_batch.to_vector());
  CHECK(with({.chunk = 7}).to_vector() == full_batch.to_vector());   // one chunk of all tokens
  CHECK(with({.chunk = 99}).to_vector() == full_batch.to_vector());
  CHECK(with({.segment = 4, .between = Between::carry}).to_vector() == with({.chunk = 4}).to_vector());
  CHECK(with({.acts = {{InnerAct::Kind::update, 0, 7}, {InnerAct::Kind::apply, 0, 7}}}).to_vector() == full_batch.to_vector());

  SECTION("before the first update, tokens are answered by W0") {
    const Tensor<double> y = with({.chunk = 3, .read = Read::before_update});
    const Tensor<double> untrained = s.model(s.q, expand_per_image(s.w0, s.B));
    CHECK(part(y, 0, 3).to_vector() == part(untrained, 0, 3).to_vector());
    CHECK(relative_error(part(y, 3, 7), part(untrained, 3, 7)) > 1e-3);
    // … and then by what the chunks before them taught: the answers of `after_update`, one chunk late.
    const Tensors<double> w = inner_train(s.model, s.w0, part(s.k, 0, 3), part(s.v, 0, 3), plain);
    CHECK(part(y, 3, 6).to_vector() == s.model(part(s.q, 3, 6), w).to_vector());
  }
  SECTION("reversed is the scan of the reversed tokens") {
    for (const Read read : {Read::after_update, Read::before_update, Read::causal}) {
      o.schedule = {.chunk = 3, .read = read};
      const Tensor<double> flipped = flip(inner_scan(s.model, s.w0, flip(s.q, -2), flip(s.k, -2), flip(s.v, -2), o).output, -2);
      CHECK(with({.chunk = 3, .read = read, .reversed = true}).to_vector() == flipped.to_vector());
    }
  }
  SECTION("two calls with the state carried are one call") {
    for (const Read read : {Read::after_update, Read::before_update, Read::causal}) {
      o.momentum = 0.5;
      o.schedule = {.chunk = 2, .read = read};
      const auto first = inner_scan(s.model, s.w0, part(s.q, 0, 4), part(s.k, 0, 4), part(s.v, 0, 4), o);
      const auto second = inner_scan(s.model, first.state, part(s.q, 4, 7), part(s.k, 4, 7), part(s.v, 4, 7), o);
      CHECK(relative_error(cat<double>({first.output, second.output}, -2), s(o)) < 1e-15);
    }
  }
  SECTION("reset starts every segment from W0; detach keeps the numbers and cuts the gradient") {
    const Tensor<double> reset = with({.segment = 4, .between = Between::reset});
    CHECK(part(reset, 4, 7).to_vector() == inner_scan(s.model, s.w0, part(s.q, 4, 7), part(s.k, 4, 7), part(s.v, 4, 7), plain).output.to_vector());
    CHECK(with({.segment = 4, .between = Between::detach}).to_vector() == with({.segment = 4}).to_vector());
    const auto to_first_keys = [&](Between between) {  // gradient of the second segment's answers into the first one's keys
      o.schedule = {.segment = 4, .between = between};
      const Tensor<double> g = grad([&](const Tensor<double>& k) { return sum(part(inner_scan(s.model, s.w0, s.q, k, s.v, o).output, 4, 7)); })(s.k);
      return amax(abs(part(g, 0, 4))).item();
    };
    CHECK(to_first_keys(Between::carry) > 1e-6);
    CHECK(to_first_keys(Between::detach) == 0);
    CHECK(to_first_keys(Between::reset) == 0);
  }
}

TEST_CASE("causal chunks: no token sees a later one, and the last one sees what a full-batch step shows") {
  const Setting s(3);
  const auto form = GENERATE(Schedule::Causal::dual, Schedule::Causal::sequential);
  InnerOptions<double> o{.loss = losses::mse, .rate = 0.5, .schedule = {.read = Read::causal, .causal = form}};
  const InnerResult<double> a = inner_scan(s.model, s.w0, s.q, s.k, s.v, o);
  const Tensor<double> changed_k = cat<double>({part(s.k, 0, 4), randn<double>({s.B, s.H, 3, s.d})}, -2);
  const Tensor<double> b = inner_scan(s.model, s.w0, s.q, changed_k, s.v, o).output;
  CHECK(relative_error(part(a.output, 0, 4), part(b, 0, 4)) < 1e-14);
  CHECK(relative_error(part(a.output, 4, 7), part(b, 4, 7)) > 1e-3);
  const Tensors<double> w = inner_train(s.model, s.w0, s.k, s.v, {.loss = losses::mse, .rate = 0.5});
  for (std::size_t i = 0; i < w.size(); ++i) CHECK(relative_error(a.state.w[i], w[i]) < 1e-14);
  CHECK(relative_error(part(a.output, 6, 7), s.model(part(s.q, 6, 7), w)) < 1e-13);
}

TEST_CASE("dual form = sequential form, values and outer gradients, for every model made of linear maps and every sum over tokens") {
  manual_seed(4);
  const std::int64_t B = 2, H = 2, N = 5, d = 3;
  const auto name = GENERATE("fc", "silu_fc", "mlp_l2", "mlp_l3", "glu", "swiglu", "mlp_residual", "mlp_identity", "ttt_linear", "ttt_mlp");
  const InnerModel<double> model = inner::make<double>(name, {.width = d, .ratio = inner::has_hidden_width(name) ? 2.0 : 0.0});
  INFO(name);
  Tensors<double> xs{randn<double>({B, H, N, d}), randn<double>({B, H, N, d}), randn<double>({B, H, N, d}),
                     rand<double>({B, H, N}), rand<double>({H}), rand<double>({3})};
  for (const Tensor<double>& w : model.initial_weights(H, 0.5)) xs.push_back(add(w, randn<double>(w.shape()) * 0.1));
  const Tensor<double> u = randn<double>({B, H, N, d});
  for (const InnerLoss<double>& loss : std::vector<InnerLoss<double>>{losses::dot, losses::mse, losses::smooth_l1}) {
    const auto layer = [&](Schedule::Causal form) {
      return Function<double>([&, form](const Tensors<double>& x) {
        InnerOptions<double> o{.loss = loss, .rate = 0.7, .head_rate = x[4], .token_rates = {x[3]}, .position_rate = x[5]};
        o.schedule = {.chunk = 3, .read = Read::causal, .causal = form};
        return inner_scan(model, Tensors<double>(x.begin() + 6, x.end()), x[0], x[1], x[2], o).output;
      });
    };
    const Tensors<double> dual = value_and_gradients(layer(Schedule::Causal::dual), xs, u);
    const Tensors<double> sequential = value_and_gradients(layer(Schedule::Causal::sequential), xs, u);
    for (std::size_t i = 0; i < dual.size(); ++i) CHECK(relative_error(dual[i], sequential[i]) < 1e-11);
  }
}

TEST_CASE("rate 0 answers with W0 whatever the optimiser and the schedule") {
  const Setting s(5);
  const Tensor<double> untrained = s.model(s.q, expand_per_image(s.w0, s.B));
  for (const InnerOptions<double>& step : std::vector<InnerOptions<double>>{
           {}, {.clip = true}, {.momentum = 0.9}, {.weight_decay = 0.3}, {.newton_schulz = NewtonSchulz::constant},
           {.newton_schulz = NewtonSchulz::stepwise}, {.head_rate = randn<double>({2})}, {.token_rates = {randn<double>({2, 2, 7})}},
           {.epochs = 3, .batches = 2, .clip = true, .momentum = 0.5, .weight_decay = 0.1, .newton_schulz = NewtonSchulz::stepwise}}) {
    InnerOptions<double> o = step;
    o.rate = 0;
    INFO(o);
    CHECK(s(o).to_vector() == untrained.to_vector());
    if (o.epochs > 1) continue;
    for (const Read read : {Read::after_update, Read::before_update, Read::causal}) {
      o.schedule = {.chunk = 3, .read = read};
      CHECK(relative_error(s(o), untrained) < 1e-15);
    }
  }
  // Row norm divides by ‖w‖ + 1e-5 (the reference's), which alone moves a weight of norm ‖w‖ by 1e-5/‖w‖.
  CHECK(relative_error(s({.rate = 0, .row_norm = true}), untrained) < 1e-4);
}

TEST_CASE("outer gradients through optimisers and schedules are exact to order 2, two epochs, two batches, depth two") {
  manual_seed(6);
  const InnerModel<double> model = inner::mlp<double>(3, 2);
  const Tensors<double> xs{randn<double>({2, 1, 4, 3}), randn<double>({2, 1, 4, 3}), randn<double>({2, 1, 4, 3}),
                           randn<double>({1, 3, 2}), randn<double>({1, 2, 3}), rand<double>({2, 1, 4}), rand<double>({1})};
  std::vector<InnerOptions<double>> cases{
      {.loss = losses::rmse, .rate = 0.7, .epochs = 2, .batches = 2, .clip = true, .momentum = 0.5},
      {.loss = losses::mse, .rate = 0.7, .epochs = 2, .batches = 2, .weight_decay = 0.1, .newton_schulz = NewtonSchulz::stepwise},
      {.loss = losses::dot, .rate = 0.7, .epochs = 2, .row_norm = true},
      {.loss = losses::smooth_l1, .rate = 0.7, .schedule = {.chunk = 3, .read = Read::before_update, .reversed = true}},
      {.loss = losses::mse, .rate = 0.7, .schedule = {.chunk = 3, .read = Read::causal}},
      {.loss = losses::mse, .rate = 0.7, .clip = true, .schedule = {.chunk = 3, .read = Read::causal}},
  };
  for (const InnerOptions<double>& o : cases) {
    const Function<double> layer = [&](const Tensors<double>& x) {
      InnerOptions<double> with = o;
      with.token_rates = {x[5]};
      with.head_rate = x[6];
      return inner_scan(model, Tensors<double>{x[3], x[4]}, x[0], x[1], x[2], with).output;
    };
    // Newton–Schulz divides by the size of a small gradient: differences need smaller steps to see its curvature.
    const GradCheck check = check_grads(layer, xs, 2, {.step = o.newton_schulz == NewtonSchulz::off ? 1e-4 : 2e-5});
    INFO(o << ": " << check);
    CHECK(check);
  }
}

TEST_CASE("an image's answers do not depend on another image, whatever the schedule") {
  const Setting s(7);
  for (const Schedule& schedule : {Schedule{}, Schedule{.chunk = 2}, Schedule{.chunk = 3, .read = Read::causal},
                                   Schedule{.chunk = 3, .read = Read::causal, .causal = Schedule::Causal::sequential}}) {
    const InnerOptions<double> o{.loss = losses::mse, .schedule = schedule};
    const Tensor<double> changed = cat<double>({slice(s.k, 0, 0, 1), randn<double>({1, s.H, s.N, s.d})});
    const Tensor<double> y = inner_scan(s.model, s.w0, s.q, changed, s.v, o).output;
    CHECK(slice(y, 0, 0, 1).to_vector() == slice(s(o), 0, 0, 1).to_vector());
    CHECK(relative_error(slice(y, 0, 1, 2), slice(s(o), 0, 1, 2)) > 1e-3);
  }
}

TEST_CASE("a negative rate climbs instead of descending, and changes nothing else") {
  const Setting s(11);
  const Tensors<double> start = expand_per_image(s.w0, s.B);
  const Tensors<double> down = inner_train(s.model, s.w0, s.k, s.v, {.rate = 0.5}), up = inner_train(s.model, s.w0, s.k, s.v, {.rate = -0.5});
  for (std::size_t i = 0; i < start.size(); ++i) CHECK(relative_error(sub(up[i], start[i]), sub(start[i], down[i])) < 1e-12);
}

TEST_CASE("the mean absolute error passes exactly nothing on to the values") {
  const Setting s(8);
  const InnerOptions<double> o{.loss = losses::mae, .epochs = 2, .batches = 2};
  const Tensor<double> g = grad([&](const Tensor<double>& v) { return sum(square(inner_scan(s.model, s.w0, s.q, s.k, v, o).output)); })(s.v);
  CHECK(amax(abs(g)).item() == 0);
}

TEST_CASE("rates per token and parameter: constant ones are a rate for each parameter") {
  const Setting s(9);
  InnerOptions<double> o{.loss = losses::mse};
  o.token_rates = {full<double>({2, 2, 7}, 0.5), full<double>({2, 2, 7}, 0.0)};
  const Tensors<double> both = inner_train(s.model, s.w0, s.k, s.v, {.loss = losses::mse, .rate = 0.5}), w = inner_train(s.model, s.w0, s.k, s.v, o);
  CHECK(relative_error(w[0], both[0]) < 1e-14);
  CHECK(relative_error(w[1], expand_per_image(s.w0, s.B)[1]) == 0);
  CHECK(inner_train(s.model, s.w0, s.k, s.v, {.loss = losses::mse, .head_rate = tensor<double>({0, 1})})[0].to_vector().at(0) == s.w0[0].to_vector().at(0));
}

TEST_CASE("options print as one line") {
  CHECK(to_string(InnerOptions<float>{}) == "loss dot, rate 1, 1 epoch of the full batch");
  InnerOptions<float> o{.loss = losses::mse, .rate = 0.5, .epochs = 2, .batches = 4, .clip = true, .momentum = 0.9, .weight_decay = 0.01,
                        .newton_schulz = NewtonSchulz::stepwise, .row_norm = true};
  o.token_rates = {zeros<float>({1, 1, 1})};
  CHECK(concat(o) == "loss mse, rate 0.5 per token, 2 epochs of 4 batches, column clip, momentum 0.9, Newton-Schulz stepwise, weight decay 0.01, row norm");
  const InnerOptions<float> scan{.schedule = {.chunk = 16, .read = Read::causal, .reversed = true, .segment = 64, .between = Between::detach}};
  CHECK(concat(scan) == "loss dot, rate 1, 1 epoch of the full batch, chunks of 16, causal, segments of 64, detached between, reversed");
}

TEST_CASE("what a schedule and its options refuse") {
  const Setting s(10);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(s({.rate = nan}), "ttt::inner_train: rate is not finite: rate nan");
  CHECK_THROWS_WITH(s({.momentum = 1 / 0.0}), "ttt::inner_train: momentum is not finite: momentum inf");
  CHECK_THROWS_WITH(s({.batches = 8}), "ttt::inner_train: number of batches must lie in [1, tokens]: batches 8, tokens 7\n  in inner_scan");
  CHECK_THROWS_WITH(inner_train(s.model, s.w0, s.k, s.v, {.schedule = {.chunk = 2}}),
                    "ttt::inner_train: the schedule does more than train on all tokens: loss dot, rate 1, 1 epoch of the full batch, chunks of 2. "
                    "Hint: inner_scan(model, w0, q, k, v, options)\n  in inner_step");
  CHECK_THROWS_WITH(s({.epochs = 2, .schedule = {.read = Read::causal}}),
                    "ttt::inner_scan: a causal chunk is one step: epochs 2, batches 1. Hint: make chunks smaller\n  in inner_scan");
  CHECK_THROWS_WITH(s({.loss = losses::rmse, .schedule = {.read = Read::causal, .causal = Schedule::Causal::dual}}),
                    "ttt::inner_scan: the dual form is not possible: loss rmse is not a sum over tokens. Hint: Schedule::Causal::sequential\n"
                    "  in inner_scan");
  CHECK_THROWS_WITH(s({.schedule = {.acts = {{InnerAct::Kind::apply, 5, 9}}}}),
                    "ttt::inner_scan: an act must cover at least one of the tokens: [5, 9), tokens 7\n  in inner_scan");
  CHECK_THROWS_WITH(inner_train(s.model, Tensors<double>{s.w0[0]}, s.k, s.v), "ttt::inner_train: inner model mlp_l2 has 2 weights: w0 holds 1\n  in inner_step");
  CHECK_THROWS_WITH(inner_train(s.model, Tensors<double>{s.w0[1], s.w0[0]}, s.k, s.v),
                    "ttt::inner_train: weight w1 of inner model mlp_l2 must be [H, ..] = [2, 3, 5]: w0 [2, 5, 3], k [2, 2, 7, 3]\n  in inner_step");
  CHECK_THROWS_WITH(s({.position_rate = ones<double>({7})}),
                    "ttt::inner_train: position rates belong to causal chunks: loss dot, rate 1 per position, 1 epoch of the full batch");
  CHECK_THROWS_WITH(s({.position_rate = ones<double>({2}), .schedule = {.read = Read::causal}}),
                    "ttt::inner_scan: position rates must cover the chunk: position_rate [2], chunk 7\n  in inner_scan");
  CHECK_THROWS_WITH(inner_scan(s.model, s.w0, part(s.q, 0, 5), s.k, s.v),
                    "ttt::inner_scan: needs q and k [B, H, N, d] with the same B, H, N: q [2, 2, 5, 3], k [2, 2, 7, 3]\n  in inner_scan");
  CHECK_THROWS_WITH(inner_scan(s.model, s.w0, slice(s.q, 0, 0, 1), s.k, s.v),
                    "ttt::inner_scan: needs q and k [B, H, N, d] with the same B, H, N: q [1, 2, 7, 3], k [2, 2, 7, 3]\n  in inner_scan");
  CHECK_THROWS_WITH(inner_scan(s.model, s.w0, slice(s.q, 1, 0, 1), s.k, s.v),
                    "ttt::inner_scan: needs q and k [B, H, N, d] with the same B, H, N: q [2, 1, 7, 3], k [2, 2, 7, 3]\n  in inner_scan");
  CHECK_THROWS_WITH(inner_scan(s.model, initial_state(s.w0, 1), s.q, s.k, s.v),
                    "ttt::inner_scan: the state is of other images or heads, its weights must be [B, H, ..]: w [1, 2, 3, 5], k [2, 2, 7, 3]\n"
                    "  in inner_scan");
  CHECK_THROWS_WITH(s({.schedule = {.chunk = 2, .read = Read::causal, .acts = {{InnerAct::Kind::update, 0, 7}, {InnerAct::Kind::apply, 0, 7}}}}),
                    "ttt::inner_train: acts of your own replace chunks, segments and the order of reading: 2 acts beside loss dot, rate 1, "
                    "1 epoch of the full batch, chunks of 2, causal. Hint: leave those at their defaults");
  CHECK_THROWS_WITH(s({.token_rates = {zeros<double>({2, 7})}}), "ttt::inner_train: token rates must be [B, H, N]: token_rates [2, 7], k [2, 2, 7, 3]");
}

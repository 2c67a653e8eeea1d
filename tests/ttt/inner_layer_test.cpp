// The layer that puts any inner training between projections: a token mixer for backbones.
#include <limits>

#include "catch.hpp"
#include "tttlib/nn/summary.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/inner_layer.hpp"

using namespace ttt;

TEST_CASE("the layer mixes tokens of a grid with every inner model, and every parameter learns") {
  manual_seed(1);
  for (const auto& entry : inner::all<float>()) {
    INFO(entry.first);
    InnerTrainingLayer<float> layer(8, 2, entry.first, {.loss = losses::mse, .clip = true},
                                    {.dynamic_rate = true, .learned_rate = true, .deviation = 0.3,
                                     .ratio = inner::has_hidden_width(entry.first) ? 2.0 : 0.0});
    const Tensor<float> x = randn<float>({2, 3, 5, 8});
    const Tensor<float> y = layer(x);
    CHECK(y.shape() == x.shape());
    mean(square(y)).backward();
    for (const auto& p : layer.named_parameters()) {
      INFO(p.first);
      REQUIRE(p.second->grad().defined());
      CHECK(amax(abs(p.second->grad())).item() > 0);
    }
  }
}

TEST_CASE("the layer is qkv, inner training, projection") {
  manual_seed(2);
  InnerTrainingLayer<double> layer(6, 2, "glu", {.loss = losses::mse, .rate = 0.5, .batches = 2}, {.deviation = 0.5});
  const Tensor<double> x = randn<double>({2, 2, 3, 6});
  const Tensors<double> parts = split((*layer.qkv)(x), {6, 6, 6}, -1);
  const auto heads = [](const Tensor<double>& t) { return permute(reshape(t, {2, 6, 2, 3}), {0, 2, 1, 3}); };
  const InnerModel<double> model = inner::glu<double>(3);
  const Tensors<double> w = inner_train(model, layer.w0, heads(parts[1]), heads(parts[2]), {.loss = losses::mse, .rate = 0.5, .batches = 2});
  const Tensor<double> o = permute(model(heads(parts[0]), w), {0, 2, 1, 3});
  CHECK(relative_error(layer(x), (*layer.proj)(reshape(o, {2, 2, 3, 6}))) < 1e-15);
  std::vector<std::string> names;
  for (const auto& p : layer.named_parameters()) names.push_back(p.first);
  CHECK(names == std::vector<std::string>{"w1", "w2", "qkv.weight", "qkv.bias", "proj.weight", "proj.bias"});
}

TEST_CASE("a dynamic rate of constant gates is a rate; a learned rate starts at one") {
  manual_seed(3);
  const Tensor<double> x = randn<double>({1, 2, 2, 4});
  InnerTrainingLayer<double> gated(4, 2, "fc", {.loss = losses::dot}, {.dynamic_rate = true, .learned_rate = true});
  InnerTrainingLayer<double> plain(4, 2, "fc", {.loss = losses::dot, .rate = 0.5});
  for (const auto& p : plain.named_parameters())
    for (auto& other : gated.named_parameters())
      if (other.first == p.first) *other.second = *p.second;
  gated.rate->weight = zeros<double>({2, 4});
  gated.rate->bias = zeros<double>({2});  // sigmoid(0) = 1/2
  CHECK(relative_error(gated(x), plain(x)) < 1e-14);
}

TEST_CASE("a model of one's own in the layer, by a function of the head width") {
  manual_seed(4);
  InnerTrainingLayer<double> layer(6, 2, [](const inner::Options& o) {
    return inner::model<double>("cubic", {{o.width, o.width}}, [](auto& x, auto& w) { return pow(matmul(x, w[0]), 3); });
  }, {.loss = losses::mse, .rate = 0.1, .schedule = {.chunk = 4, .read = Schedule::Read::causal}}, {.deviation = 0.5});
  const GradCheck check = check_grads([&](const Tensor<double>& x) { return layer(x); }, {randn<double>({1, 2, 3, 6})}, 2);
  INFO(check);
  CHECK(check);
}

TEST_CASE("inference leaves no node; the summary counts the inner training") {
  manual_seed(5);
  InnerTrainingLayer<float> layer(8, 2, "glu");
  const std::int64_t before = live_nodes();
  {
    NoGradGuard guard;
    const Tensor<float> y = layer(randn<float>({1, 2, 3, 8}));
    CHECK_FALSE(y.is_tracked());
    CHECK(live_nodes() == before);
  }
  // Per token and head of width 4: glu forward on k, its two weight gradients, forward on q, 2·16 each.
  CHECK(summarize(layer, {1, 2, 3, 8}).macs == 6 * (8 * 24 + 2 * 3 * 2 * 16 + 8 * 8));
}

TEST_CASE("what the layer refuses") {
  CHECK_THROWS_WITH(InnerTrainingLayer<float>(8, 3, "fc"), "ttt::InnerTrainingLayer: heads must divide channels: channels 8, heads 3");
  CHECK_THROWS_AS(InnerTrainingLayer<float>(8, 2, "lstm"), Error);
  CHECK_THROWS_WITH(InnerTrainingLayer<float>(8, 2, "fc", {.rate = std::numeric_limits<double>::infinity()}),
                    "ttt::inner_train: rate is not finite: rate inf");
  InnerTrainingLayer<float> layer(8, 2, "fc", {.batches = 9});
  CHECK_THROWS_WITH(layer(zeros<float>({1, 4, 8})), "ttt::InnerTrainingLayer: needs a grid [B, h, w, 8]: x [1, 4, 8]\n  in InnerTrainingLayer");
  CHECK_THROWS_WITH(layer(zeros<float>({1, 2, 3, 8})), "ttt::inner_train: number of batches must lie in [1, tokens]: batches 9, tokens 6\n"
                                                       "  in InnerTrainingLayer.inner_scan");
}

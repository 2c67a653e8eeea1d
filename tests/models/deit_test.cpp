// DeiT with the token mixer as a parameter: published sizes, symmetry, gradients, cost.
#include "catch.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/nn/summary.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"

using namespace ttt;

namespace {

/// 8 × 8 images in 2 × 2 patches, 2 blocks of 8 channels and 2 heads.
DeitOptions tiny() {
  DeitOptions o;
  o.image_size = 8;
  o.patch_size = 4;
  o.channels = 8;
  o.depth = 2;
  o.heads = 2;
  o.num_classes = 3;
  o.mlp_ratio = 2;
  o.class_token = false;
  o.deviation = 0;
  return o;
}

std::vector<TokenMixer<double>> every_kind() {
  return {mixers::softmax_attention<double>(), mixers::linear_attention<double>(),
          mixers::inner_training<double>("glu", {.loss = losses::mse, .epochs = 2}, {.deviation = 0.4}),
          mixers::inner_training<double>("dwconv3x3", {}, {.deviation = 0.4})};
}

/// Parameters of a 12-block DeiT-S with a mixer, from two small depths: blocks are alike.
std::int64_t parameters_in_deit_small(const TokenMixer<float>& mixer) {
  DeitOptions o;
  o.channels = 384;
  o.heads = 6;
  o.class_token = false;
  o.deviation = 0;
  o.depth = 1;
  const std::int64_t one = Deit<float>(o, mixer).num_parameters();
  o.depth = 2;
  return one + 11 * (Deit<float>(o, mixer).num_parameters() - one);
}

}  // namespace

TEST_CASE("parameter counts are those of the published DeiT-T and DeiT-S") {
  CHECK(create_model<float>("deit_tiny")->num_parameters() == 5717416);
  CHECK(create_model<float>("deit_small")->num_parameters() == 22050664);
}

TEST_CASE("names are those of the published checkpoints") {
  auto model = create_model<float>("deit_nano", {.num_classes = 10});
  std::vector<std::string> names;
  for (auto& entry : model->named_parameters()) names.push_back(entry.first + " " + to_string(entry.second->shape()));
  CHECK(names.size() == 4 + 6 * 12 + 4);
  for (const char* expected : {"cls_token [1, 1, 96]", "pos_embed [1, 65, 96]", "patch_embed.proj.weight [96, 3, 4, 4]", "blocks.0.norm1.weight [96]",
                               "blocks.0.attn.qkv.weight [288, 96]", "blocks.5.attn.proj.bias [96]", "blocks.5.mlp.fc1.weight [384, 96]",
                               "norm.bias [96]", "head.weight [10, 96]"}) {
    INFO(expected);
    CHECK(std::find(names.begin(), names.end(), expected) != names.end());
  }
}

TEST_CASE("multiply-accumulates of DeiT-T and DeiT-S are the published 1.3 and 4.6 G, attention's own included") {
  // 197 tokens, C channels: 12·(12·N·C² + 2·N²·C) + 196·768·C + 1000·C
  for (const auto& [name, C] : std::vector<std::pair<std::string, std::int64_t>>{{"deit_tiny", 192}, {"deit_small", 384}}) {
    auto model = create_model<float>(name);
    CHECK(summarize(*model, {1, 224, 224, 3}).macs == 12 * (12 * 197 * C * C + 2 * 197 * 197 * C) + 196 * 768 * C + 1000 * C);
  }
}

TEST_CASE("a mixer's name says nothing that its inner model does not have") {
  CHECK(mixers::inner_training("swiglu", {}, {.ratio = 2}).name ==
        "inner training of swiglu r2, loss dot, rate 1, 1 epoch of the full batch, W0 deviation 0.02");
  CHECK(mixers::inner_training("mlp", {}, {.layers = 3}).name ==
        "inner training of mlp l3, loss dot, rate 1, 1 epoch of the full batch, W0 deviation 0.02");
  CHECK_THROWS_WITH(mixers::inner_training("glu", {}, {.ratio = 2}),
                    "ttt::inner::make: inner model glu has no hidden width: ratio 2. Hint: leave ratio at 0");
  CHECK_THROWS_WITH(mixers::inner_training("dwconv3x3", {}, {.layers = 3}),
                    "ttt::inner::make: inner model dwconv3x3 has no choice of layers: layers 3. Hint: \"mlp\" has one, 2 or 3");
}

TEST_CASE("inner models add to a DeiT-S what the paper's table adds") {
  const std::int64_t r1 = parameters_in_deit_small(mixers::inner_training("mlp")),
                     r2 = parameters_in_deit_small(mixers::inner_training("mlp", {}, {.ratio = 2}));
  const std::int64_t conv = parameters_in_deit_small(mixers::inner_training("conv3x3")),
                     depthwise = parameters_in_deit_small(mixers::inner_training("dwconv3x3"));
  CHECK(r2 - r1 == 12 * 6 * 2 * 64 * 64);                      // 0.59 M; the paper's 23.5, 24.1, 24.7, 25.2 M
  CHECK(conv - depthwise == 12 * 6 * (64 * 64 * 9 - 64 * 9));  // 2.61 M; the paper's 25.5 and 22.9 M
}

TEST_CASE("without positions the order of the patches does not matter, unless the mixer knows the grid") {
  manual_seed(5);
  DeitOptions o = tiny();
  const bool position = GENERATE(false, true), class_token = GENERATE(false, true);
  o.position = position;
  for (const TokenMixer<double>& mixer : every_kind()) {
    if (mixer.on_grid && class_token) continue;
    o.class_token = class_token;
    Deit<double> model(o, mixer);
    const Tensor<double> x = randn<double>({2, 8, 8, 3});
    const Tensor<double> swapped = cat<double>({slice(x, 1, 4, 8), slice(x, 1, 0, 4)}, 1);  // upper and lower patches change places
    const double difference = relative_error(model(swapped), model(x));
    INFO(mixer.name << ", position " << position << ", class token " << class_token);
    if (position || mixer.on_grid) CHECK(difference > 1e-6);
    else CHECK(difference < 1e-13);
  }
}

TEST_CASE("gradients of a tiny model with every kind of mixer, to order 2 and for every parameter") {
  for (const TokenMixer<double>& mixer : every_kind()) {
    manual_seed(6);
    DeitOptions o = tiny();
    o.depth = 1;
    o.class_token = !mixer.on_grid;
    Deit<double> model(o, mixer);
    const Tensor<double> x = randn<double>({2, 8, 8, 3});
    StateDict<double> named = model.state_dict();
    Tensors<double> values;
    for (const auto& entry : named) values.push_back(clone(entry.second));
    const Function<double> f = [&](const Tensors<double>& w) {
      StateDict<double> replaced = named;
      for (std::size_t i = 0; i < w.size(); ++i) replaced[i].second = w[i];
      return functional_call(model, replaced, x);
    };
    const auto check = check_grads(f, values, 2);
    INFO(mixer.name << ": " << check);
    CHECK(check);
  }
}

TEST_CASE("what does not fit is told in one line") {
  DeitOptions o = tiny();
  o.class_token = true;
  CHECK_THROWS_WITH((Deit<double>(o, mixers::inner_training<double>("conv3x3"))),
                    ContainsSubstring("ttt::Deit: a class token has no place on the grid: mixer inner training of conv3x3"));
  CHECK_THROWS_WITH((mixers::inner_training<double>("cubic")),
                    ContainsSubstring("unknown inner model \"cubic\"") && ContainsSubstring("known names: fc, silu_fc"));
  Deit<double> model(tiny(), mixers::softmax_attention<double>());
  CHECK_THROWS_WITH(model(zeros<double>({1, 8, 12, 3})), ContainsSubstring("positions were learned for images of 8 x 8: x [1, 8, 12, 3]"));
  o.patch_size = 3;
  CHECK_THROWS_AS((Deit<double>(o, mixers::softmax_attention<double>())), ShapeError);
}

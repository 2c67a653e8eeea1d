// ViT³: published parameter counts, image sizes, cost, errors.
#include <cmath>

#include "catch.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/nn/summary.hpp"

using namespace ttt;

TEST_CASE("parameter counts are the published ones") {
  CHECK(create_model<float>("vit3_tiny")->num_parameters() == 6149416);
  CHECK(create_model<float>("vit3_small")->num_parameters() == 23799400);
  CHECK(create_model<float>("vit3_base")->num_parameters() == 90055912);
  CHECK(create_model<float>("vit3_nano", {.num_classes = 10})->num_parameters() == 795562);
}

TEST_CASE("multiply-accumulates of ViT3-T at 224 x 224 are the published 1.2 G, counted by hand") {
  auto model = create_model<float>("vit3_tiny");
  const Summary summary = summarize(*model, {1, 224, 224, 3});
  const std::int64_t N = 196, C = 192, d = 32;
  const std::int64_t patches = N * C * 16 * 16 * 3, cpe = N * C * 9, qkv = N * C * (3 * C + 3 * d), proj = N * (C + d) * C;
  const std::int64_t glu = 6 * N * C * d;      // two products each: on K, for the gradient, on Q
  const std::int64_t window = 2 * N * d * 9;   // the extra head: gradient and read-out
  const std::int64_t mlp = 2 * N * C * 4 * C, head = C * 1000;
  CHECK(summary.macs == patches + 12 * (cpe + qkv + glu + window + proj + mlp) + head);
  CHECK(std::round(static_cast<double>(summary.macs) / 1e8) == 12);
}

TEST_CASE("sizes that make no model are refused") {
  CHECK_THROWS_WITH(Vit3<float>({.patch_size = 0}),
                    "ttt::Vit3: sizes must be positive: patch_size 0, channels 192, depth 12, heads 6, num_classes 1000, mlp_ratio 4");
  CHECK_THROWS_AS(Vit3<float>({.depth = -1}), ShapeError);
  CHECK_THROWS_WITH(Conv2d<float>(4, 4, 3, {.groups = 0}),
                    "ttt::Conv2d: needs positive sizes, and groups that divide both channels: in 4, out 4, kernel 3, groups 0");
  CHECK_THROWS_AS(Conv2d<float>(4, 4, 3, {.groups = 3}), ShapeError);
}

TEST_CASE("any image size whose sides are multiples of the patch, square or not") {
  auto model = create_model<float>("vit3_nano", {.num_classes = 7});
  NoGradGuard guard;
  CHECK((*model)(zeros<float>({2, 32, 32, 3})).shape() == Shape{2, 7});
  CHECK((*model)(zeros<float>({1, 8, 20, 3})).shape() == Shape{1, 7});
  CHECK_THROWS_WITH((*model)(zeros<float>({1, 30, 32, 3})),
                    "ttt::PatchEmbed: needs images [B, H, W, 3] with sides that are multiples of the patch: x [1, 30, 32, 3], "
                    "patch 4. Hint: from_nchw(x) converts [B, 3, H, W]\n  in Vit3.patch_embed");
  CHECK_THROWS_AS((*model)(zeros<float>({0, 32, 32, 3})), ShapeError);
}

TEST_CASE("patch size is free, unknown names list the known ones") {
  CHECK(create_model<float>("vit3_nano", {.num_classes = 10, .patch_size = 8})->named_parameters()[0].second->shape() == Shape{96, 3, 8, 8});
  CHECK_THROWS_WITH(create_model<float>("vit4"),
                    "ttt::create_model: unknown model \"vit4\". Hint: known names: vit3_pico, vit3_nano, vit3_tiny, vit3_small, vit3_base, deit_nano, deit_tiny, deit_small, linear_pixels");
  CHECK_THROWS_AS(create_model<float>("vit3_nano", {.patch_size = 5}), ShapeError);
  CHECK_THROWS_WITH(create_model<float>("vit3_nano", {.image_size = -32}),
                    "ttt::create_model: image size must be a positive multiple of the patch: image -32, patch 4");
}

TEST_CASE("drop path changes training, not evaluation, and gradients reach every parameter") {
  manual_seed(0);
  auto model = create_model<float>("vit3_nano", {.num_classes = 10, .drop_path = 0.9});
  const Tensor<float> x = randn<float>({2, 8, 8, 3});
  model->eval();
  const std::vector<float> first = (*model)(x).to_vector();
  CHECK((*model)(x).to_vector() == first);
  auto whole = create_model<float>("vit3_nano", {.num_classes = 10});
  sum(square((*whole)(x))).backward();
  for (auto& entry : whole->named_parameters()) {
    INFO(entry.first);
    REQUIRE(entry.second->grad().defined());
    CHECK(sum(abs(entry.second->grad())).item() > 0);
  }
}

TEST_CASE("recomputed blocks give the same gradients, bit for bit, and keep less") {
  const auto gradients = [](bool recompute, std::size_t& kept) {
    manual_seed(5);
    auto model = create_model<float>("vit3_nano", {.num_classes = 4, .drop_path = 0.3, .recompute = recompute});
    const Tensor<float> images = randn<float>({2, 32, 32, 3});
    const std::size_t before = HostAllocator::instance().bytes_in_use();
    const Tensor<float> loss = mean(square((*model)(images)));
    kept = HostAllocator::instance().bytes_in_use() - before;
    loss.backward();
    std::vector<std::vector<float>> all;
    for (const Tensor<float>& p : model->parameters()) all.push_back(p.grad().to_vector());
    return all;
  };
  std::size_t plain = 0, less = 0;
  const auto expected = gradients(false, plain);
  const bool same = gradients(true, less) == expected;
  CHECK(same);
  CHECK(4 * less < plain);
}

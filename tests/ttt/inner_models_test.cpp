// Inner models: formulas, names, initial weights, multiply-accumulates, lookup, and what a mistake says.
#include <cmath>

#include "catch.hpp"
#include "tttlib/testing/check_grads.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/inner_train.hpp"

using namespace ttt;

namespace {

/// Random weights [B, H, …] and a call on random tokens.
struct Call1 {
  InnerModel<double> model;
  Tensor<double> x;
  Tensors<double> w;
  explicit Call1(InnerModel<double> m, std::int64_t n = 6, std::int64_t d = 4) : model(std::move(m)), x(randn<double>({2, 3, n, d})) {
    for (const InnerParameter& p : model.parameters) {
      Shape shape = p.shape;
      shape.insert(0, 3);
      shape.insert(0, 2);
      w.push_back(randn<double>(shape));
    }
  }
  Tensor<double> operator()() const { return model(x, w); }
};

Tensor<double> silu_of(const Tensor<double>& x) { return mul(x, sigmoid(x)); }

}  // namespace

TEST_CASE("inner models compute the papers' formulas") {
  manual_seed(1);
  const std::int64_t d = 4, h = 6;
  const auto check = [](const Call1& c, const Tensor<double>& expected) {
    INFO(c.model.name);
    CHECK(relative_error(c(), expected) < 1e-14);
  };
  {
    const Call1 c(inner::fc<double>(d));
    check(c, matmul(c.x, c.w[0]));
  }
  {
    const Call1 c(inner::silu_fc<double>(d));
    check(c, silu_of(matmul(c.x, c.w[0])));
  }
  {
    const Call1 c(inner::mlp<double>(d, h, 3));
    check(c, matmul(silu_of(matmul(silu_of(matmul(c.x, c.w[0])), c.w[1])), c.w[2]));
  }
  {
    const Call1 c(inner::glu<double>(d));
    check(c, mul(matmul(c.x, c.w[0]), silu_of(matmul(c.x, c.w[1]))));
  }
  {
    const Call1 c(inner::swiglu<double>(d, h));
    check(c, matmul(mul(matmul(c.x, c.w[0]), silu_of(matmul(c.x, c.w[1]))), c.w[2]));
  }
  {
    const Call1 c(inner::mlp_residual<double>(d, h));
    check(c, add(matmul(silu_of(matmul(c.x, c.w[0])), c.w[1]), c.x));
  }
  {
    const Call1 c(inner::mlp_identity<double>(d));
    check(c, matmul(silu_of(matmul(c.x, c.w[0])), add(c.w[1], eye<double>(d))));
  }
}

TEST_CASE("convolutions on the grid equal those of images, with a kernel for each image and head") {
  manual_seed(2);
  const std::int64_t h = GENERATE(1, 3), w = 2, d = 4;
  for (const bool depthwise : {false, true}) {
    const Call1 c(depthwise ? inner::dwconv3x3<double>(d, h, w) : inner::conv3x3<double>(d, h, w), h * w);
    const Tensor<double> y = c();
    for (std::int64_t b = 0; b < 2; ++b)
      for (std::int64_t head = 0; head < 3; ++head) {
        const auto of = [&](const Tensor<double>& t) { return select(select(t, 0, b), 0, head); };
        const Tensor<double> image = reshape(of(c.x), {1, h, w, d});
        const Tensor<double> expected = conv2d(image, of(c.w[0]), {}, {.padding = 1, .groups = depthwise ? d : 1});
        CHECK(relative_error(of(y), reshape(expected, {h * w, d})) < 1e-13);
      }
  }
}

TEST_CASE("parameters have names, shapes and initial weights") {
  manual_seed(3);
  for (const auto& entry : inner::all<double>()) {
    INFO(entry.first);
    const double ratio = inner::has_hidden_width(entry.first) ? 2 : 0;
    const InnerModel<double> model = entry.second({.width = 4, .ratio = ratio, .grid_height = 2, .grid_width = 3});
    if (entry.first != "mlp") CHECK(model.name == entry.first);
    const Tensors<double> w0 = model.initial_weights(3);
    REQUIRE(w0.size() == model.parameters.size());
    std::int64_t count = 0;
    for (std::size_t i = 0; i < w0.size(); ++i) {
      CHECK(w0[i].size(0) == 3);
      CHECK_FALSE(model.parameters[i].name.empty());
      count += w0[i].numel();
    }
    CHECK(count == 3 * model.parameter_count());
    CHECK(model(randn<double>({2, 3, 6, 4}), expand_per_image(w0, 2)).shape() == Shape{2, 3, 6, 4});
  }
  CHECK(inner::make<float>("mlp_w2_identity", {.width = 3}).initial_weights(2)[1].to_vector() ==
        std::vector<float>{1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1});
  CHECK(inner::make("ttt_mlp", {.width = 4}).parameters[0].shape == Shape{4, 16});
  CHECK(inner::make("mlp", {.width = 4, .ratio = 1.5, .layers = 3}).parameters[1].shape == Shape{6, 6});
  const auto mine = inner::model<double>("mine", {{2, 2}}, [](auto& x, auto& w) { return matmul(x, w[0]); },
                                         [](std::int64_t heads) { return Tensors<double>{full<double>({heads, 2, 2}, 0.5)}; });
  CHECK(mine.initial_weights(3)[0].to_vector() == std::vector<double>(12, 0.5));
}

TEST_CASE("multiply-accumulates of one call: every matrix or kernel element once per token") {
  const Shape x{2, 3, 6, 4};
  const std::int64_t calls = 2 * 3 * 6, d = 4;
  const auto macs = [&](const char* name) {
    const double ratio = inner::has_hidden_width(name) ? 2 : 0;
    return inner::make<float>(name, {.width = d, .ratio = ratio, .grid_height = 2, .grid_width = 3}).macs(x);
  };
  CHECK(macs("fc") == calls * d * d);
  CHECK(macs("silu_fc") == calls * d * d);
  CHECK(macs("mlp_l2") == calls * 2 * d * 2 * d);
  CHECK(macs("mlp_l3") == calls * (2 * d * 2 * d + 4 * d * d));
  CHECK(macs("glu") == calls * 2 * d * d);
  CHECK(macs("swiglu") == calls * 3 * d * 2 * d);
  CHECK(macs("conv3x3") == calls * 9 * d * d);
  CHECK(macs("dwconv3x3") == calls * 9 * d);
  CHECK(macs("ttt_linear") == calls * d * d);
  const auto twice = inner::model<float>("twice", {{4, 4}}, [](auto& t, auto& w) { return matmul(matmul(t, w[0]), w[0]); });
  CHECK(twice.macs(x) == calls * 2 * d * d);
}

TEST_CASE("outer gradients through one inner step are exact to order 2 for every model") {
  manual_seed(4);
  const InnerOptions<double> options{.loss = losses::mse, .rate = 0.5};
  for (const auto& entry : inner::all<double>()) {
    const InnerModel<double> model =
        entry.second({.width = 3, .ratio = 1, .layers = entry.first == "mlp" ? 3 : 0, .grid_height = 2, .grid_width = 2});
    Tensors<double> xs{randn<double>({1, 2, 4, 3}), randn<double>({1, 2, 4, 3}), randn<double>({1, 2, 4, 3})};
    for (const Tensor<double>& w : model.initial_weights(2, 0.5)) xs.push_back(w);
    const Function<double> layer = [&](const Tensors<double>& x) {
      return model(x[0], inner_train(model, Tensors<double>(x.begin() + 3, x.end()), x[1], x[2], options));
    };
    const GradCheck check = check_grads(layer, xs, 2);
    INFO(entry.first << ": " << check);
    CHECK(check);
  }
}

TEST_CASE("what an inner model refuses") {
  CHECK_THROWS_WITH(inner::make("gru", {.width = 4}),
                    "ttt::inner::factory: unknown inner model \"gru\". Hint: known names: fc, silu_fc, mlp, mlp_l2, mlp_l3, glu, swiglu, "
                    "mlp_residual, mlp_identity, mlp_w2_identity, conv3x3, dwconv3x3, ttt_linear, ttt_mlp");
  CHECK_THROWS_WITH(inner::make("conv3x3", {.width = 4}), "ttt::inner::conv3x3: a convolution needs the grid of tokens: height 0, width 0");
  CHECK_THROWS_WITH(inner::mlp(4, 4, 5), "ttt::inner::mlp: 2 or 3 layers are possible: layers 5");
  CHECK_THROWS_WITH(inner::make("glu", {.width = 4, .ratio = 2}), "ttt::inner::make: inner model glu has no hidden width: ratio 2. Hint: leave ratio at 0");
  CHECK_THROWS_WITH(inner::make("swiglu", {.width = 4, .ratio = -2}), "ttt::inner::make: a hidden width must be positive: ratio -2");
  CHECK_THROWS_WITH(inner::make("mlp_l2", {.width = 4, .layers = 3}),
                    "ttt::inner::make: inner model mlp_l2 has no choice of layers: layers 3. Hint: \"mlp\" has one, 2 or 3");
  CHECK(inner::make("glu", {.width = 4, .ratio = 1}).parameter_count() == 32);
  InnerModel<double> mine;
  mine.name = "mine";
  CHECK_THROWS_WITH(mine.macs({1, 1, 2, 2}),
                    "ttt::InnerModel: no function to apply: model \"mine\". Hint: set apply, or use inner::model");
  const InnerModel<double> conv = inner::dwconv3x3<double>(2, 2, 3);
  const Tensor<double> k = zeros<double>({1, 1, 6, 2});
  CHECK_THROWS_WITH(inner_train<double>(conv, {zeros<double>({1, 2, 1, 3, 3})}, k, k, {.batches = 2}),
                    "ttt::inner::dwconv3x3: tokens do not fill the grid: x [1, 1, 3, 2], grid 2 x 3. Hint: a convolution needs all tokens of the "
                    "image in one batch\n  in inner_step");
}

#pragma once
/// The inner models of the papers, and their lookup by name. Matrices are [in, out] (y = xW); r = hidden width / d.
/// Sources: ViT³ (arXiv 2512.01643) Tables 4 and 6; TTT-Linear and TTT-MLP (arXiv 2407.04620).

#include <algorithm>
#include <cmath>

#include "tttlib/ops/composed/norm.hpp"
#include "tttlib/ops/conv.hpp"
#include "tttlib/ttt/inner_model.hpp"

namespace ttt::inner {

/// xW: linear attention is this model with W0 = 0 and the dot loss.
template <class T = float>
InnerModel<T> fc(std::int64_t d) {
  return model_of_maps<T>("fc", {{"w1", {d, d}}}, [](auto& x, auto&& linear, auto&) { return linear(0, x); });
}
/// SiLU(xW)
template <class T = float>
InnerModel<T> silu_fc(std::int64_t d) {
  return model_of_maps<T>("silu_fc", {{"w1", {d, d}}}, [](auto& x, auto&& linear, auto&) { return silu(linear(0, x)); });
}
/// SiLU(xW1)W2, or with 3 layers SiLU(SiLU(xW1)W2)W3. Throws Error for another number of layers.
template <class T = float>
InnerModel<T> mlp(std::int64_t d, std::int64_t hidden, std::int64_t layers = 2) {
  if (layers == 2)
    return model_of_maps<T>("mlp_l2", {{"w1", {d, hidden}}, {"w2", {hidden, d}}},
                            [](auto& x, auto&& linear, auto&) { return linear(1, silu(linear(0, x))); });
  if (layers != 3) fail<Error>("inner::mlp", concat("2 or 3 layers are possible: layers ", layers));
  return model_of_maps<T>("mlp_l3", {{"w1", {d, hidden}}, {"w2", {hidden, hidden}}, {"w3", {hidden, d}}},
                          [](auto& x, auto&& linear, auto&) { return linear(2, silu(linear(1, silu(linear(0, x))))); });
}
/// (xW1) ⊙ SiLU(xW2): the heads of ViT³
template <class T = float>
InnerModel<T> glu(std::int64_t d) {
  return model_of_maps<T>("glu", {{"w1", {d, d}}, {"w2", {d, d}}},
                          [](auto& x, auto&& linear, auto&) { return mul(linear(0, x), silu(linear(1, x))); });
}
/// ((xW1) ⊙ SiLU(xW2))W3
template <class T = float>
InnerModel<T> swiglu(std::int64_t d, std::int64_t hidden) {
  return model_of_maps<T>("swiglu", {{"w1", {d, hidden}}, {"w2", {d, hidden}}, {"w3", {hidden, d}}},
                          [](auto& x, auto&& linear, auto&) { return linear(2, mul(linear(0, x), silu(linear(1, x)))); });
}
/// SiLU(xW1)W2 + x
template <class T = float>
InnerModel<T> mlp_residual(std::int64_t d, std::int64_t hidden) {
  return model_of_maps<T>("mlp_residual", {{"w1", {d, hidden}}, {"w2", {hidden, d}}},
                          [](auto& x, auto&& linear, auto&) { return add(linear(1, silu(linear(0, x))), x); });
}
/// SiLU(xW1)(W2 + I); the hidden width is d.
template <class T = float>
InnerModel<T> mlp_identity(std::int64_t d) {
  return model_of_maps<T>("mlp_identity", {{"w1", {d, d}}, {"w2", {d, d}}}, [](auto& x, auto&& linear, auto&) {
    const Tensor<T> hidden = silu(linear(0, x));  // [B, H, n, d]
    return add(linear(1, hidden), hidden);
  });
}
/// SiLU(xW1)W2 with W2 starting at the identity
template <class T = float>
InnerModel<T> mlp_w2_identity(std::int64_t d, std::int64_t hidden) {
  InnerModel<T> m = mlp<T>(d, hidden);
  m.name = "mlp_w2_identity";
  m.parameters[1].start = InnerParameter::Start::identity;
  return m;
}

/// LayerNorm over the last axis with a scale and an offset per head: z [B, H, n, d], γ and β [B, H, 1, d].
template <class T>
Tensor<T> norm_per_head(const Tensor<T>& z, const Tensor<T>& gamma, const Tensor<T>& beta) {
  return add(mul(layer_norm(z, Tensor<T>(), Tensor<T>(), 1e-6), gamma), beta);
}
/// x + LN(xW1 + b1; γ, β): TTT-Linear. γ and β are not trained inside.
template <class T = float>
InnerModel<T> ttt_linear(std::int64_t d) {
  using Start = InnerParameter::Start;
  return model_of_maps<T>(
      "ttt_linear",
      {{"w1", {d, d}}, {"b1", {1, d}, Start::zeros}, {"ln_weight", {1, d}, Start::ones, false}, {"ln_bias", {1, d}, Start::zeros, false}},
      [](auto& x, auto&& linear, auto& w) { return add(x, norm_per_head(linear(0, x), w[2], w[3])); }, {{0, 1}});
}
/// x + LN(GELU(xW1 + b1)W2 + b2; γ, β): TTT-MLP, with the tanh form of GELU
template <class T = float>
InnerModel<T> ttt_mlp(std::int64_t d, std::int64_t hidden) {
  using Start = InnerParameter::Start;
  return model_of_maps<T>(
      "ttt_mlp",
      {{"w1", {d, hidden}}, {"b1", {1, hidden}, Start::zeros}, {"w2", {hidden, d}}, {"b2", {1, d}, Start::zeros},
       {"ln_weight", {1, d}, Start::ones, false}, {"ln_bias", {1, d}, Start::zeros, false}},
      [](auto& x, auto&& linear, auto& w) {
        return add(x, norm_per_head(linear(1, gelu_tanh(linear(0, x))), w[4], w[5]));
      },
      {{0, 1}, {2, 3}});
}

/// Tokens [B, H, N, d] as the grid they are, row-major: -> [B·H, h, w, d]. Throws ShapeError if they do not fill it.
template <class T>
Tensor<T> tokens_on_grid(const char* op, const Tensor<T>& x, std::int64_t height, std::int64_t width) {
  if (x.size(-2) != height * width)
    fail<ShapeError>(op, concat("tokens do not fill the grid: x ", x.shape(), ", grid ", height, " x ", width),
                     "a convolution needs all tokens of the image in one batch");
  return reshape(x, {x.size(0) * x.size(1), height, width, x.size(-1)});
}
/// Throws ShapeError without a grid.
inline void require_grid(const char* op, std::int64_t height, std::int64_t width) {
  if (height < 1 || width < 1)
    fail<ShapeError>(op, concat("a convolution needs the grid of tokens: height ", height, ", width ", width));
}

/// 3×3 convolution d → d on the grid of tokens (zero padding 1). Throws ShapeError without a grid, or from a call whose
/// tokens do not fill it.
template <class T = float>
InnerModel<T> conv3x3(std::int64_t d, std::int64_t height, std::int64_t width) {
  require_grid("inner::conv3x3", height, width);
  return model<T>("conv3x3", {{d, d, 3, 3}}, [height, width](const Tensor<T>& x, const Tensors<T>& w) {
    // As one product per image and head: their kernels all differ, which a convolution of images could only do in groups.
    const Tensor<T> grid = pad(pad(tokens_on_grid("inner::conv3x3", x, height, width), 1, 1, 1), 2, 1, 1);  // [B·H, h+2, w+2, d]
    Tensors<T> windows;                                                                                      // 9 × [B·H, h, w, d]
    for (std::int64_t dy = 0; dy < 3; ++dy)
      for (std::int64_t dx = 0; dx < 3; ++dx) windows.push_back(slice(slice(grid, 1, dy, dy + height), 2, dx, dx + width));
    const std::int64_t B = x.size(0), H = x.size(1), N = x.size(2), in = x.size(3), out = w[0].size(2);
    const Tensor<T> patches = reshape(cat(windows, -1), {B, H, N, 9 * in});                                  // [B, H, N, 9·d]
    const Tensor<T> kernels = reshape(permute(w[0], {0, 1, 4, 5, 3, 2}), {B, H, 9 * in, out});               // [B, H, 9·d, d]
    return matmul(patches, kernels);                                                                         // [B, H, N, d]
  });
}
/// Depthwise 3×3 convolution on the grid of tokens (zero padding 1): the extra head of ViT³. Throws like conv3x3.
template <class T = float>
InnerModel<T> dwconv3x3(std::int64_t d, std::int64_t height, std::int64_t width) {
  require_grid("inner::dwconv3x3", height, width);
  return model<T>("dwconv3x3", {{d, 1, 3, 3}}, [height, width](const Tensor<T>& x, const Tensors<T>& w) {
    const Tensor<T> grid = tokens_on_grid("inner::dwconv3x3", x, height, width);              // [B·H, h, w, d]
    const Tensor<T> kernel = reshape(w[0], {grid.size(0), grid.size(3), 3, 3});               // [B·H, d, 3, 3]
    return reshape(depthwise_conv2d(grid, kernel, {.padding = {1, 1}}), x.shape());           // [B, H, N, d]
  });
}

/// What a lookup by name may need to know.
struct Options {
  std::int64_t width = 0;                        // d, the head's width
  double ratio = 0;                              // hidden width / d where it is free; 0: the model's usual one, 1 (ttt_mlp: 4)
  std::int64_t layers = 0;                       // of "mlp"; 0: 2
  std::int64_t grid_height = 0, grid_width = 0;  // of the tokens, for convolutions
};

/// Makes a model for a width, and for convolutions a grid.
template <class T>
using Factory = std::function<InnerModel<T>(const Options&)>;

/// Whether the model of that name has a hidden width to choose; in the others every layer is d wide.
inline bool has_hidden_width(const std::string& name) {
  for (const char* known : {"mlp", "mlp_l2", "mlp_l3", "swiglu", "mlp_residual", "mlp_w2_identity", "ttt_mlp"})
    if (name == known) return true;
  return false;
}
/// Throws Error for options that the model of that name could not follow.
inline void require_choices(const std::string& name, const Options& o) {
  if (!(o.ratio >= 0) || !std::isfinite(o.ratio)) fail<Error>("inner::make", concat("a hidden width must be positive: ratio ", o.ratio));
  if (o.ratio != 0 && o.ratio != 1 && !has_hidden_width(name))
    fail<Error>("inner::make", concat("inner model ", name, " has no hidden width: ratio ", o.ratio), "leave ratio at 0");
  if (o.layers != 0 && name != "mlp")
    fail<Error>("inner::make", concat("inner model ", name, " has no choice of layers: layers ", o.layers), "\"mlp\" has one, 2 or 3");
}

/// Every inner model by its name. They throw Error for a `ratio` or `layers` that the model does not have.
template <class T = float>
std::vector<std::pair<std::string, Factory<T>>> all() {
  const auto hidden = [](const Options& o, double usual) {
    const auto n = static_cast<std::int64_t>(std::llround((o.ratio > 0 ? o.ratio : usual) * static_cast<double>(o.width)));
    return std::max<std::int64_t>(n, 1);
  };
  std::vector<std::pair<std::string, Factory<T>>> models{
      {"fc", [](const Options& o) { return fc<T>(o.width); }},
      {"silu_fc", [](const Options& o) { return silu_fc<T>(o.width); }},
      {"mlp", [=](const Options& o) { return mlp<T>(o.width, hidden(o, 1), o.layers == 0 ? 2 : o.layers); }},
      {"mlp_l2", [=](const Options& o) { return mlp<T>(o.width, hidden(o, 1), 2); }},
      {"mlp_l3", [=](const Options& o) { return mlp<T>(o.width, hidden(o, 1), 3); }},
      {"glu", [](const Options& o) { return glu<T>(o.width); }},
      {"swiglu", [=](const Options& o) { return swiglu<T>(o.width, hidden(o, 1)); }},
      {"mlp_residual", [=](const Options& o) { return mlp_residual<T>(o.width, hidden(o, 1)); }},
      {"mlp_identity", [](const Options& o) { return mlp_identity<T>(o.width); }},
      {"mlp_w2_identity", [=](const Options& o) { return mlp_w2_identity<T>(o.width, hidden(o, 1)); }},
      {"conv3x3", [](const Options& o) { return conv3x3<T>(o.width, o.grid_height, o.grid_width); }},
      {"dwconv3x3", [](const Options& o) { return dwconv3x3<T>(o.width, o.grid_height, o.grid_width); }},
      {"ttt_linear", [](const Options& o) { return ttt_linear<T>(o.width); }},
      {"ttt_mlp", [=](const Options& o) { return ttt_mlp<T>(o.width, hidden(o, 4)); }},
  };
  for (auto& [name, make] : models)
    make = [name = name, make = std::move(make)](const Options& o) {
      require_choices(name, o);
      return make(o);
    };
  return models;
}
/// The maker of models of that name. Throws Error for an unknown one, listing those there are.
template <class T = float>
Factory<T> factory(const std::string& name) {
  std::string known;
  for (const auto& entry : all<T>()) {
    if (entry.first == name) return entry.second;
    known += (known.empty() ? "" : ", ") + entry.first;
  }
  fail<Error>("inner::factory", concat("unknown inner model \"", name, "\""), "known names: " + known);
}
/// The inner model of that name, e.g. `inner::make<float>("swiglu", {.width = 32, .ratio = 2})`. Throws like `factory`,
/// and ShapeError for a convolution without a grid.
template <class T = float>
InnerModel<T> make(const std::string& name, const Options& options) {
  return factory<T>(name)(options);
}

}  // namespace ttt::inner

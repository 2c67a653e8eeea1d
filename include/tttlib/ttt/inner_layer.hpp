#pragma once
/// A token mixer out of any inner model and any inner training, for backbones whose mixer is a parameter.
/// Legend: B images, h × w grid, N = h·w tokens, H heads, d head width, C = H·d channels.

#include "tttlib/nn/linear.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/inner_scan.hpp"
#include "tttlib/ttt/mixed_derivative.hpp"

namespace ttt {

struct InnerLayerOptions {
  bool qkv_bias = true;
  bool dynamic_rate = false;  // weight each token's term by sigmoid(x W_η + b_η), one weight per token and head
  bool learned_rate = false;  // one learned factor of η per head, 1 at the start
  double deviation = 0.02;    // of the inner weights at the start
  double ratio = 0;           // hidden width of the inner model over d, where it is free; 0: the model's usual one
  std::int64_t layers = 0;    // of the inner model "mlp"; 0: 2
};

/// q, k, v = Linear(x) in H heads; the inner model learns (k, v) by the options' schedule and answers q; Linear.
///   [B, h, w, C] -> [B, h, w, C]. Its own parameters: the inner model's W0, [H, …] each, by their names.
template <class T>
class InnerTrainingLayer : public Module<T> {
 public:
  std::shared_ptr<Linear<T>> qkv, proj, rate;  // rate: null without a dynamic rate
  Tensors<T> w0;                               // [H, …] each
  Tensor<T> head_rate;                         // [H], undefined without a learned rate
  InnerOptions<T> options;

  /// With a model by its name, see inner_models.hpp. Throws ShapeError if the heads do not divide the channels, Error
  /// for an unknown name. Warns if the values' projection cannot learn through the loss.
  InnerTrainingLayer(std::int64_t channels, std::int64_t heads, const std::string& model, InnerOptions<T> inner_options = {},
                     const InnerLayerOptions& layer = {})
      : InnerTrainingLayer(channels, heads, inner::factory<T>(model), std::move(inner_options), layer) {}

  /// With a model of your own: `model` makes it for a head width and a grid; its weights' shapes must not depend on the grid.
  InnerTrainingLayer(std::int64_t channels, std::int64_t heads, inner::Factory<T> model, InnerOptions<T> inner_options = {},
                     const InnerLayerOptions& layer = {})
      : Module<T>("InnerTrainingLayer"), options(std::move(inner_options)), make_(std::move(model)), layer_(layer),
        channels_(channels), heads_(heads) {
    if (heads < 1 || channels % heads != 0)
      fail<ShapeError>("InnerTrainingLayer", concat("heads must divide channels: channels ", channels, ", heads ", heads));
    require_sound(options);
    qkv = this->register_module("qkv", std::make_shared<Linear<T>>(channels, 3 * channels, layer.qkv_bias));
    const InnerModel<T> any_grid = model_for(1, 1);
    const Tensors<T> start = any_grid.initial_weights(heads, layer.deviation);
    w0.resize(start.size());
    for (std::size_t i = 0; i < start.size(); ++i) this->register_parameter(any_grid.parameters[i].name, w0[i], start[i]);
    if (layer.learned_rate) this->register_parameter("head_rate", head_rate, ones<T>({heads}));
    if (layer.dynamic_rate) rate = this->register_module("rate", std::make_shared<Linear<T>>(channels, heads));
    proj = this->register_module("proj", std::make_shared<Linear<T>>(channels, channels));
    warn_if_values_cannot_learn(options.loss);
  }

  /// The inner model on a grid of that size.
  InnerModel<T> model_for(std::int64_t height, std::int64_t width) const {
    return make_({.width = channels_ / heads_, .ratio = layer_.ratio, .layers = layer_.layers, .grid_height = height, .grid_width = width});
  }

  /// [B, h, w, C] -> [B, h, w, C].
  Tensor<T> forward(const Tensor<T>& x) override {
    const Tensor<T> o = inner_scan(task(x)).output;                                          // [B, H, N, d]
    return (*proj)(reshape(permute(o, {0, 2, 1, 3}), x.shape()));                            // [B, h, w, C]
  }

  /// What x asks of the heads: [B, h, w, C] -> q, k, v [B, H, N, d].
  InnerTask<T> task(const Tensor<T>& x) {
    if (x.dim() != 4 || x.size(3) != channels_)
      fail<ShapeError>("InnerTrainingLayer", concat("needs a grid [B, h, w, ", channels_, "]: x ", x.shape()));
    const std::int64_t B = x.size(0), N = x.size(1) * x.size(2);
    const Tensors<T> parts = split((*qkv)(x), {channels_, channels_, channels_}, -1);                       // 3 × [B, h, w, C]
    InnerOptions<T> now = options;
    if (rate) now.token_rates = {permute(reshape(sigmoid((*rate)(x)), {B, N, heads_}), {0, 2, 1})};        // [B, H, N]
    if (head_rate.defined()) now.head_rate = head_rate;                                                    // [H]
    const auto heads = [&](const Tensor<T>& part) { return detail::to_heads(part, heads_); };               // [B, H, N, d]
    return {model_for(x.size(1), x.size(2)), w0, heads(parts[0]), heads(parts[1]), heads(parts[2]), now};
  }

 private:
  inner::Factory<T> make_;
  InnerLayerOptions layer_;
  std::int64_t channels_, heads_;
};

}  // namespace ttt

#pragma once
/// DeiT (arXiv 2012.12877): a plain vision transformer, here with the token mixer as a parameter: softmax attention,
/// linear attention, or any inner training. Parameter names are those of the published checkpoints.
/// Legend: B images, H × W pixels, h × w grid of patches, N = h·w tokens, C channels.

#include "tttlib/models/vit3.hpp"
#include "tttlib/nn/attention.hpp"
#include "tttlib/ttt/inner_layer.hpp"

namespace ttt {

/// How tokens exchange information: a maker of modules [B, h, w, C] -> [B, h, w, C].
template <class T>
struct TokenMixer {
  std::string name;  // says everything that tells it apart from others
  std::function<std::shared_ptr<Module<T>>(std::int64_t channels, std::int64_t heads)> make;
  bool on_grid = false;  // needs to know which tokens are neighbours
};

namespace mixers {

template <class T = float>
TokenMixer<T> softmax_attention() {
  return {"softmax attention", [](std::int64_t channels, std::int64_t heads) { return std::make_shared<Attention<T>>(channels, heads); }};
}
/// The same with the whole matrix of weights in memory, as the textbook has it.
template <class T = float>
TokenMixer<T> softmax_attention_by_matrix() {
  return {"softmax attention, whole matrix", [](std::int64_t channels, std::int64_t heads) {
            return std::make_shared<Attention<T>>(channels, heads, Attention<T>::Kind::softmax_matrix);
          }};
}
template <class T = float>
TokenMixer<T> linear_attention() {
  return {"linear attention",
          [](std::int64_t channels, std::int64_t heads) { return std::make_shared<Attention<T>>(channels, heads, Attention<T>::Kind::linear); }};
}
/// True for an inner model that cannot be made without a grid of tokens. Throws what else the model refuses.
template <class T>
bool needs_grid(const inner::Factory<T>& model, const InnerLayerOptions& layer = {}) {
  try {
    model({.width = 8, .ratio = layer.ratio, .layers = layer.layers, .grid_height = 0, .grid_width = 0});
    return false;
  } catch (const ShapeError&) {
    return true;
  }
}
/// An inner training with a model of your own, under a name that says what the model is.
template <class T = float>
TokenMixer<T> inner_training(const std::string& name, inner::Factory<T> model, InnerOptions<T> options = {}, InnerLayerOptions layer = {}) {
  std::string text = concat("inner training of ", name);
  if (layer.ratio > 0) text += concat(" r", layer.ratio);
  if (name == "mlp" || layer.layers > 0) text += concat(" l", layer.layers > 0 ? layer.layers : 2);
  text += concat(", ", options, ", W0 deviation ", layer.deviation);
  if (layer.dynamic_rate) text += ", dynamic rate";
  if (layer.learned_rate) text += ", learned rate";
  if (!layer.qkv_bias) text += ", no bias";
  const bool on_grid = needs_grid<T>(model, layer);
  return {text,
          [model = std::move(model), options = std::move(options), layer](std::int64_t channels, std::int64_t heads) {
            return std::make_shared<InnerTrainingLayer<T>>(channels, heads, model, options, layer);
          },
          on_grid};
}
/// The same with one of the papers' models. Throws Error for an unknown name, listing those there are, and for a `ratio` or
/// `layers` that the model does not have.
template <class T = float>
TokenMixer<T> inner_training(const std::string& model, InnerOptions<T> options = {}, InnerLayerOptions layer = {}) {
  return inner_training<T>(model, inner::factory<T>(model), std::move(options), layer);
}

}  // namespace mixers

struct DeitOptions {
  std::int64_t image_size = 224, patch_size = 16, channels = 192, depth = 12, heads = 3, num_classes = 1000;
  double mlp_ratio = 4;
  double drop_path = 0;     // of the last block; grows linearly from 0 over the depth
  bool class_token = true;  // as DeiT: the head reads a learned extra token; otherwise the mean over the grid's tokens
  bool position = true;     // a learned position embedding, added once
  bool recompute = false;   // blocks on the way back, so that training keeps one activation per block
  double deviation = 0.02;  // of Linear weights and embeddings at the start, as DeiT; 0: each layer's own default
};

/// x + mixer(norm1(x)), then x + mlp(norm2(x)): [B, h, w, C] -> [B, h, w, C].
template <class T>
class DeitBlock : public Module<T> {
 public:
  std::shared_ptr<LayerNorm<T>> norm1, norm2;
  std::shared_ptr<Module<T>> attn;
  std::shared_ptr<Mlp<T>> mlp;
  std::shared_ptr<DropPath<T>> drop_path;

  DeitBlock(const DeitOptions& o, const TokenMixer<T>& mixer, double drop_rate) : Module<T>("DeitBlock") {
    norm1 = this->register_module("norm1", std::make_shared<LayerNorm<T>>(o.channels, 1e-6));
    attn = this->register_module("attn", mixer.make(o.channels, o.heads));
    norm2 = this->register_module("norm2", std::make_shared<LayerNorm<T>>(o.channels, 1e-6));
    mlp =
        this->register_module("mlp", std::make_shared<Mlp<T>>(o.channels, static_cast<std::int64_t>(static_cast<double>(o.channels) * o.mlp_ratio)));
    drop_path = this->register_module("drop_path", std::make_shared<DropPath<T>>(drop_rate));
  }
  Tensor<T> forward(const Tensor<T>& input) override {
    const Tensor<T> x = drop_path->add_to(input, (*attn)((*norm1)(input)));  // [B, h, w, C]
    return mlp->add_to(x, *norm2, *drop_path);                               // [B, h, w, C]
  }
};

/// Images to class scores: [B, image_size, image_size, 3] -> [B, classes].
template <class T>
class Deit : public Module<T> {
 public:
  std::shared_ptr<PatchEmbed<T>> patch_embed;
  Tensor<T> cls_token;  // [1, 1, C], undefined without a class token
  Tensor<T> pos_embed;  // [1, N (+ 1 for the class token, first), C], undefined without positions
  std::shared_ptr<Sequential<T>> blocks;
  std::shared_ptr<LayerNorm<T>> norm;
  std::shared_ptr<Linear<T>> head;

  /// Throws ShapeError if the patch does not divide the image, or for a class token beside a mixer that needs the grid.
  Deit(const DeitOptions& o, const TokenMixer<T>& mixer) : Module<T>("Deit"), image_size_(o.image_size) {
    if (o.patch_size < 1 || o.image_size < 1 || o.image_size % o.patch_size != 0)
      fail<ShapeError>("Deit", concat("image size must be a multiple of the patch: image ", o.image_size, ", patch ", o.patch_size));
    if (o.class_token && mixer.on_grid)
      fail<ShapeError>("Deit", concat("a class token has no place on the grid: mixer ", mixer.name),
                       "class_token = false reads the mean over tokens");
    const std::int64_t side = o.image_size / o.patch_size, extra = o.class_token ? 1 : 0;
    const double deviation = o.deviation > 0 ? o.deviation : 0.02;
    patch_embed = this->register_module("patch_embed", std::make_shared<PatchEmbed<T>>(o.patch_size, o.channels));
    if (o.class_token) this->register_parameter("cls_token", cls_token, trunc_normal<T>({1, 1, o.channels}, deviation));
    if (o.position) this->register_parameter("pos_embed", pos_embed, trunc_normal<T>({1, side * side + extra, o.channels}, deviation));
    blocks = this->register_module("blocks", std::make_shared<Sequential<T>>());
    blocks->recompute = o.recompute;
    for (std::int64_t i = 0; i < o.depth; ++i) {
      const double rate = o.depth > 1 ? o.drop_path * static_cast<double>(i) / static_cast<double>(o.depth - 1) : 0;
      blocks->add(std::make_shared<DeitBlock<T>>(o, mixer, rate));
    }
    norm = this->register_module("norm", std::make_shared<LayerNorm<T>>(o.channels, 1e-6));
    head = this->register_module("head", std::make_shared<Linear<T>>(o.channels, o.num_classes));
    if (o.deviation > 0) start_as_deit(o.deviation);
  }

  Tensor<T> forward(const Tensor<T>& images) override {
    Tensor<T> x = (*patch_embed)(images);  // [B, h, w, C]
    if (pos_embed.defined() && (images.size(1) != image_size_ || images.size(2) != image_size_))
      fail<ShapeError>("Deit", concat("positions were learned for images of ", image_size_, " x ", image_size_, ": x ", images.shape()));
    const std::int64_t B = x.size(0), h = x.size(1), w = x.size(2), C = x.size(3);
    if (cls_token.defined()) x = unsqueeze(cat<T>({expand(cls_token, {B, 1, C}), reshape(x, {B, h * w, C})}, 1), 1);  // [B, 1, N + 1, C]: one row
    if (pos_embed.defined()) x = add(x, reshape(pos_embed, {1, x.size(1), x.size(2), C}));         // [B, h, w, C] or [B, 1, N + 1, C]
    x = (*norm)((*blocks)(x));                                                                     // same
    const Tensor<T> read = cls_token.defined() ? select(select(x, 1, 0), 1, 0) : mean(x, {1, 2});  // [B, C]
    return (*head)(read);                                                                          // [B, classes]
  }

 private:
  /// Normal weights in every linear layer and zero biases, in the mixers too; the patch embedding keeps its own.
  void start_as_deit(double deviation) {
    const NoGradGuard guard;
    for (auto& entry : this->named_parameters()) {
      const std::string& name = entry.first;
      Tensor<T>& parameter = *entry.second;
      if (name.rfind("patch_embed.", 0) == 0) continue;
      if (name.ends_with(".weight") && parameter.dim() == 2) assign(parameter, trunc_normal<T>(parameter.shape(), deviation));
      if (name.ends_with(".bias") && parameter.dim() == 1) assign(parameter, zeros<T>(parameter.shape()));
    }
  }

  std::int64_t image_size_;
};

}  // namespace ttt

#pragma once
/// ViT³ (paper §4, Table 5): a plain vision transformer whose token mixer is the TTT block.
/// Legend: B images, H × W pixels, h × w grid of patches, C channels.
/// Parameter names are those of the reference implementation's checkpoints.

#include "tttlib/nn/conv.hpp"
#include "tttlib/nn/drop_path.hpp"
#include "tttlib/nn/norm.hpp"
#include "tttlib/nn/sequential.hpp"
#include "tttlib/ttt/ttt_block.hpp"

namespace ttt {

struct Vit3Options {
  std::int64_t patch_size = 16;
  std::int64_t channels = 192;
  std::int64_t depth = 12;
  std::int64_t heads = 6;
  std::int64_t num_classes = 1000;
  double mlp_ratio = 4;
  double drop_path = 0;  // of the last block; grows linearly from 0 over the depth
  bool qkv_bias = true;
  TttPath path = TttPath::fused;
  bool recompute = false;  // blocks on the way back, so that training keeps one activation per block
};

namespace detail {

/// Normal weights cut to ±2 with deviation 0.02, zero biases: the reference's initialisation of every Linear.
template <class T>
void init_linear(Linear<T>& layer) {
  NoGradGuard guard;
  assign(layer.weight, trunc_normal<T>(layer.weight.shape(), 0.02));
  if (layer.bias.defined()) assign(layer.bias, zeros<T>(layer.bias.shape()));
}

}  // namespace detail

/// Non-overlapping patches as tokens: [B, H, W, 3] -> [B, H/p, W/p, C].
template <class T>
class PatchEmbed : public Module<T> {
 public:
  std::shared_ptr<Conv2d<T>> proj;

  PatchEmbed(std::int64_t patch, std::int64_t channels) : Module<T>("PatchEmbed"), patch_(patch) {
    proj = this->register_module("proj", std::make_shared<Conv2d<T>>(3, channels, patch, Conv2dOptions{.stride = patch}));
  }
  Tensor<T> forward(const Tensor<T>& x) override {
    if (x.dim() != 4 || x.size(3) != 3 || x.size(1) % patch_ != 0 || x.size(2) % patch_ != 0 || x.numel() == 0)
      fail<ShapeError>("PatchEmbed", concat("needs images [B, H, W, 3] with sides that are multiples of the patch: x ", x.shape(),
                                            ", patch ", patch_), "from_nchw(x) converts [B, 3, H, W]");
    return (*proj)(x);
  }

 private:
  std::int64_t patch_;
};

/// x + cpe(x), then x + attn(norm1(x)), then x + mlp(norm2(x)): [B, h, w, C] -> [B, h, w, C].
template <class T>
class Vit3Layer : public Module<T> {
 public:
  std::shared_ptr<Conv2d<T>> cpe;  // depthwise 3×3: the position information
  std::shared_ptr<LayerNorm<T>> norm1, norm2;
  std::shared_ptr<TttBlock<T>> attn;
  std::shared_ptr<Mlp<T>> mlp;
  std::shared_ptr<DropPath<T>> drop_path;

  Vit3Layer(const Vit3Options& o, double drop_rate) : Module<T>("Vit3Layer") {
    const std::int64_t C = o.channels;
    cpe = this->register_module("cpe", std::make_shared<Conv2d<T>>(C, C, 3, Conv2dOptions{.padding = 1, .groups = C}));
    norm1 = this->register_module("norm1", std::make_shared<LayerNorm<T>>(C, 1e-6));
    attn = this->register_module("attn", std::make_shared<TttBlock<T>>(C, o.heads, TttBlockOptions{.qkv_bias = o.qkv_bias, .path = o.path}));
    norm2 = this->register_module("norm2", std::make_shared<LayerNorm<T>>(C, 1e-6));
    mlp = this->register_module("mlp", std::make_shared<Mlp<T>>(C, static_cast<std::int64_t>(static_cast<double>(C) * o.mlp_ratio)));
    drop_path = this->register_module("drop_path", std::make_shared<DropPath<T>>(drop_rate));
    for (const auto& layer : {attn->qkv, attn->proj, mlp->fc1, mlp->fc2}) detail::init_linear(*layer);
  }
  Tensor<T> forward(const Tensor<T>& input) override {
    Tensor<T> x = add(input, (*cpe)(input));                // [B, h, w, C]
    x = attn->add_to(x, *norm1, *drop_path);                // [B, h, w, C]
    return mlp->add_to(x, *norm2, *drop_path);              // [B, h, w, C]
  }
};

/// Images to class scores: [B, H, W, 3] -> [B, classes]; any size whose sides are multiples of the patch.
template <class T>
class Vit3 : public Module<T> {
 public:
  std::shared_ptr<PatchEmbed<T>> patch_embed;
  std::shared_ptr<Sequential<T>> blocks;
  std::shared_ptr<LayerNorm<T>> norm;
  std::shared_ptr<Linear<T>> head;

  /// Throws ShapeError for sizes that make no model.
  explicit Vit3(const Vit3Options& o) : Module<T>("Vit3") {
    if (o.patch_size < 1 || o.channels < 1 || o.depth < 1 || o.heads < 1 || o.num_classes < 1 || !(o.mlp_ratio > 0))
      fail<ShapeError>("Vit3", concat("sizes must be positive: patch_size ", o.patch_size, ", channels ", o.channels, ", depth ", o.depth,
                                      ", heads ", o.heads, ", num_classes ", o.num_classes, ", mlp_ratio ", o.mlp_ratio));
    patch_embed = this->register_module("patch_embed", std::make_shared<PatchEmbed<T>>(o.patch_size, o.channels));
    blocks = this->register_module("blocks", std::make_shared<Sequential<T>>());
    blocks->recompute = o.recompute;
    for (std::int64_t i = 0; i < o.depth; ++i) {
      const double rate = o.depth > 1 ? o.drop_path * static_cast<double>(i) / static_cast<double>(o.depth - 1) : 0;
      blocks->add(std::make_shared<Vit3Layer<T>>(o, rate));
    }
    norm = this->register_module("norm", std::make_shared<LayerNorm<T>>(o.channels, 1e-6));
    head = this->register_module("head", std::make_shared<Linear<T>>(o.channels, o.num_classes));
    detail::init_linear(*head);
  }
  Tensor<T> forward(const Tensor<T>& images) override {
    Tensor<T> x = (*patch_embed)(images);      // [B, h, w, C]
    x = (*norm)((*blocks)(x));                 // [B, h, w, C]
    return (*head)(mean(x, {1, 2}));           // [B, classes]
  }
};

}  // namespace ttt

#pragma once
/// The token mixer of ViT³ (paper §4): one projection for all queries, keys and values, the heads of ttt_heads.hpp, one
/// projection back.
/// Legend: B images, h × w grid, d head width, C = H·d channels.

#include "tttlib/nn/linear.hpp"
#include "tttlib/ttt/rope.hpp"
#include "tttlib/ttt/ttt_mixer.hpp"

namespace ttt {

struct TttBlockOptions {
  bool qkv_bias = true;
  bool rope = false;                // rotate q1 and k1 (H-ViT³)
  TttPath path = TttPath::fused;
};

template <class T>
class TttBlock : public Module<T> {
 public:
  std::shared_ptr<Linear<T>> qkv, proj;
  Tensor<T> w1, w2;  // [1, H, d, d]
  Tensor<T> w3;      // [d, 1, 3, 3]
  TttPath path;

  /// Throws ShapeError if the heads do not divide the channels.
  TttBlock(std::int64_t channels, std::int64_t heads, const TttBlockOptions& options = {})
      : Module<T>("TttBlock"), path(options.path), channels_(channels), heads_(heads), rope_(options.rope) {
    if (heads < 1 || channels % heads != 0)
      fail<ShapeError>("TttBlock", concat("heads must divide channels: channels ", channels, ", heads ", heads));
    const std::int64_t d = channels / heads;
    qkv = this->register_module("qkv", std::make_shared<Linear<T>>(channels, 3 * channels + 3 * d, options.qkv_bias));
    this->register_parameter("w1", w1, trunc_normal<T>({1, heads, d, d}, 0.02));
    this->register_parameter("w2", w2, trunc_normal<T>({1, heads, d, d}, 0.02));
    this->register_parameter("w3", w3, trunc_normal<T>({d, 1, 3, 3}, 0.02));
    proj = this->register_module("proj", std::make_shared<Linear<T>>(channels + d, channels));
  }

  /// [B, h, w, C] -> [B, h, w, C].
  Tensor<T> forward(const Tensor<T>& x) override { return (*proj)(ttt_heads(buffer(x), weights(), path)); }

  /// x + drop_path(forward(norm(x))), as one op where there is a kernel for that; without the sum where images are dropped.
  Tensor<T> add_to(const Tensor<T>& x, LayerNorm<T>& norm, const DropPath<T>& drop_path) {
    const Affine<T> numbers{norm.weight, norm.bias, norm.eps};
    const Projection<T> in{qkv->weight, qkv->bias}, out{proj->weight, proj->bias};
    // Layer by layer also where somebody wants to hear of each: a summary, or whose operands do not fit.
    if (path != TttPath::fused || rope_ || module_call_log() || !fuses_ttt_mixer(x, numbers, in, weights(), out))
      return drop_path.add_to(x, (*this)(norm(x)));
    const auto mixer = [&](bool residual) {
      const Scope scope = this->named();
      return ttt_mixer(x, numbers, in, weights(), out, residual);
    };
    return drop_path.is_active() ? drop_path.add_to(x, mixer(false)) : mixer(true);
  }

  /// What x asks of the heads: [B, h, w, C] -> q, k, v [B, H, N, d] and, of the extra head, [B, 1, N, d].
  TttTasks<T> tasks(const Tensor<T>& x) { return ttt_tasks(buffer(x), weights()); }

 private:
  TttWeights<T> weights() const { return {w1, w2, w3}; }

  /// Queries, keys and values of all heads, those of the H heads rotated if asked for: [B, h, w, C] -> [B, h, w, 3C + 3d].
  Tensor<T> buffer(const Tensor<T>& x) {
    if (x.dim() != 4 || x.size(3) != channels_)
      fail<ShapeError>("TttBlock", concat("needs a grid [B, h, w, ", channels_, "]: x ", x.shape()));
    const Tensor<T> all = (*qkv)(x);                                                          // [B, h, w, 3C + 3d]
    if (!rope_) return all;
    const Tensors<T> parts = split(all, {channels_, channels_, all.size(3) - 2 * channels_}, -1);
    const Rope<T> rope(x.size(1), x.size(2), channels_, x.device());
    return cat<T>({rope(parts[0]), rope(parts[1]), parts[2]}, -1);                            // [B, h, w, 3C + 3d]
  }

  std::int64_t channels_, heads_;
  bool rope_;
};

}  // namespace ttt

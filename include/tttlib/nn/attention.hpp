#pragma once
/// Softmax attention and linear attention as modules: token mixers to compare inner training with.
/// Legend: B images, N tokens, H heads, d head width, C = H·d channels.

#include "tttlib/nn/linear.hpp"
#include "tttlib/ops/composed/attention.hpp"

namespace ttt {

/// proj(mix(q, k, v)) with q, k, v = qkv(x) in H heads: [B, .., C] -> [B, .., C]; all axes between are tokens.
template <class T>
class Attention : public Module<T> {
 public:
  enum class Kind { softmax, softmax_matrix, linear };  // the second keeps the whole matrix of weights
  std::shared_ptr<Linear<T>> qkv, proj;
  Kind kind;

  /// Throws ShapeError if the heads do not divide the channels.
  Attention(std::int64_t channels, std::int64_t heads, Kind which = Kind::softmax, bool qkv_bias = true)
      : Module<T>("Attention"), kind(which), channels_(channels), heads_(heads) {
    if (heads < 1 || channels % heads != 0)
      fail<ShapeError>("Attention", concat("heads must divide channels: channels ", channels, ", heads ", heads));
    qkv = this->register_module("qkv", std::make_shared<Linear<T>>(channels, 3 * channels, qkv_bias));
    proj = this->register_module("proj", std::make_shared<Linear<T>>(channels, channels));
  }

  Tensor<T> forward(const Tensor<T>& x) override {
    if (x.dim() < 3 || x.size(-1) != channels_ || x.numel() == 0)
      fail<ShapeError>("Attention", concat("needs tokens [B, .., ", channels_, "]: x ", x.shape()));
    const std::int64_t B = x.size(0), N = x.numel() / (B * channels_), d = channels_ / heads_;
    const Tensor<T> all = permute(reshape((*qkv)(x), {B, N, 3, heads_, d}), {2, 0, 3, 1, 4});    // [3, B, H, N, d]
    const Tensor<T> q = select(all, 0, 0), k = select(all, 0, 1), v = select(all, 0, 2);         // [B, H, N, d]
    const Tensor<T> o = kind == Kind::softmax          ? attention(q, k, v)
                        : kind == Kind::softmax_matrix ? attention_by_matrix(q, k, v)
                                                       : linear_attention(q, k, v);          // [B, H, N, d]
    return (*proj)(reshape(permute(o, {0, 2, 1, 3}), x.shape()));                                // [B, .., C]
  }

 private:
  std::int64_t channels_, heads_;
};

}  // namespace ttt

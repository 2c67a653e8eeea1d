#pragma once
/// Softmax attention and linear attention, of recorded ops: token mixers to compare inner training with.
/// Legend: B images, N tokens, H heads, d head width, C = H·d channels.

#include <cmath>

#include "tttlib/nn/linear.hpp"
#include "tttlib/ops/composed/softmax.hpp"

namespace ttt {

/// softmax(q kᵀ/√d) v: q [.., N, d], k and v [.., M, d] -> [.., N, d].
template <class T>
Tensor<T> attention(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  const Tensor<T> scores = matmul(mul(q, static_cast<T>(scale)), transpose(k));  // [.., N, M]
  return matmul(softmax(scores), v);                                             // [.., N, d]
}

/// q (kᵀ v) / (M√d), without a feature map or a denominator: what one full-batch step with the dot loss makes of a linear
/// inner model that starts at zero.   q [.., N, d], k and v [.., M, d] -> [.., N, d].
template <class T>
Tensor<T> linear_attention(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v) {
  const double scale = 1 / (static_cast<double>(k.size(-2)) * std::sqrt(static_cast<double>(k.size(-1))));
  const Tensor<T> w = mul(matmul(transpose(k), v), static_cast<T>(scale));  // [.., d, d]
  return matmul(q, w);                                                      // [.., N, d]
}

/// proj(mix(q, k, v)) with q, k, v = qkv(x) in H heads: [B, .., C] -> [B, .., C]; all axes between are tokens.
template <class T>
class Attention : public Module<T> {
 public:
  enum class Kind { softmax, linear };
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
    const Tensor<T> o = kind == Kind::softmax ? attention(q, k, v) : linear_attention(q, k, v);  // [B, H, N, d]
    return (*proj)(reshape(permute(o, {0, 2, 1, 3}), x.shape()));                                // [B, .., C]
  }

 private:
  std::int64_t channels_, heads_;
};

}  // namespace ttt

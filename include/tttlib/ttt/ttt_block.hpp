#pragma once
/// The token mixer of ViT³ (paper §4): H heads with a GLU inner model and one extra head with a depthwise 3×3
/// convolution, each trained for one full-batch step with rate 1 on this image's keys and values.
/// Legend: B images, h × w grid, N = h·w tokens, H heads, d head width, C = H·d channels.

#include "tttlib/nn/linear.hpp"
#include "tttlib/ttt/closed_form.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/rope.hpp"

namespace ttt {

/// How the inner step is computed; all agree.
enum class TttPath { closed, nested };

struct TttBlockOptions {
  bool qkv_bias = true;
  bool rope = false;                // rotate q1 and k1 (H-ViT³)
  TttPath path = TttPath::closed;
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
  Tensor<T> forward(const Tensor<T>& x) override {
    if (x.dim() != 4 || x.size(3) != channels_)
      fail<ShapeError>("TttBlock", concat("needs a grid [B, h, w, ", channels_, "]: x ", x.shape()));
    const std::int64_t B = x.size(0), h = x.size(1), w = x.size(2), C = channels_, d = C / heads_;
    const Tensors<T> parts = split((*qkv)(x), {C, C, C, d, d, d}, -1);            // 3 × [B, h, w, C], 3 × [B, h, w, d]
    const Tensor<T> q1 = to_heads(rotate(parts[0])), k1 = to_heads(rotate(parts[1])), v1 = to_heads(parts[2]);  // [B, H, N, d]
    const Tensor<T> o1 = glu_heads(q1, k1, v1);                                   // [B, H, N, d]
    const Tensor<T> o2 = conv_head(parts[3], parts[4], parts[5]);                 // [B, h, w, d]
    const Tensor<T> joined = reshape(permute(o1, {0, 2, 1, 3}), {B, h, w, C});    // [B, h, w, C]
    return (*proj)(cat<T>({joined, o2}, -1));                                     // [B, h, w, C]
  }

 private:
  /// [B, h, w, C] -> [B, H, N, d], a view.
  Tensor<T> to_heads(const Tensor<T>& x) const {
    const Tensor<T> tokens = reshape(x, {x.size(0), x.size(1) * x.size(2), heads_, channels_ / heads_});  // [B, N, H, d]
    return permute(tokens, {0, 2, 1, 3});
  }

  Tensor<T> rotate(const Tensor<T>& x) const {
    if (!rope_) return x;
    return Rope<T>(x.size(1), x.size(2), channels_)(x);
  }

  /// o1 = (q W1*) ⊙ SiLU(q W2*): q, k, v [B, H, N, d] -> [B, H, N, d].
  Tensor<T> glu_heads(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v) const {
    const std::int64_t d = channels_ / heads_;
    const Tensors<T> w0{reshape(w1, {heads_, d, d}), reshape(w2, {heads_, d, d})};  // [H, d, d]
    const InnerModel<T> model = inner::glu<T>(d);
    const Tensors<T> w = path == TttPath::closed ? closed_form::glu_step(w0, k, v, T(1))
                                                 : inner_train(model, w0, k, v, {.loss = losses::block_dot, .clip = true});
    return model(q, w);
  }

  /// o2 = depthwise 3×3 convolution of q with each image's own kernel: q, k, v [B, h, w, d] -> [B, h, w, d].
  Tensor<T> conv_head(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v) const {
    const std::int64_t B = q.size(0), h = q.size(1), w = q.size(2), d = q.size(3);
    if (path == TttPath::closed)
      return depthwise_conv2d(q, closed_form::dwconv3x3_step(w3, k, v, T(1)), {.padding = {1, 1}});
    const Shape one_head{B, 1, h * w, d};
    const InnerModel<T> model = inner::dwconv3x3<T>(d, h, w);
    const Tensors<T> trained = inner_train(model, Tensors<T>{unsqueeze(w3, 0)}, reshape(k, one_head), reshape(v, one_head),
                                           {.loss = losses::block_dot, .clip = true});
    return reshape(model(reshape(q, one_head), trained), q.shape());
  }

  std::int64_t channels_, heads_;
  bool rope_;
};

}  // namespace ttt

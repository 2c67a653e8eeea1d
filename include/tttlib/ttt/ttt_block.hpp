#pragma once
/// The token mixer of ViT³ (paper §4): H heads with a GLU inner model and one extra head with a depthwise 3×3
/// convolution, each trained for one full-batch step with rate 1 on this image's keys and values.
/// Legend: B images, h × w grid, N = h·w tokens, H heads, d head width, C = H·d channels.

#include "tttlib/nn/linear.hpp"
#include "tttlib/ttt/closed_form.hpp"
#include "tttlib/ttt/inner_models.hpp"
#include "tttlib/ttt/inner_scan.hpp"
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
    const Heads heads = tasks(x);
    const Tensor<T> o1 = answer_glu(heads.glu);                                              // [B, H, N, d]
    const Tensor<T> o2 = answer_conv(heads.conv, x.size(1), x.size(2));                      // [B, 1, N, d]
    const Shape all{x.size(0), x.size(1), x.size(2), channels_}, one{x.size(0), x.size(1), x.size(2), channels_ / heads_};
    const Tensor<T> joined = reshape(permute(o1, {0, 2, 1, 3}), all);                        // [B, h, w, C]
    return (*proj)(cat<T>({joined, reshape(o2, one)}, -1));                                  // [B, h, w, C]
  }

  /// What the H heads and the extra head are asked: q, k, v [B, H, N, d] and [B, 1, N, d].
  struct Heads {
    InnerTask<T> glu, conv;
  };
  /// The tasks that x makes: [B, h, w, C].
  Heads tasks(const Tensor<T>& x) {
    if (x.dim() != 4 || x.size(3) != channels_)
      fail<ShapeError>("TttBlock", concat("needs a grid [B, h, w, ", channels_, "]: x ", x.shape()));
    const std::int64_t h = x.size(1), w = x.size(2), C = channels_, d = C / heads_;
    const Tensors<T> parts = split((*qkv)(x), {C, C, C, d, d, d}, -1);                       // 3 × [B, h, w, C], 3 × [B, h, w, d]
    const InnerOptions<T> options{.loss = losses::block_dot, .clip = true};
    return {{inner::glu<T>(d), {reshape(w1, {heads_, d, d}), reshape(w2, {heads_, d, d})},   // W0: 2 × [H, d, d]
             to_heads(rotate(parts[0]), heads_), to_heads(rotate(parts[1]), heads_), to_heads(parts[2], heads_), options},
            {inner::dwconv3x3<T>(d, h, w), {unsqueeze(w3, 0)},                               // W0: [1, d, 1, 3, 3]
             to_heads(parts[3], 1), to_heads(parts[4], 1), to_heads(parts[5], 1), options}};
  }

 private:
  /// [B, h, w, n·d] -> [B, n, N, d], a view.
  static Tensor<T> to_heads(const Tensor<T>& x, std::int64_t n) {
    const Tensor<T> tokens = reshape(x, {x.size(0), x.size(1) * x.size(2), n, x.size(3) / n});  // [B, N, n, d]
    return permute(tokens, {0, 2, 1, 3});
  }

  Tensor<T> rotate(const Tensor<T>& x) const {
    if (!rope_) return x;
    return Rope<T>(x.size(1), x.size(2), channels_)(x);
  }

  /// o1 = (q W1*) ⊙ SiLU(q W2*): [B, H, N, d].
  Tensor<T> answer_glu(const InnerTask<T>& task) const {
    if (path == TttPath::nested) return inner_scan(task).output;
    return task.model(task.q, closed_form::glu_step(task.w0, task.k, task.v, T(1)));
  }

  /// o2 = depthwise 3×3 convolution of q with each image's own kernel, on the h × w grid: [B, 1, N, d].
  Tensor<T> answer_conv(const InnerTask<T>& task, std::int64_t h, std::int64_t w) const {
    if (path == TttPath::nested) return inner_scan(task).output;
    const Shape grid{task.q.size(0), h, w, task.q.size(3)};
    const Tensor<T> q = reshape(task.q, grid), k = reshape(task.k, grid), v = reshape(task.v, grid);  // [B, h, w, d]
    return reshape(depthwise_conv2d(q, closed_form::dwconv3x3_step(w3, k, v, T(1)), {.padding = {1, 1}}), task.q.shape());
  }

  std::int64_t channels_, heads_;
  bool rope_;
};

}  // namespace ttt

#pragma once
/// The inner training step, by nested differentiation: this file is the definition of a TTT layer, and the other
/// forms (closed_form.hpp) are tested against it.
///
///   W ← W − η · clip(∂L(F_W(K), V)/∂W)        (paper eq. 5; every image and head owns its W)
///
/// W0 is expanded to one copy per image and head *before* differentiating the sum of all their losses: the sum's
/// gradient with respect to image b's copy is the gradient of image b's loss alone.
/// Legend: B images, H heads, N tokens, d head width, K keys, V values, η rate.

#include "tttlib/autograd/transforms.hpp"
#include "tttlib/ttt/inner_loss.hpp"
#include "tttlib/ttt/inner_model.hpp"

namespace ttt {

template <class T>
struct InnerOptions {
  InnerLoss<T> loss = losses::dot;
  double rate = 1;           // η
  std::int64_t epochs = 1;   // passes over the tokens
  std::int64_t batches = 1;  // consecutive parts per pass, each its own step; 1 = full batch
  bool clip = false;         // g / (‖g‖ + 1)
};

/// g / (‖g‖ + 1): the norm of each column of a matrix, of each channel's window of a convolution.
///   g [B, H, in, out] or [B, H, channels, 1, kh, kw] -> same shape.
template <class T>
Tensor<T> clip_inner_gradient(const Tensor<T>& g) {
  const Axes axes = g.dim() >= 6 ? Axes{-2, -1} : Axes{-2};
  return div(g, add(norm(g, axes, true), T(1)));
}

/// One copy of the weights per image: w0 [H, …] each -> [B, H, …] each.
template <class T>
Tensors<T> expand_per_image(const Tensors<T>& w0, std::int64_t images) {
  Tensors<T> w;
  for (const Tensor<T>& x : w0) {
    Shape shape = x.shape();
    shape.insert(0, images);
    w.push_back(expand(x, shape));
  }
  return w;
}

/// Trains the inner model on (k, v) and returns its weights W*: w0 [H, …] each, k and v [B, H, N, d] -> [B, H, …] each.
/// Throws ShapeError if the model's output is not shaped like v, or there are more batches than tokens.
template <class T>
Tensors<T> inner_train(const InnerModel<T>& model, const Tensors<T>& w0, const Tensor<T>& k, const Tensor<T>& v,
                       const InnerOptions<T>& options = {}) {
  Scope scope("inner_step");
  const std::int64_t tokens = k.size(-2);
  if (options.batches < 1 || options.batches > tokens)
    fail<ShapeError>("inner_train", concat("number of batches must lie in [1, tokens]: batches ", options.batches, ", tokens ", tokens));
  Tensors<T> w = expand_per_image(w0, k.size(0));  // [B, H, …]
  for (std::int64_t step = 0; step < options.epochs * options.batches; ++step) {
    const std::int64_t b = step % options.batches;
    const std::int64_t first = b * tokens / options.batches, last = (b + 1) * tokens / options.batches;
    const Tensor<T> k_b = slice(k, -2, first, last), v_b = slice(v, -2, first, last);  // [B, H, n, d]
    const Tensors<T> g = grad([&](const Tensors<T>& weights) {
      const Tensor<T> prediction = model(k_b, weights);  // [B, H, n, d]
      if (prediction.shape() != v_b.shape())
        fail<ShapeError>("inner_train", concat("the output of inner model ", model.name, " is not shaped like v: output ",
                                               prediction.shape(), ", v ", v_b.shape()));
      return sum(options.loss(prediction, v_b));
    })(w);
    for (std::size_t i = 0; i < w.size(); ++i)
      w[i] = sub(w[i], mul(options.clip ? clip_inner_gradient(g[i]) : g[i], static_cast<T>(options.rate)));
  }
  return w;
}

}  // namespace ttt

#pragma once
/// The inner training step, by nested differentiation: this file is the definition of a TTT layer, and the other
/// forms (closed_form.hpp, dual_form.hpp) are tested against it.
///
///   W ← W − η · clip(∂L(F_W(K), V)/∂W)        (paper eq. 5; every image and head owns its W)
///
/// W0 is expanded to one copy per image and head *before* differentiating the sum of all their losses: the sum's
/// gradient with respect to image b's copy is the gradient of image b's loss alone.
/// Legend: B images, H heads, N tokens, n of them in a batch, d head width, K keys, V values, η rate.

#include "tttlib/autograd/transforms.hpp"
#include "tttlib/ttt/inner_checks.hpp"
#include "tttlib/ttt/inner_optimizer.hpp"

namespace ttt {

/// What the inner model is trained on: keys and values [B, H, n, d], and weights of the tokens [B, H, n], if any.
template <class T>
struct InnerData {
  Tensor<T> k, v;
  Tensors<T> rates;

  /// The tokens [first, last).
  InnerData slice(std::int64_t first, std::int64_t last) const {
    InnerData part{ttt::slice(k, -2, first, last), ttt::slice(v, -2, first, last), {}};
    for (const Tensor<T>& r : rates) part.rates.push_back(ttt::slice(r, -1, first, last));
    return part;
  }
};

namespace detail {
/// L(F_W(K), V) summed over images and heads. Throws ShapeError if the model or the loss returns another shape than asked for.
template <class T>
Tensor<T> total_loss(const InnerModel<T>& model, const InnerLoss<T>& loss, const Tensor<T>& prediction, const Tensor<T>& v,
                     const Tensor<T>& rates) {
  if (prediction.shape() != v.shape())
    fail<ShapeError>("inner_train", concat("the output of inner model ", model.name, " is not shaped like v: output ",
                                           prediction.shape(), ", v ", v.shape()));
  const Tensor<T> per_head = loss(prediction, v, rates);  // [B, H]
  if (per_head.shape() != Shape{v.size(0), v.size(1)})
    fail<ShapeError>("inner_train", concat("a loss must give one number per image and head: loss ", loss.name(), " gave ",
                                           per_head.shape(), ", v ", v.shape()), "sum over the axes {-2, -1} only");
  return sum(per_head);
}
}  // namespace detail

/// ∂L(F_W(K), V)/∂W of every image and head: w [B, H, …] each -> [B, H, …] each.
template <class T>
Tensors<T> inner_gradient(const InnerModel<T>& model, const InnerLoss<T>& loss, const Tensors<T>& w, const InnerData<T>& data) {
  const auto gradient = [&](const Tensor<T>& rates) {
    return grad([&](const Tensors<T>& weights) { return detail::total_loss(model, loss, model(data.k, weights), data.v, rates); })(w);
  };
  if (data.rates.size() <= 1) return gradient(data.rates.empty() ? Tensor<T>() : data.rates[0]);
  Tensors<T> g;  // each parameter has rates of its own
  for (std::size_t i = 0; i < w.size(); ++i) g.push_back(gradient(data.rates[i])[i]);
  return g;
}

/// Trains on all tokens of `data`, going on from `state`: epochs × batches steps of equation 5. Batch b of n covers
/// tokens ⌊bN/n⌋ to ⌊(b+1)N/n⌋. Throws ShapeError if there are more batches than tokens.
template <class T>
InnerState<T> inner_update(const InnerModel<T>& model, InnerState<T> state, const InnerData<T>& data, const InnerOptions<T>& options) {
  const MatmulPrecisionGuard in_float(MatmulPrecision::float32);  // as in the model itself: the losses' products, and Newton-Schulz
  const std::int64_t tokens = data.k.size(-2), batches = options.batches;
  if (batches < 1 || batches > tokens)
    fail<ShapeError>("inner_train", concat("number of batches must lie in [1, tokens]: batches ", batches, ", tokens ", tokens));
  for (std::int64_t step = 0; step < options.epochs * batches; ++step) {
    const std::int64_t b = step % batches;
    const InnerData<T> batch = data.slice(b * tokens / batches, (b + 1) * tokens / batches);
    state = descend(model, state, inner_gradient(model, options.loss, state.w, batch), options);  // W ← W − η·u(∂L/∂W)
  }
  return state;
}

/// The weights before training: w0 [H, …] each -> [B, H, …] each.
template <class T>
InnerState<T> initial_state(const Tensors<T>& w0, std::int64_t images) {
  const Tensors<T> w = expand_per_image(w0, images);
  return {w, {}, w};
}

/// Trains the inner model on (k, v) and returns its weights W*: w0 [H, …] each, k and v [B, H, N, d] -> [B, H, …] each.
/// Throws ShapeError if the model's output is not shaped like v, there are more batches than tokens, or anything else
/// does not fit; Error if η is not finite, or the schedule answers tokens in between (that is `inner_scan`).
template <class T>
Tensors<T> inner_train(const InnerModel<T>& model, const Tensors<T>& w0, const Tensor<T>& k, const Tensor<T>& v,
                       const InnerOptions<T>& options = {}) {
  Scope scope("inner_step");
  require_fit(model, w0, k, v, options);
  if (!options.schedule.is_plain())
    fail<Error>("inner_train", concat("the schedule does more than train on all tokens: ", options), "inner_scan(model, w0, q, k, v, options)");
  return inner_update(model, initial_state(w0, k.size(0)), {k, v, options.token_rates}, options).w;
}

}  // namespace ttt

#pragma once
/// What a TTT layer does with an image, as numbers to look at: which tokens move its inner weights, and which tokens'
/// values reach a token's answer. Both work for every inner model and every inner training.
/// Legend: B images, H heads, N tokens, d head width, W inner weights, η rate.

#include "tttlib/ttt/inner_scan.hpp"

namespace ttt {

/// Size of every token's share of the inner gradient at W0, G_i = ‖∂ℓ_i/∂W‖ over all trained weights: -> [B, H, N].
/// ℓ_i is the token's own term of the loss, times its rate where tokens have rates. Throws Error for a loss that is not a sum over tokens.
template <class T>
Tensor<T> gradient_magnitude(const InnerTask<T>& task) {
  const InnerLoss<T>& loss = task.options.loss;
  if (!loss.separable()) fail<Error>("gradient_magnitude", "the loss is not a sum over tokens, so none has a share of its own: loss " + loss.name());
  require_fit(task.model, task.w0, task.k, task.v, task.options);
  const std::int64_t B = task.k.size(0), H = task.k.size(1), N = task.k.size(2), at_once = 16;
  Tensors<T> parts;  // [B, H, n] each
  for (std::int64_t first = 0; first < N; first += at_once) {
    const std::int64_t n = std::min(at_once, N - first);
    // Copy i of an image weights its loss so that only token `first + i` counts; the whole image stays, for convolutions.
    const Tensor<T> only = reshape(slice(eye<T>(N), 0, first, first + n), {1, n, 1, N}).to(task.k.device());  // [1, n, 1, N]
    const Tensor<T> weights = reshape(expand(only, {B, n, H, N}), {B * n, H, N});                           // [B·n, H, N]
    InnerData<T> data{detail::repeat_images(task.k, n), detail::repeat_images(task.v, n), {weights}};
    if (!task.options.token_rates.empty()) data.rates.clear();
    for (const Tensor<T>& r : task.options.token_rates) data.rates.push_back(mul(weights, detail::repeat_images(r, n)));
    const Tensors<T> g = inner_gradient(task.model, loss, expand_per_image(task.w0, B * n), data);          // [B·n, H, …] each
    Tensor<T> squares;                                                                                      // [B·n, H]
    for (std::size_t i = 0; i < g.size(); ++i) {
      if (!task.model.parameters[i].trained) continue;
      const Tensor<T> s = sum(reshape(square(g[i]), {B * n, H, g[i].numel() / (B * n * H)}), {-1});         // [B·n, H]
      squares = squares.defined() ? add(squares, s) : s;
    }
    parts.push_back(permute(reshape(sqrt(squares), {B, n, H}), {0, 2, 1}));
  }
  return cat(parts, -1);
}

/// How token i's answer depends on every token's value, ∂o_i/∂v_j through the whole inner training: -> [B, H, N, d', d],
/// d' the answer's width. For linear attention it is η/(N√d) · (q_i·k_j) times the identity; its norm over the last two
/// axes is the layer's implicit attention. Throws ShapeError for a token that there is not.
template <class T>
Tensor<T> value_jacobian(const InnerTask<T>& task, std::int64_t token) {
  if (token < 0 || token >= task.q.size(2))
    fail<ShapeError>("value_jacobian", concat("no such token: token ", token, ", q ", task.q.shape()));
  const std::int64_t B = task.v.size(0), H = task.v.size(1), N = task.v.size(2), width = task.v.size(3);
  InnerTask<T> copies = task;  // copy c of an image is asked for channel c of the answer
  copies.q = detail::repeat_images(task.q, width);                                            // [B·d', H, N, d]
  copies.k = detail::repeat_images(task.k, width);
  for (Tensor<T>& r : copies.options.token_rates) r = detail::repeat_images(r, width);
  if (copies.options.head_rate.defined() && copies.options.head_rate.dim() == 2) copies.options.head_rate = detail::repeat_images(task.options.head_rate, width);
  const auto answer = [&](const Tensor<T>& v) {
    copies.v = v;
    const Tensor<T> o = select(inner_scan(copies).output, 2, token);                         // [B·d', H, d']
    return sum(mul(reshape(o, {B, width, H, width}), reshape(eye<T>(width), {1, width, 1, width}).to(v.device())));
  };
  const Tensor<T> g = grad(answer)(detail::repeat_images(task.v, width));                     // [B·d', H, N, d]
  return permute(reshape(g, {B, width, H, N, width}), {0, 2, 3, 1, 4});
}

/// The inner loss of every image and head with given weights: w [B, H, …] each -> [B, H].
template <class T>
Tensor<T> inner_loss(const InnerTask<T>& task, const Tensors<T>& w) {
  return task.options.loss(task.model(task.k, w), task.v);
}

}  // namespace ttt

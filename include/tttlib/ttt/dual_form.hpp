#pragma once
/// The two ways to answer a causal chunk: token n is answered by the weights after one step on the tokens up to n,
///   W_n = W − η p_n Σ_{k ≤ n} r_k ∂ℓ_k/∂W,        all gradients taken at the chunk's start,
/// with p the position rates and r the token rates; the last row's weights go on to the next chunk (arXiv 2407.04620 §2.5).
/// *Sequential* is the definition and works for every model and step: one copy of the image per token. *Dual* never
/// makes the W_n: a linear map's gradient is Xᵀ Δ, so its output is z̄_n = x̄_n W − η p_n Σ_{k ≤ n} (x̄_n·x_k) Δ_k.
/// Δ comes from nested differentiation too, with respect to a zero added to each linear map's output.
/// Legend: B images, H heads, n tokens of the chunk, d head width.

#include "tttlib/ttt/inner_train.hpp"

namespace ttt {

/// Answers, and the weights to go on from.
template <class T>
struct InnerResult {
  Tensor<T> output;  // [B, H, N, d']
  InnerState<T> state;
};

namespace detail {

/// Why the dual form cannot be used; empty if it can.
template <class T>
std::string dual_form_obstacle(const InnerModel<T>& model, const InnerOptions<T>& o) {
  if (!model.by_maps) return "inner model " + model.name + " is not made of linear maps";
  if (!o.loss.separable()) return "loss " + o.loss.name() + " is not a sum over tokens";
  if (o.clip || o.momentum != 0 || o.weight_decay != 0 || o.row_norm || o.newton_schulz != NewtonSchulz::off)
    return "the step is more than gradient descent";
  if (o.token_rates.size() > 1) return "each parameter has token rates of its own";
  return "";
}

/// η's factor of the first n positions of a chunk: [n].
template <class T>
Tensor<T> position_rates(const InnerOptions<T>& o, std::int64_t n, Device device) {
  if (!o.position_rate.defined()) return full<T>({n}, 1, device);
  if (o.position_rate.dim() != 1 || o.position_rate.size(0) < n)
    fail<ShapeError>("inner_scan", concat("position rates must cover the chunk: position_rate ", o.position_rate.shape(), ", chunk ", n));
  return slice(o.position_rate, 0, 0, n);
}

/// n copies of every image, next to each other: x [B, …] -> [B·n, …].
template <class T>
Tensor<T> repeat_images(const Tensor<T>& x, std::int64_t n) {
  Shape copies = x.shape(), joined = x.shape();
  copies.insert(1, n);
  joined[0] *= n;
  return reshape(expand(unsqueeze(x, 1), copies), joined);
}

/// 1 on and below the diagonal, a constant: [n, n].
template <class T>
Tensor<T> lower_triangle(std::int64_t n, Device device) {
  Tensor<T> mask = zeros<T>({n, n});
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t column = 0; column <= row; ++column) mask.data()[row * n + column] = T(1);
  return mask.to(device);
}

}  // namespace detail

/// The definition: copy t of an image is trained with the tokens after t left out (weight 0), and answers token t.
///   q, data [B, H, n, d] -> output [B, H, n, d'].
template <class T>
InnerResult<T> causal_sequential(const InnerModel<T>& model, const InnerState<T>& at, const Tensor<T>& q, const InnerData<T>& data,
                                 const InnerOptions<T>& options) {
  const std::int64_t B = q.size(0), H = q.size(1), n = q.size(2);
  const auto last_copy = [&](const Tensor<T>& x) {  // [B·n, …] -> [B, …]
    Shape shape = x.shape();
    shape[0] = n;
    shape.insert(0, B);
    return select(reshape(x, shape), 1, n - 1);
  };
  InnerState<T> state = at;
  for (Tensors<T>* list : {&state.w, &state.momentum, &state.start})
    for (Tensor<T>& x : *list)
      if (x.defined()) x = detail::repeat_images(x, n);
  const Tensor<T> past = reshape(detail::lower_triangle<T>(n, q.device()), {1, n, 1, n});                    // [1, n, 1, n]
  InnerData<T> everybody{detail::repeat_images(data.k, n), detail::repeat_images(data.v, n), {}};            // [B·n, H, n, d]
  const Tensors<T> rates = data.rates.empty() ? Tensors<T>{full<T>({B, H, n}, 1, q.device())} : data.rates;
  for (const Tensor<T>& r : rates) everybody.rates.push_back(reshape(mul(unsqueeze(r, 1), past), {B * n, H, n}));
  InnerOptions<T> scaled = options;
  const Tensor<T> position = reshape(detail::position_rates(options, n, q.device()), {1, n, 1});             // [1, n, 1]
  Tensor<T> heads = options.head_rate.defined() ? options.head_rate : full<T>({H}, 1, q.device());        // [H] or [B, H]
  heads = reshape(heads, {heads.dim() == 2 ? B : 1, 1, H});                                                  // [B, 1, H]
  scaled.head_rate = reshape(expand(mul(position, heads), {B, n, H}), {B * n, H});                           // [B·n, H]
  state = inner_update(model, state, everybody, scaled);
  const Tensor<T> one_each = reshape(permute(q, {0, 2, 1, 3}), {B * n, H, 1, q.size(3)});                    // [B·n, H, 1, d]
  const Tensor<T> answers = model(one_each, state.w);                                                        // [B·n, H, 1, d']
  for (Tensors<T>* list : {&state.w, &state.momentum, &state.start})
    for (Tensor<T>& x : *list)
      if (x.defined()) x = last_copy(x);
  return {permute(reshape(answers, {B, n, H, answers.size(-1)}), {0, 2, 1, 3}), state};                      // [B, H, n, d']
}

/// The same without weights per token, for models made of linear maps, sums over tokens and gradient descent:
///   q, data [B, H, n, d] -> output [B, H, n, d'].
template <class T>
InnerResult<T> causal_dual(const InnerModel<T>& model, const InnerState<T>& at, const Tensor<T>& q, const InnerData<T>& data,
                           const InnerOptions<T>& options) {
  const MatmulPrecisionGuard in_float(MatmulPrecision::float32);  // as in the model itself, whose linear maps are made here
  const std::int64_t B = q.size(0), H = q.size(1), n = q.size(2);
  const auto plain = [&](std::size_t i, const Tensor<T>& x) { return apply_linear_map(model.maps[i], x, at.w); };
  Tensors<T> inputs(model.maps.size());  // X of each map: [B, H, n, in]
  model.by_maps(data.k, at.w, [&](std::size_t i, const Tensor<T>& x) {
    inputs[i] = x;
    return plain(i, x);
  });
  Tensors<T> nothing;  // a zero on each map's output, to differentiate by: [B, H, n, out]
  for (const InnerLinearMap& map : model.maps) nothing.push_back(full<T>({B, H, n, at.w[map.weight].size(-1)}, 0, q.device()));
  const Tensors<T> delta = grad([&](const Tensors<T>& zero) {
    const Tensor<T> prediction = model.by_maps(data.k, at.w, [&](std::size_t i, const Tensor<T>& x) { return add(plain(i, x), zero[i]); });
    return detail::total_loss(model, options.loss, prediction, data.v, data.rates.empty() ? Tensor<T>() : data.rates[0]);
  })(nothing);                                                                                       // Δ: [B, H, n, out]

  const Tensor<T> past = detail::lower_triangle<T>(n, q.device());                                   // [n, n]
  const Tensor<T> position = detail::position_rates(options, n, q.device());                         // [n]
  InnerState<T> next = at;
  Tensors<T> steps;  // η Δ
  for (std::size_t i = 0; i < model.maps.size(); ++i) {
    const InnerLinearMap& map = model.maps[i];
    steps.push_back(detail::times_rate(delta[i], options));                                          // [B, H, n, out]
    const Tensor<T> last = mul(steps[i], select(position, 0, n - 1));                                // [B, H, n, out]
    if (model.parameters[map.weight].trained)
      next.w[map.weight] = sub(at.w[map.weight], matmul(transpose(inputs[i]), last));                // [B, H, in, out]
    if (map.bias != InnerLinearMap::none && model.parameters[map.bias].trained)
      next.w[map.bias] = sub(at.w[map.bias], sum(last, {-2}, true));                                 // [B, H, 1, out]
  }
  const Tensor<T> output = model.by_maps(q, at.w, [&](std::size_t i, const Tensor<T>& x) {
    const InnerLinearMap& map = model.maps[i];
    const bool moves = model.parameters[map.weight].trained;
    const bool bias_moves = map.bias != InnerLinearMap::none && model.parameters[map.bias].trained;
    if (!moves && !bias_moves) return plain(i, x);
    Tensor<T> similarity;                                                                            // x̄_n·x_k, + 1 for a bias
    if (moves) similarity = matmul(x, transpose(inputs[i]));                                         // [B, H, n, n]
    if (bias_moves) similarity = moves ? add(similarity, 1) : full<T>({n, n}, 1, q.device());
    const Tensor<T> moved = matmul(mul(similarity, past), steps[i]);                                 // [B, H, n, out]
    return sub(plain(i, x), mul(moved, unsqueeze(position, -1)));                                    // [B, H, n, out]
  });
  return {output, next};
}

}  // namespace ttt

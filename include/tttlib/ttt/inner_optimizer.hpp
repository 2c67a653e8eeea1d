#pragma once
/// From an inner gradient to new inner weights: clip, momentum, Newton–Schulz, weight decay, row norm. All of it is
/// recorded, so the outer gradient goes through all of it.

#include <array>

#include "tttlib/ops/matmul.hpp"
#include "tttlib/ttt/inner_model.hpp"
#include "tttlib/ttt/inner_options.hpp"

namespace ttt {

/// Weights in the middle of an inner training, one copy per image and head: [B, H, …] each.
template <class T>
struct InnerState {
  Tensors<T> w;         // W
  Tensors<T> momentum;  // M of each weight; empty before the first step with momentum
  Tensors<T> start;     // W0, for row norms and resets

  /// The same numbers without history.
  InnerState detach() const {
    InnerState state = *this;
    for (Tensors<T>* list : {&state.w, &state.momentum, &state.start})
      for (Tensor<T>& x : *list) x = x.detach();
    return state;
  }
};

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

namespace detail {
/// Norms of a weight [B, H, …] over what belongs together: the column of a matrix, the window of a kernel (with
/// `all_inputs` all windows of an output channel), a whole vector.
template <class T>
Tensor<T> norm_of_units(const Tensor<T>& w, bool all_inputs) {
  if (w.dim() == 2) return norm(unsqueeze(w, -1), {-1}, false);
  if (w.dim() == 3) return norm(w, {-1}, true);
  if (w.dim() < 6) return norm(w, {-2}, true);
  return norm(w, all_inputs ? Axes{-3, -2, -1} : Axes{-2, -1}, true);
}
}  // namespace detail

/// g / (‖g‖ + 1): the norm of each column of a matrix, of each channel's window of a convolution.
///   g [B, H, in, out] or [B, H, channels, 1, kh, kw] -> same shape.
template <class T>
Tensor<T> clip_inner_gradient(const Tensor<T>& g) {
  return div(g, add(detail::norm_of_units(g, false), 1));
}

/// W with each output unit's norm put back to W0's: w / (‖w‖ + 1e-5) · ‖w0‖, [B, H, …] -> same shape (LaCT's row norm;
/// its matrices are [out, in]). A zero step moves a weight by 1e-5/‖w‖ of itself, as there.
template <class T>
Tensor<T> keep_unit_norms(const Tensor<T>& w, const Tensor<T>& w0) {
  const Tensor<T> size = add(detail::norm_of_units(w, true), Wide<T>(1e-5));
  return mul(div(w, size), detail::norm_of_units(w0, true));
}

/// An orthogonal-like matrix with g's singular vectors: five steps X ← aX + (bA + cA²)X, A = XXᵀ, from g/(‖g‖ + 1e-7).
///   g [.., m, n] -> same shape. Coefficients: one triple (Muon), or one per step (LaCT, arXiv 2505.23884).
template <class T>
Tensor<T> newton_schulz(const Tensor<T>& g, NewtonSchulz kind = NewtonSchulz::constant) {
  static constexpr std::array<double, 3> constant{3.4445, -4.7750, 2.0315};
  static constexpr std::array<std::array<double, 3>, 5> stepwise{{{4.0848, -6.8946, 2.9270},
                                                                  {3.9505, -6.3029, 2.6377},
                                                                  {3.7418, -5.5913, 2.3037},
                                                                  {2.8769, -3.1427, 1.2046},
                                                                  {2.8366, -3.0525, 1.2012}}};
  if (kind == NewtonSchulz::off) return g;
  const bool tall = g.size(-2) > g.size(-1);
  Tensor<T> x = tall ? transpose(g) : g;                    // [.., m, n], m ≤ n: A is the smaller product
  x = div(x, add(norm(x, {-2, -1}, true), Wide<T>(1e-7)));        // [.., m, n]
  for (std::size_t step = 0; step < 5; ++step) {
    const std::array<double, 3>& k = kind == NewtonSchulz::constant ? constant : stepwise[step];
    const Tensor<T> a = matmul(x, transpose(x));                                                         // [.., m, m]
    const Tensor<T> b = add(mul(a, static_cast<Wide<T>>(k[1])), mul(matmul(a, a), static_cast<Wide<T>>(k[2])));      // [.., m, m]
    x = add(mul(x, static_cast<Wide<T>>(k[0])), matmul(b, x));                                                 // [.., m, n]
  }
  return tall ? transpose(x) : x;
}

namespace detail {
/// Newton–Schulz of a weight's update: a kernel counts as the matrix [out, in·kh·kw], vectors stay as they are.
template <class T>
Tensor<T> orthogonalize(const Tensor<T>& u, NewtonSchulz kind) {
  if (u.dim() < 4 || u.size(2) == 1 || u.numel() == 0) return u;
  if (u.dim() == 4) return newton_schulz(u, kind);
  return reshape(newton_schulz(reshape(u, {u.size(0), u.size(1), u.size(2), -1}), kind), u.shape());
}

/// η·u with η the rate, per head if asked for: u [B, H, …] -> same shape.
template <class T>
Tensor<T> times_rate(const Tensor<T>& u, const InnerOptions<T>& o) {
  const Tensor<T> scaled = mul(u, static_cast<Wide<T>>(o.rate));
  if (!o.head_rate.defined()) return scaled;
  Shape shape = Shape::filled(u.shape().size(), 1);
  shape[1] = o.head_rate.size(-1);
  if (o.head_rate.dim() == 2) shape[0] = o.head_rate.size(0);
  return mul(scaled, reshape(o.head_rate, shape));
}
}  // namespace detail

/// W ← W − η·u, where u is the gradient after everything that the options ask for: g [B, H, …] each -> the next state.
template <class T>
InnerState<T> descend(const InnerModel<T>& model, const InnerState<T>& at, const Tensors<T>& g, const InnerOptions<T>& o) {
  InnerState<T> next = at;
  if (o.momentum != 0) next.momentum.resize(at.w.size());
  for (std::size_t i = 0; i < at.w.size(); ++i) {
    if (!model.parameters[i].trained) continue;
    Tensor<T> u = o.clip ? clip_inner_gradient(g[i]) : g[i];                                // [B, H, …]
    if (o.momentum != 0) {
      if (next.momentum[i].defined()) u = add(u, mul(next.momentum[i], static_cast<Wide<T>>(o.momentum)));
      next.momentum[i] = u;  // kept before Newton–Schulz, as in Muon
    }
    if (o.newton_schulz != NewtonSchulz::off) u = detail::orthogonalize(u, o.newton_schulz);
    if (o.weight_decay != 0) u = add(u, mul(at.w[i], static_cast<Wide<T>>(o.weight_decay)));
    next.w[i] = sub(at.w[i], detail::times_rate(u, o));                                     // [B, H, …]
    if (o.row_norm) next.w[i] = keep_unit_norms(next.w[i], at.start[i]);
  }
  return next;
}

}  // namespace ttt

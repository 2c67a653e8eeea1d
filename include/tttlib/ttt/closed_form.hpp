#pragma once
/// The inner gradients of the two ViT³ heads written out (paper §4; docs/derivation.md, section 6; one full-batch step on the loss
/// −c Σ V̂·V): no inner sweep, and still made of recorded ops, so outer gradients of any order are exact.
/// Legend: B images, H heads, N tokens, d head width; S = SiLU, S' its derivative, ⊙ elementwise; c = block_scale/N.

#include "tttlib/ttt/inner_train.hpp"

namespace ttt::closed_form {

/// GLU head: w1, w2 [H, d, d], k and v [B, H, N, d] -> {w1*, w2*} [B, H, d, d].
template <class T>
Tensors<T> glu_step(const Tensors<T>& w0, const Tensor<T>& k, const Tensor<T>& v, Wide<T> rate) {
  Scope scope("inner_step");
  const MatmulPrecisionGuard in_float(MatmulPrecision::float32);  // as in the model itself
  const Wide<T> c = static_cast<Wide<T>>(losses::block_step.c(k.size(-2)));
  const Tensor<T> e = mul(v, -c);                                                       // [B, H, N, d]  ∂L/∂V̂ = −c V
  const Tensor<T> z1 = matmul(k, w0[0]);                                                // [B, H, N, d]
  const Tensor<T> z2 = matmul(k, w0[1]);                                                // [B, H, N, d]
  const Tensor<T> p = mul(e, silu(z2));                                                 // [B, H, N, d]  P = −c V ⊙ S(z2)
  const Tensor<T> r = mul(mul(e, z1), silu_grad(z2));                                   // [B, H, N, d]  R = −c V ⊙ z1 ⊙ S'(z2)
  const Tensor<T> kt = transpose(k);                                                    // [B, H, d, N]
  const Tensor<T> g1 = matmul(kt, p);                                                   // [B, H, d, d]
  const Tensor<T> g2 = matmul(kt, r);                                                   // [B, H, d, d]
  return {sub(w0[0], mul(clip_inner_gradient(g1), rate)), sub(w0[1], mul(clip_inner_gradient(g2), rate))};
}

/// Depthwise-convolution head: w0 [d, 1, 3, 3], k and v [B, h, w, d] -> one kernel per image [B, d, 3, 3].
template <class T>
Tensor<T> dwconv3x3_step(const Tensor<T>& w0, const Tensor<T>& k, const Tensor<T>& v, Wide<T> rate) {
  Scope scope("inner_step");
  const Wide<T> c = static_cast<Wide<T>>(losses::block_step.c(k.size(1) * k.size(2)));
  const Tensor<T> g = depthwise_correlation(k, mul(v, -c), {3, 3}, {.padding = {1, 1}});  // [B, d, 3, 3]  corr(K, −c V)
  const Tensor<T> clipped = div(g, add(norm(g, {-2, -1}, true), 1));                      // [B, d, 3, 3]
  return sub(reshape(w0, {k.size(3), 3, 3}), mul(clipped, rate));
}

}  // namespace ttt::closed_form

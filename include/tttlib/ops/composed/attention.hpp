#pragma once
/// Softmax attention and linear attention.
/// Legend: N queries, M keys, d head width; leading axes are images and heads.

#include <cmath>

#include "tttlib/autograd/fused.hpp"
#include "tttlib/ops/composed/softmax.hpp"
#include "tttlib/ops/matmul.hpp"

namespace ttt {

/// softmax(q kᵀ/√d) v by ops, with the whole N × M matrix: q [.., N, d], k and v [.., M, d] -> [.., N, d].
template <class T>
Tensor<T> attention_by_matrix(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v) {
  const MatmulPrecisionGuard in_float(MatmulPrecision::float32);  // as the kernel of its fused twin
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  const Tensor<T> scores = matmul(mul(q, static_cast<Wide<T>>(scale)), transpose(k));  // [.., N, M]
  return matmul(softmax(scores), v);                                             // [.., N, d]
}

/// The same without that matrix, forward and backward: memory grows with N + M. A fused twin of `attention_by_matrix`.
///   q [.., N, d], k and v [.., M, d] -> [.., N, d]. Throws ShapeError if they do not fit.
template <class T>
Tensor<T> attention(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v) {
  require_same_device("attention", q, k);
  require_same_device("attention", q, v);
  Shape like_q = k.shape();
  if (k.dim() >= 2 && q.dim() >= 2) like_q[like_q.size() - 2] = q.size(-2);
  if (k.dim() < 2 || like_q != q.shape() || k.shape() != v.shape())
    fail<ShapeError>("attention", concat("needs q [.., N, d] and k, v [.., M, d]: q ", q.shape(), ", k ", k.shape(), ", v ", v.shape()));
  if (k.size(-2) == 0 || k.size(-1) == 0) fail<ShapeError>("attention", concat("there is nothing to attend to: q ", q.shape(), ", k ", k.shape()));
  if (q.numel() == 0 || k.numel() == 0) return attention_by_matrix(q, k, v);  // no queries, or no images
  if (q.dim() != 4) {
    const auto as_heads = [](const Tensor<T>& x) { return reshape(x, {x.numel() / (x.size(-2) * x.size(-1)), 1, x.size(-2), x.size(-1)}); };
    return reshape(attention(as_heads(q), as_heads(k), as_heads(v)), q.shape());
  }
  const bool kept = is_recorded<T>({q, k, v});
  Tensor<T> o = empty_like(q);  // [B, H, N, d]
  Tensor<Wide<T>> log_sums;     // [B, H, N]
  if (kept) log_sums = Tensor<Wide<T>>(Shape{q.size(0), q.size(1), q.size(2)}, q.device());
  backend::attention<T>(view(q), view(k), view(v), kept ? log_sums.data() : nullptr, mutable_view(o));
  count_macs(2 * q.numel() * k.size(2));
  const auto definition = [](const Tensors<T>& x) { return attention_by_matrix(x[0], x[1], x[2]); };
  const auto fast_rule = [log_sums](const Call<T>& c, const std::vector<bool>&) {
    const Tensor<T> y = c.y();
    Tensors<T> dx;
    for (std::size_t i = 0; i < 3; ++i) dx.emplace_back(c.shape(i), y.device());
    backend::attention_pull<T>(view(c.in(0)), view(c.in(1)), view(c.in(2)), view(y), log_sums.data(), view(c.g), mutable_view(dx[0]), mutable_view(dx[1]),
                               mutable_view(dx[2]));
    return dx;
  };
  return fused<T>("attention", saved(o), {q, k, v}, definition, fast_rule);
}

/// q (kᵀ v) / (M√d), without a feature map or a denominator: what one full-batch step with the dot loss makes of a linear
/// inner model that starts at zero.   q [.., N, d], k and v [.., M, d] -> [.., N, d].
template <class T>
Tensor<T> linear_attention(const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v) {
  const double scale = 1 / (static_cast<double>(k.size(-2)) * std::sqrt(static_cast<double>(k.size(-1))));
  const Tensor<T> w = mul(matmul(transpose(k), v), static_cast<Wide<T>>(scale));  // [.., d, d]
  return matmul(q, w);                                                      // [.., N, d]
}

}  // namespace ttt

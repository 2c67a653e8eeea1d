#pragma once
/// Two linear layers with GELU between them, fused where there is a kernel.

#include "tttlib/autograd/fused.hpp"
#include "tttlib/ops/matmul.hpp"
#include "tttlib/ops/reduce.hpp"

namespace ttt {

namespace detail {
/// Whether `mlp` of these operands has a kernel. Not where they do not fit together: the layers say best what is wrong.
template <class T>
bool fuses_mlp(const Tensor<T>& x, const Tensor<T>& w1, const Tensor<T>& b1, const Tensor<T>& w2, const Tensor<T>& b2) {
  for (const Tensor<T>* operand : {&x, &w1, &b1, &w2, &b2})
    if (!operand->defined() || operand->device() != x.device()) return false;
  return backend::fuses_mlp(x.device()) && x.numel() > 0 && x.dim() >= 1 && w1.dim() == 2 && w2.dim() == 2 && x.size(-1) == w1.size(1) &&
         w1.size(0) == w2.size(1) && b1.shape() == Shape{w1.size(0)} && b2.shape() == Shape{w2.size(0)};
}
}  // namespace detail

/// linear(gelu(linear(x, w1, b1)), w2, b2):   x [.., C], w1 [M, C], b1 [M], w2 [C', M], b2 [C']   ->   [.., C'].
/// Throws ShapeError if the widths differ.
template <class T>
Tensor<T> mlp(const Tensor<T>& x, const Tensor<T>& w1, const Tensor<T>& b1, const Tensor<T>& w2, const Tensor<T>& b2) {
  const auto definition = [](const Tensors<T>& xs) { return linear(gelu(linear(xs[0], xs[1], xs[2])), xs[3], xs[4]); };
  if (!detail::fuses_mlp(x, w1, b1, w2, b2)) return definition({x, w1, b1, w2, b2});
  const std::int64_t C = w1.size(1), M = w1.size(0), out = w2.size(0);
  const Tensors<T> xs{contiguous(reshape(x, {x.numel() / C, C})), w1, contiguous(b1), w2, contiguous(b2)};
  const std::int64_t R = xs[0].size(0);
  Tensor<T> y(Shape{R, out}, x.device()), hidden;  // [R, C'], [R, M]
  if (is_recorded(xs)) hidden = Tensor<T>(Shape{R, M}, x.device());
  backend::mlp(view(xs[0]), view(w1), xs[2].data(), view(w2), xs[4].data(), hidden.data(), mutable_view(y));
  count_macs(R * M * (C + out));
  const auto fast_rule = [hidden, R, M](const Call<T>& c, const std::vector<bool>& needs) -> Tensors<T> {
    const Tensor<T> x = c.in(0), w1 = c.in(1), w2 = c.in(3), g = contiguous(c.g);
    Tensor<T> activated(Shape{R, M}, x.device()), dh(Shape{R, M}, x.device()), dx(x.shape(), x.device());
    backend::mlp_pull(view(w1), view(w2), hidden.data(), view(g), activated.data(), dh.data(), mutable_view(dx));
    return {dx, needs[1] ? matmul(transpose(dh), x) : Tensor<T>(),          // [M, R] x [R, C]
            sum_to(dh, c.shape(2)),
            needs[3] ? matmul(transpose(g), activated) : Tensor<T>(),       // [C', R] x [R, M]
            sum_to(g, c.shape(4))};
  };
  y = fused<T>("mlp", Operand(y), xs, definition, fast_rule);
  Shape shape = x.shape();
  shape[shape.size() - 1] = out;
  return reshape(y, shape);
}

}  // namespace ttt

#pragma once
/// Two linear layers with GELU between them, fused where there is a kernel.

#include "tttlib/autograd/fused.hpp"
#include "tttlib/ops/composed/norm.hpp"
#include "tttlib/ops/matmul.hpp"

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
/// Where a GPU multiplies in bf16, it keeps the hidden layer in bf16. Throws ShapeError if the widths differ.
template <class T>
Tensor<T> mlp(const Tensor<T>& x, const Tensor<T>& w1, const Tensor<T>& b1, const Tensor<T>& w2, const Tensor<T>& b2) {
  const auto definition = [](const Tensors<T>& xs) { return linear(gelu(linear(xs[0], xs[1], xs[2])), xs[3], xs[4]); };
  if (!detail::fuses_mlp(x, w1, b1, w2, b2)) return definition({x, w1, b1, w2, b2});
  const std::int64_t C = w1.size(1), M = w1.size(0), out = w2.size(0);
  const Tensors<T> xs{contiguous(reshape(x, {x.numel() / C, C})), w1, contiguous(b1), w2, contiguous(b2)};
  const std::int64_t R = xs[0].size(0);
  Tensor<T> y(Shape{R, out}, x.device());  // [R, C']
  const DType type = backend::mlp_hidden_type<T>(x.device());
  std::shared_ptr<Storage> hidden;         // [R, M]
  if (is_recorded(xs)) hidden = std::make_shared<Storage>(static_cast<std::size_t>(R * M) * size_of(type), x.device());
  backend::mlp(view(xs[0]), view(w1), xs[2].data(), view(w2), xs[4].data(), {hidden ? hidden->data() : nullptr, type}, mutable_view(y));
  count_macs(R * M * (C + out));
  const auto fast_rule = [hidden, type, C, out, macs = R * M](const Call<T>& c, const std::vector<bool>& needs) -> Tensors<T> {
    const Tensor<T> g = contiguous(c.g);
    Tensors<T> d(5);
    for (std::size_t i = 0; i < 5; ++i)
      if (needs[i]) d[i] = Tensor<T>(c.shape(i), g.device());
    const auto where = [](Tensor<T>& t) { return t.defined() ? mutable_view(t) : View<T>{}; };
    backend::mlp_pull(view(c.in(0)), view(c.in(1)), view(c.in(3)), {hidden->data(), type}, view(g), where(d[0]), where(d[1]), d[2].data(),
                      where(d[3]), d[4].data());
    count_macs(macs * (out + (needs[0] ? C : 0) + (needs[1] ? C : 0) + (needs[3] ? out : 0)));
    return d;
  };
  y = fused<T>("mlp", Operand(y), xs, definition, fast_rule);
  Shape shape = x.shape();
  shape[shape.size() - 1] = out;
  return reshape(y, shape);
}

/// mlp(layer_norm(x)) of x [.., C], or with `residual` x + that, as one op where `fuses_normed_mlp`: the normalised rows need no memory.
template <class T>
bool fuses_normed_mlp(const Tensor<T>& x, const Affine<T>& norm, const Tensor<T>& w1, const Tensor<T>& b1, const Tensor<T>& w2, const Tensor<T>& b2) {
  if (!norm.weight.defined() || !norm.bias.defined() || !detail::fuses_mlp(x, w1, b1, w2, b2)) return false;
  const Shape C{w1.size(1)};
  return backend::fuses_norms<T>(x.device(), C[0]) && w2.size(0) == C[0] && norm.weight.shape() == C && norm.bias.shape() == C &&
         norm.weight.device() == x.device();
}
template <class T>
Tensor<T> normed_mlp(const Tensor<T>& x, const Affine<T>& norm, const Tensor<T>& w1, const Tensor<T>& b1, const Tensor<T>& w2, const Tensor<T>& b2,
                     bool residual = false) {
  const std::int64_t C = w1.size(1), M = w1.size(0), R = x.numel() / C;
  const Tensors<T> xs{contiguous(reshape(x, {R, C})), w1, contiguous(b1), w2, contiguous(b2), contiguous(norm.weight), contiguous(norm.bias)};
  const double eps = norm.eps;
  Tensor<T> y(Shape{R, C}, x.device());  // [R, C]
  Tensor<bf16> hidden;                   // [R, M]
  if (is_recorded(xs)) hidden = Tensor<bf16>(Shape{R, M}, x.device());
  backend::normed_mlp<T>(view(xs[0]), {xs[5].data(), xs[6].data(), eps}, view(w1), xs[2].data(), view(w2), xs[4].data(), hidden.data(), residual,
                         mutable_view(y));
  count_macs(2 * R * M * C);
  const auto definition = [eps, residual](const Tensors<T>& t) {
    const Tensor<T> branch = linear(gelu(linear(layer_norm(t[0], t[5], t[6], eps), t[1], t[2])), t[3], t[4]);  // [R, C]
    return residual ? add(t[0], branch) : branch;
  };
  const auto fast_rule = [hidden, eps, residual, macs = 2 * R * M * C](const Call<T>& c, const std::vector<bool>&) {
    const Tensor<T> g = contiguous(c.g);
    Tensors<T> d;
    for (std::size_t i = 0; i < 7; ++i) d.emplace_back(c.shape(i), g.device());
    backend::normed_mlp_pull<T>(view(c.in(0)), {c.in(5).data(), c.in(6).data(), eps}, view(c.in(1)), view(c.in(3)), hidden.data(), view(g),
                                residual, mutable_view(d[0]), {d[5].data(), d[6].data(), 0}, mutable_view(d[1]), d[2].data(), mutable_view(d[3]),
                                d[4].data());
    count_macs(2 * macs);
    return d;
  };
  return reshape(fused<T>("normed_mlp", Operand(y), xs, definition, fast_rule), x.shape());
}

}  // namespace ttt

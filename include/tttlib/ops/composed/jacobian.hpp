#pragma once
/// Full matrices of derivatives, for small cases.

#include "tttlib/autograd/transforms.hpp"
#include "tttlib/ops/movement.hpp"

namespace ttt {

/// All derivatives of f: x -> [elements of f(x), elements of x], one sweep per row. Differentiable like any
/// transform.
template <class T, class F>
Tensor<T> jacobian(const F& f, const Tensor<T>& x) {
  const Tensor<T> y = no_grad([&] { return f(x); });
  if (y.numel() == 0) return Tensor<T>(Shape{0, x.numel()}, x.device());
  const Tensor<T> basis = eye<T>(y.numel()).to(y.device());  // [m, m]
  Tensors<T> rows;                                           // m of [n]
  for (std::int64_t i = 0; i < y.numel(); ++i)
    rows.push_back(flatten(vjp(f, x, reshape(select(basis, 0, i), y.shape()))));
  return stack(rows);  // [m, n]
}

}  // namespace ttt

#pragma once
/// Random masks from the default generator: each call takes one stream.

#include "tttlib/ops/create.hpp"
#include "tttlib/ops/elementwise.hpp"

namespace ttt {

namespace detail {
/// x times a mask of that shape: 0 with probability p, else 1/(1−p).
template <class T>
Tensor<T> random_mask(const char* op, const Tensor<T>& x, double p, bool training, const Shape& shape) {
  if (!(p >= 0 && p <= 1))
    fail<ShapeError>(op, concat("probability out of range: p ", p, " is not in [0, 1]"));
  if (!training || p == 0) return x;
  if (p == 1) return mul(x, zeros<T>(shape, x.device()));
  const Tensor<T> kept = ge(rand<T>(shape, x.device()), full<T>(Shape{}, static_cast<T>(p), x.device()));
  return mul(x, mul(kept, static_cast<T>(1 / (1 - p))));
}
}  // namespace detail

/// Zeroes each element with probability p and scales the others by 1/(1−p); x itself outside of training.
/// Throws ShapeError unless 0 ≤ p ≤ 1.
template <class T>
Tensor<T> dropout(const Tensor<T>& x, double p = 0.5, bool training = true) {
  return detail::random_mask("dropout", x, p, training, x.shape());
}

/// The same with one draw per image (first axis): stochastic depth (Huang et al. 2016).
template <class T>
Tensor<T> drop_path(const Tensor<T>& x, double p, bool training = true) {
  if (x.dim() < 1) fail<ShapeError>("drop_path", "needs an axis of images: x []");
  Shape shape = Dims::filled(x.shape().size(), 1);
  shape[0] = x.size(0);
  return detail::random_mask("drop_path", x, p, training, shape);
}

}  // namespace ttt

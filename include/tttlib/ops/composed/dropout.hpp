#pragma once
/// Random masks from the default generator: each call takes one stream.

#include "tttlib/ops/create.hpp"
#include "tttlib/ops/elementwise.hpp"

namespace ttt {

namespace detail {
/// A mask of that shape: 0 with probability p, else 1/(1−p). Undefined where nothing is to be masked.
template <class T>
Tensor<T> random_mask(const char* op, double p, bool training, const Shape& shape, Device device) {
  if (!(p >= 0 && p <= 1))
    fail<ShapeError>(op, concat("probability out of range: p ", p, " is not in [0, 1]"));
  if (!training || p == 0) return {};
  if (p == 1) return zeros<T>(shape, device);
  const Tensor<Wide<T>> drawn = rand<Wide<T>>(shape, device);
  const Tensor<T> kept = cast<T>(ge(drawn, static_cast<Wide<T>>(p)));
  return mul(kept, static_cast<Wide<T>>(1 / (1 - p)));
}
/// One number per image of x: [B, 1, ..].
template <class T>
Shape per_image(const char* op, const Tensor<T>& x) {
  require_defined(op, x);
  if (x.dim() < 1) fail<ShapeError>(op, "needs an axis of images: x []");
  Shape shape = Dims::filled(x.shape().size(), 1);
  shape[0] = x.size(0);
  return shape;
}
}  // namespace detail

/// Zeroes each element with probability p and scales the others by 1/(1−p); x itself outside of training.
/// Throws ShapeError unless 0 ≤ p ≤ 1.
template <class T>
Tensor<T> dropout(const Tensor<T>& x, double p = 0.5, bool training = true) {
  require_defined("dropout", x);
  const Tensor<T> mask = detail::random_mask<T>("dropout", p, training, x.shape(), x.device());
  return mask.defined() ? mul(x, mask) : x;
}

/// The same with one draw per image (first axis): stochastic depth (Huang et al. 2016).
template <class T>
Tensor<T> drop_path(const Tensor<T>& x, double p, bool training = true) {
  const Tensor<T> mask = detail::random_mask<T>("drop_path", p, training, detail::per_image("drop_path", x), x.device());
  return mask.defined() ? mul(x, mask) : x;
}

/// x + drop_path(branch, p) in one pass: x and branch [B, ..].
template <class T>
Tensor<T> add_drop_path(const Tensor<T>& x, const Tensor<T>& branch, double p, bool training = true) {
  const Tensor<T> mask = detail::random_mask<T>("drop_path", p, training, detail::per_image("drop_path", branch), branch.device());
  return mask.defined() ? add_scaled(x, branch, mask) : add(x, branch);
}

}  // namespace ttt

#pragma once
/// softmax, log_softmax, logsumexp along any axis.

#include "tttlib/ops/reduce.hpp"

namespace ttt {

namespace detail {

/// softmax or its logarithm over the last axis; keeps the output alone.
template <class T>
Tensor<T> softmax_last(const char* op, const Tensor<T>& input, bool log) {
  const Tensor<T> x = contiguous(input);
  Tensor<T> y = empty_like(x);
  backend::softmax(view(x), log, mutable_view(y));
  return record<T>(op, saved(y), {x}, [log](const Call<T>& c) {
    const Tensor<T> out = c.y();
    if (!grad_mode()) {
      const Tensor<T> g = contiguous(c.g);
      Tensor<T> dx = empty_like(out);
      backend::softmax_pull(view(out), view(g), log, mutable_view(dx));
      return dx;
    }
    if (log) return sub(c.g, mul(exp(out), sum(c.g, {-1}, true)));  // g − softmax·Σg
    return mul(out, sub(c.g, sum(mul(c.g, out), {-1}, true)));      // y (g − Σ g·y)
  });
}

template <class T>
Tensor<T> softmax_along(const char* op, const Tensor<T>& x, std::int64_t axis, bool log) {
  const std::size_t at = normalize_axis(op, axis, x);
  if (at + 1 == x.shape().size()) return softmax_last(op, x, log);
  return transpose(softmax_last(op, transpose(x, axis, -1), log), axis, -1);
}

}  // namespace detail

/// e^x / Σ e^x along an axis.
template <class T>
Tensor<T> softmax(const Tensor<T>& x, std::int64_t axis = -1) {
  return detail::softmax_along("softmax", x, axis, false);
}
/// x − log Σ e^x along an axis.
template <class T>
Tensor<T> log_softmax(const Tensor<T>& x, std::int64_t axis = -1) {
  return detail::softmax_along("log_softmax", x, axis, true);
}
/// log Σ e^x along an axis, without overflow.
template <class T>
Tensor<T> logsumexp(const Tensor<T>& x, std::int64_t axis = -1, bool keep_axis = false) {
  const std::size_t at = normalize_axis("logsumexp", axis, x);
  if (x.shape()[at] == 0) fail<ShapeError>("logsumexp", concat("axis ", axis, " is empty: x ", x.shape()));
  const Tensor<T> values = x.detach(), top = amax(values, {axis}, true);
  const Tensor<T> shift =
      where(eq(sub(top, top), zeros_like(top)), top, zeros_like(top));  // 0 where top is ±∞
  Tensor<T> y = add(log(sum(exp(sub(values, shift)), {axis}, true)), shift);
  y = record<T>("logsumexp", y, {saved(x)},
                [at](const Call<T>& c) { return mul(c.g, softmax(c.in(0), static_cast<std::int64_t>(at))); });
  return keep_axis ? y : squeeze(y, axis);
}

}  // namespace ttt

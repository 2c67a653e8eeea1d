#pragma once
/// Reductions over any axes. An empty list of axes means all of them; `keep_axis` leaves them with length 1.

#include "tttlib/ops/elementwise.hpp"

namespace ttt {

namespace detail {
/// x's shape with the listed axes set to 1, and without them.
struct ReducedShape {
  Shape kept, dropped;
  std::int64_t count = 1;  // elements per result

  ReducedShape(const char* op, const TensorBase& x, const Axes& axes) : ReducedShape(op, (require_defined(op, x), x.shape()), axes) {}
  ReducedShape(const char* op, const Shape& shape, const Axes& axes) : kept(shape) {
    bool reduced[Dims::max_rank] = {};
    for (std::int64_t axis : axes) reduced[normalize_axis(op, axis, shape.size(), &shape)] = true;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (axes.empty() || reduced[i]) {
        count *= shape[i];
        kept[i] = 1;
      } else {
        dropped.push_back(shape[i]);
      }
    }
  }
};
}  // namespace detail

/// Sum over axes.
template <class T>
Tensor<T> sum(const Tensor<T>& x, const Axes& axes = {}, bool keep_axis = false) {
  const detail::ReducedShape to("sum", x, axes);
  const Tensor<T> y = sum_to(x, to.kept);
  return keep_axis ? y : reshape(y, to.dropped);
}
/// Mean over axes. Throws ShapeError if there is nothing to average.
template <class T>
Tensor<T> mean(const Tensor<T>& x, const Axes& axes = {}, bool keep_axis = false) {
  const detail::ReducedShape to("mean", x, axes);
  if (to.count == 0) fail<ShapeError>("mean", concat("mean of no elements: x ", x.shape()));
  return cast<T>(div(sum(cast<Wide<T>>(x), axes, keep_axis), static_cast<Wide<T>>(to.count)));
}
/// Variance over axes: Σ(x − mean)² / (n − correction); correction 1 is the unbiased one.
template <class T>
Tensor<T> var(const Tensor<T>& x, const Axes& axes = {}, bool keep_axis = false, double correction = 1) {
  const detail::ReducedShape to("var", x, axes);
  const double divisor = static_cast<double>(to.count) - correction;
  if (divisor <= 0) fail<ShapeError>("var", concat("too few elements: x ", x.shape(), ", ", to.count, " per result, correction ", correction));
  const Tensor<Wide<T>> wide = cast<Wide<T>>(x);
  return cast<T>(div(sum(square(sub(wide, mean(wide, axes, true))), axes, keep_axis), static_cast<Wide<T>>(divisor)));
}

namespace detail {
template <class T>
Tensor<T> extremum(const char* op, Reduction kind, const Tensor<T>& x, const Axes& axes, bool keep_axis) {
  const ReducedShape to(op, x, axes);
  if (to.count == 0) fail<ShapeError>(op, concat("extremum of no elements: x ", x.shape()));
  Tensor<T> y(to.kept, x.device());
  backend::reduce(kind, view(x), mutable_view(y));
  if constexpr (is_floating<T>)
    y = record<T>(op, saved(y), {saved(x)}, [](const Call<T>& c) {
      const Tensor<T> ties = eq(c.in(0), c.y());                                         // [x.shape], a constant
      return mul(broadcast_to(mul(c.g, reciprocal(sum_to(ties, c.g.shape()))), ties.shape()), ties);
    });
  return keep_axis ? y : reshape(y, to.dropped);
}
}  // namespace detail

/// Largest element over axes; ties share the gradient evenly.
template <class T>
Tensor<T> amax(const Tensor<T>& x, const Axes& axes = {}, bool keep_axis = false) {
  return detail::extremum("amax", Reduction::max, x, axes, keep_axis);
}
/// Smallest element over axes; ties share the gradient evenly.
template <class T>
Tensor<T> amin(const Tensor<T>& x, const Axes& axes = {}, bool keep_axis = false) {
  return detail::extremum("amin", Reduction::min, x, axes, keep_axis);
}

namespace detail {
template <class T>
Tensor<std::int64_t> arg_extremum(const char* op, Reduction kind, const Tensor<T>& x, std::int64_t axis, bool keep_axis) {
  const std::size_t at = normalize_axis(op, axis, x);
  Shape shape = x.shape();
  if (shape[at] == 0) fail<ShapeError>(op, concat("axis ", axis, " is empty: x ", x.shape()));
  shape[at] = 1;
  Tensor<std::int64_t> y(shape, x.device());
  backend::arg_reduce(kind, view(x), at, mutable_view(y));
  return keep_axis ? y : squeeze(y, axis);
}
}  // namespace detail

/// Position of the first largest element along an axis.
template <class T>
Tensor<std::int64_t> argmax(const Tensor<T>& x, std::int64_t axis = -1, bool keep_axis = false) {
  return detail::arg_extremum("argmax", Reduction::max, x, axis, keep_axis);
}
template <class T>
Tensor<std::int64_t> argmin(const Tensor<T>& x, std::int64_t axis = -1, bool keep_axis = false) {
  return detail::arg_extremum("argmin", Reduction::min, x, axis, keep_axis);
}

/// Euclidean norm over axes: sqrt(Σx²). At x = 0 the value and every derivative are 0, so that the column clip
/// g/(‖g‖ + 1) of the inner step has derivative I there.
template <class T>
Tensor<T> norm(const Tensor<T>& x, const Axes& axes = {}, bool keep_axis = false) {
  const detail::ReducedShape to("norm", x, axes);
  Tensor<Wide<T>> sums(to.kept, x.device());
  const Tensor<Wide<T>> squares = detail::compute("norm", formula::Square{}, cast<Wide<T>>(x.detach()));
  backend::reduce(Reduction::sum, view(squares), mutable_view(sums));
  Tensor<T> y = cast<T>(detail::compute(formula::Sqrt{}, sums));
  y = record<T>("norm", saved(y), {saved(x)}, [](const Call<T>& c) {
    return mul(mul(c.g, reciprocal_or_zero(c.y())), c.in(0));
  });
  return keep_axis ? y : reshape(y, to.dropped);
}

/// Running sum along an axis, from the end if `reverse`.
template <class T>
Tensor<T> cumsum(const Tensor<T>& x, std::int64_t axis, bool reverse = false) {
  const std::size_t at = normalize_axis("cumsum", axis, x);
  Tensor<T> y = empty_like(x);
  backend::cumsum(view(x), at, reverse, mutable_view(y));
  return record<T>("cumsum", y, {x}, [axis, reverse](const Call<T>& c) { return cumsum(c.g, axis, !reverse); });
}

}  // namespace ttt

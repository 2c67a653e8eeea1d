#pragma once
/// Reading along an axis at given positions (int64 constants), and its partner that adds back.

#include "tttlib/ops/reduce.hpp"

namespace ttt {

namespace detail {

/// Throws ShapeError if a position is not in [0, length); `what` says what the positions count.
inline void require_positions(const char* op, const char* what, const Tensor<std::int64_t>& index,
                              std::int64_t length, const char* name = "index") {
  require_defined(op, index);
  if (index.numel() == 0 || !index.device().is_cpu()) return;
  const Shape one = Dims::filled(index.shape().size(), 1);
  Tensor<std::int64_t> low(one), high(one);
  backend::reduce(Reduction::min, view(index), mutable_view(low));
  backend::reduce(Reduction::max, view(index), mutable_view(high));
  if (*low.data() < 0 || *high.data() >= length)
    fail<ShapeError>(op, concat(name, " out of range: ", name, " ", index.shape(), " holds ",
                                *low.data() < 0 ? *low.data() : *high.data(), ", valid are ", length > 0 ? concat("0 to ", length - 1) : "none",
                                " (", what, ")"));
}

template <class T>
Tensor<T> scatter_at(const Tensor<T>& g, const Tensor<std::int64_t>& index, std::size_t axis,
                     const Shape& shape);

/// y[.., i, ..] = x[.., index[.., i, ..], ..]; index has y's shape (strides may be 0) and only valid
/// positions.
template <class T>
Tensor<T> gather_at(const Tensor<T>& x, const Tensor<std::int64_t>& index, std::size_t axis) {
  Tensor<T> y(index.shape(), x.device());
  backend::gather(view(x), view(index), axis, mutable_view(y));
  if constexpr (is_floating<T>)
    return record<T>("gather", y, {x}, [kept = Constant(index), axis](const Call<T>& c) {
      return scatter_at(c.g, kept.get("gather", "index"), axis, c.shape(0));
    });
  else return y;
}
template <class T>
Tensor<T> scatter_at(const Tensor<T>& g, const Tensor<std::int64_t>& index, std::size_t axis,
                     const Shape& shape) {
  Tensor<T> y = full<T>(shape, 0, g.device());
  backend::scatter_add(view(g), view(index), axis, mutable_view(y));
  return record<T>("scatter_add", y, {g}, [kept = Constant(index), axis](const Call<T>& c) {
    return gather_at(c.g, kept.get("scatter_add", "index"), axis);
  });
}

/// Throws ShapeError unless index has x's shape outside of `axis`.
template <class T>
std::size_t gather_axis(const char* op, const char* name, const Shape& x, const Tensor<T>& index,
                        std::int64_t axis) {
  const std::size_t at = normalize_axis(op, axis, x.size(), &x);
  Shape expected = x;
  if (index.shape().size() == x.size()) expected[at] = index.shape()[at];
  if (index.shape() != expected)
    fail<ShapeError>(op, concat(name, " and index differ outside of axis ", axis, ": ", name, " ", x,
                                ", index ", index.shape()));
  return at;
}

}  // namespace detail

/// y[.., i, ..] = x[.., index[.., i, ..], ..]: one position per element of the result. index has x's shape
/// except along `axis`. Throws ShapeError if the shapes differ or a position is out of range.
template <class T>
Tensor<T> gather(const Tensor<T>& x, const Tensor<std::int64_t>& index, std::int64_t axis) {
  require_same_device("gather", x, index);
  const std::size_t at = detail::gather_axis("gather", "x", x.shape(), index, axis);
  detail::require_positions("gather", "along the axis", index, x.shape()[at]);
  return detail::gather_at(x, index, at);
}

/// Zeros of `length` along `axis` with x[.., i, ..] added at index[.., i, ..]: the partner of gather. index
/// has x's shape. Throws ShapeError if it has not or a position is out of range.
template <class T>
Tensor<T> scatter_add(const Tensor<T>& x, const Tensor<std::int64_t>& index, std::int64_t axis,
                      std::int64_t length) {
  require_same_device("scatter_add", x, index);
  if (x.shape() != index.shape())
    fail<ShapeError>("scatter_add", concat("x and index differ: x ", x.shape(), ", index ", index.shape()));
  Shape shape = x.shape();
  const std::size_t at = normalize_axis("scatter_add", axis, x);
  detail::require_positions("scatter_add", "along the axis", index, length);
  shape[at] = length;
  return detail::scatter_at(x, index, at, shape);
}

/// Whole slices: x's positions index [n] of one axis, in that order, repeats allowed. Throws ShapeError if a
/// position is out of range.
template <class T>
Tensor<T> index_select(const Tensor<T>& x, const Tensor<std::int64_t>& index, std::int64_t axis) {
  const std::size_t at = normalize_axis("index_select", axis, x);
  if (index.dim() != 1)
    fail<ShapeError>("index_select", concat("index needs one axis: index ", index.shape()),
                     "gather takes one position per element");
  require_same_device("index_select", x, index);
  detail::require_positions("index_select", "along the axis", index, x.shape()[at]);
  Shape shape = x.shape();
  Strides strides = Dims::filled(shape.size(), 0);
  shape[at] = index.numel();
  strides[at] = index.strides()[0];
  return detail::gather_at(x, Tensor<std::int64_t>(index.storage(), index.offset(), shape, strides), at);
}

/// Rows of a table: table [V, D], index [..]   ->   [.., D]. Throws ShapeError if an index is not in [0, V).
template <class T>
Tensor<T> embedding(const Tensor<T>& table, const Tensor<std::int64_t>& index) {
  require_defined("embedding", table);
  if (table.dim() != 2)
    fail<ShapeError>("embedding", concat("the table needs two axes [V, D]: table ", table.shape()));
  detail::require_positions("embedding", "rows of the table", index, table.size(0));
  Shape shape = index.shape();
  shape.push_back(table.size(1));
  return reshape(index_select(table, reshape(index, {index.numel()}), 0), shape);
}

/// 1 at each label, else 0, a constant: labels [..]   ->   [.., classes]. Throws ShapeError for a label out
/// of range.
template <class T = float>
Tensor<T> one_hot(const Tensor<std::int64_t>& labels, std::int64_t classes) {
  detail::require_positions("one_hot", "classes", labels, classes);
  Shape shape = labels.shape();
  shape.push_back(classes);
  const Tensor<std::int64_t> index = unsqueeze(labels, -1);  // [.., 1]
  return detail::scatter_at(full<T>(index.shape(), 1, labels.device()), index, shape.size() - 1, shape);
}

/// Largest element along an axis; all gradient goes to the first of equals. (`amax` shares it.)
template <class T>
Tensor<T> max(const Tensor<T>& x, std::int64_t axis, bool keep_axis = false) {
  const Tensor<T> y =
      detail::gather_at(x, argmax(x.detach(), axis, true), normalize_axis("max", axis, x));
  return keep_axis ? y : squeeze(y, axis);
}
/// Smallest element along an axis; all gradient goes to the first of equals.
template <class T>
Tensor<T> min(const Tensor<T>& x, std::int64_t axis, bool keep_axis = false) {
  const Tensor<T> y =
      detail::gather_at(x, argmin(x.detach(), axis, true), normalize_axis("min", axis, x));
  return keep_axis ? y : squeeze(y, axis);
}

/// A number that is not whole is no axis: `maximum(x, 0.5)` compares.
template <class T, class F>
  requires std::is_floating_point_v<F>
Tensor<T> max(const Tensor<T>& x, F axis, bool keep_axis = false) = delete;
template <class T, class F>
  requires std::is_floating_point_v<F>
Tensor<T> min(const Tensor<T>& x, F axis, bool keep_axis = false) = delete;

/// Largest and smallest of all elements; ties share the gradient evenly.
template <class T>
Tensor<T> max(const Tensor<T>& x) { return amax(x); }
template <class T>
Tensor<T> min(const Tensor<T>& x) { return amin(x); }

}  // namespace ttt

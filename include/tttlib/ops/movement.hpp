#pragma once
/// Views and copies: changing where elements are found without changing them. Partners stand together, each is the
/// other's rule: broadcast_to / sum_to, slice / unslice, permute / permute, cat / slice.

#include <utility>

#include "tttlib/autograd/accumulate.hpp"

namespace ttt {

// ------------------------------------------------------------------------------------- broadcast and its inverse
template <class T>
Tensor<T> sum_to(const Tensor<T>& x, const Shape& shape);

/// Repeats axes of length 1 (and adds leading ones) without copying: x -> [shape]. −1 keeps an axis as it is.
template <class T>
Tensor<T> broadcast_to(const Tensor<T>& x, Shape shape) {
  require_defined("expand", x);
  if (shape.size() < x.shape().size())
    fail<ShapeError>("expand", concat("fewer axes than the tensor has: x ", x.shape(), ", target ", shape));
  const std::size_t added = shape.size() - x.shape().size();
  Strides strides = Dims::filled(shape.size(), 0);
  for (std::size_t i = 0; i < x.shape().size(); ++i)
    if (shape[added + i] == -1) shape[added + i] = x.shape()[i];
  for (std::int64_t length : shape)
    if (length < 0)
      fail<ShapeError>("expand", concat("negative length: x ", x.shape(), ", target ", shape), "-1 keeps an axis that x has");
  for (std::size_t i = 0; i < x.shape().size(); ++i) {
    const std::int64_t have = x.shape()[i];
    if (have != shape[added + i] && have != 1)
      fail<ShapeError>("expand", concat("shapes do not broadcast: x ", x.shape(), ", target ", shape, "; axis ", added + i, " is ",
                                        have, " and ", shape[added + i]));
    strides[added + i] = have == shape[added + i] ? x.strides()[i] : 0;
  }
  if (shape == x.shape()) return x;
  return record<T>("expand", Tensor<T>(x.storage(), x.offset(), shape, strides), {x},
                   [](const Call<T>& c) { return sum_to(c.g, c.shape(0)); });
}
template <class T>
Tensor<T> expand(const Tensor<T>& x, const Shape& shape) {
  return broadcast_to(x, shape);
}

/// Sums what a broadcast from `shape` would have repeated: x -> [shape].
template <class T>
Tensor<T> sum_to(const Tensor<T>& x, const Shape& shape) {
  require_defined("sum", x);
  if (x.shape() == shape) return x;
  Shape aligned = shape;
  while (aligned.size() < x.shape().size()) aligned.insert(0, 1);
  if (aligned.size() != x.shape().size() || broadcast_shapes("sum_to", x.shape(), aligned) != x.shape())
    fail<ShapeError>("sum_to", concat("not a shape that broadcasts to x: x ", x.shape(), ", target ", shape));
  Tensor<T> y(shape, x.device());
  Tensor<T> with_all_axes(y.storage(), 0, aligned, contiguous_strides(aligned));
  backend::reduce(Reduction::sum, view(x), mutable_view(with_all_axes));
  return record<T>("sum", y, {x}, [](const Call<T>& c) { return broadcast_to(c.g, c.shape(0)); });
}

// -------------------------------------------------------------------------------------------------- layout
/// The same values in row-major order; x itself if it already is.
template <class T>
Tensor<T> contiguous(const Tensor<T>& x) {
  require_defined("contiguous", x);
  if (x.is_contiguous()) return x;
  Tensor<T> y = empty_like(x);
  backend::copy(view(x), mutable_view(y));
  return record<T>("contiguous", y, {x}, [](const Call<T>& c) { return c.g; });
}

/// A copy that shares nothing with x; gradients pass.
template <class T>
Tensor<T> clone(const Tensor<T>& x) {
  require_defined("clone", x);
  Tensor<T> y = empty_like(x);
  backend::copy(view(x), mutable_view(y));
  return record<T>("clone", y, {x}, [](const Call<T>& c) { return c.g; });
}

namespace detail {
/// Strides that view `shape`/`strides` as `target` (same number of elements, none empty); false if no strides can.
/// Both shapes are cut into the shortest runs of axes with equal products; each source run must be one regular step.
inline bool view_strides(const Shape& shape, const Strides& strides, const Shape& target, Strides& result) {
  Shape lengths;
  Strides steps;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    lengths.push_back(shape[i]);
    steps.push_back(strides[i]);
  }
  result = Dims::filled(target.size(), 1);
  std::size_t from = 0, to = 0;
  while (from < lengths.size() && to < target.size()) {
    std::size_t from_end = from + 1, to_end = to + 1;
    for (std::int64_t have = lengths[from], want = target[to]; have != want;) {
      if (have < want) have *= lengths[from_end++];
      else want *= target[to_end++];
    }
    for (std::size_t i = from; i + 1 < from_end; ++i)
      if (steps[i] != steps[i + 1] * lengths[i + 1]) return false;
    result[to_end - 1] = steps[from_end - 1];
    for (std::size_t i = to_end - 1; i > to; --i) result[i - 1] = result[i] * target[i];
    from = from_end;
    to = to_end;
  }
  return true;
}
}  // namespace detail

/// The same elements in row-major order under another shape; one axis may be −1. A view where the layout allows it,
/// a copy otherwise. Throws ShapeError if the number of elements differs.
template <class T>
Tensor<T> reshape(const Tensor<T>& x, Shape shape) {
  require_defined("reshape", x);
  std::int64_t known = 1, unknown = -1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < -1 || (shape[i] == -1 && unknown >= 0))
      fail<ShapeError>("reshape", concat("negative length: x ", x.shape(), ", target ", shape), "one axis may be -1");
    if (shape[i] == -1) unknown = static_cast<std::int64_t>(i);
    else if (__builtin_mul_overflow(known, shape[i], &known))
      fail<ShapeError>("reshape", concat("too many elements: x ", x.shape(), ", target ", shape));
  }
  if (unknown >= 0 && known == 0)
    fail<ShapeError>("reshape", concat("-1 could be any length beside an empty axis: x ", x.shape(), ", target ", shape));
  if (unknown >= 0 && x.numel() % known == 0) shape[static_cast<std::size_t>(unknown)] = x.numel() / known;
  if ((unknown >= 0 && shape[static_cast<std::size_t>(unknown)] < 0) || numel(shape) != x.numel())
    fail<ShapeError>("reshape", concat("number of elements differs: x ", x.shape(), " has ", x.numel(), ", target ", shape));
  if (shape == x.shape()) return x;
  Strides strides;
  Tensor<T> base = x;
  if (x.is_contiguous() || x.numel() == 0) {
    strides = contiguous_strides(shape);
  } else if (!detail::view_strides(x.shape(), x.strides(), shape, strides)) {
    base = contiguous(x);
    strides = contiguous_strides(shape);
  }
  return record<T>("reshape", Tensor<T>(base.storage(), base.offset(), shape, strides), {base},
                   [](const Call<T>& c) { return reshape(c.g, c.shape(0)); });
}
template <class T>
Tensor<T> flatten(const Tensor<T>& x) {
  return reshape(x, {x.numel()});
}

/// Reorders axes: y's axis i is x's axis axes[i].
template <class T>
Tensor<T> permute(const Tensor<T>& x, const Axes& axes) {
  require_defined("permute", x);
  if (axes.size() != x.shape().size())
    fail<ShapeError>("permute", concat("needs one entry per axis: x ", x.shape(), ", axes ", axes));
  Shape shape;
  Strides strides;
  Axes inverse = Dims::filled(axes.size(), -1);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t from = normalize_axis("permute", axes[i], x);
    if (inverse[from] != -1) fail<ShapeError>("permute", concat("an axis appears twice: axes ", axes));
    inverse[from] = static_cast<std::int64_t>(i);
    shape.push_back(x.shape()[from]);
    strides.push_back(x.strides()[from]);
  }
  return record<T>("permute", Tensor<T>(x.storage(), x.offset(), shape, strides), {x},
                   [inverse](const Call<T>& c) { return permute(c.g, inverse); });
}
/// Swaps two axes; by default the last two.
template <class T>
Tensor<T> transpose(const Tensor<T>& x, std::int64_t a = -1, std::int64_t b = -2) {
  Axes axes;
  for (std::int64_t i = 0; i < x.dim(); ++i) axes.push_back(i);
  std::swap(axes[normalize_axis("transpose", a, x)], axes[normalize_axis("transpose", b, x)]);
  return permute(x, axes);
}
/// [B, C, H, W] -> [B, H, W, C], a view.
template <class T>
Tensor<T> from_nchw(const Tensor<T>& x) {
  return permute(x, {0, 2, 3, 1});
}
template <class T>
Tensor<T> unsqueeze(const Tensor<T>& x, std::int64_t axis) {
  require_defined("unsqueeze", x);
  Shape shape = x.shape();
  shape.insert(normalize_axis("unsqueeze", axis, shape.size() + 1), 1);
  return reshape(x, shape);
}
/// Removes an axis of length 1. Throws ShapeError if it is longer.
template <class T>
Tensor<T> squeeze(const Tensor<T>& x, std::int64_t axis) {
  Shape shape = x.shape();
  const std::size_t at = normalize_axis("squeeze", axis, x);
  if (shape[at] != 1) fail<ShapeError>("squeeze", concat("axis ", axis, " is not of length 1: x ", x.shape()));
  shape.erase(at);
  return reshape(x, shape);
}
/// Removes every axis of length 1.
template <class T>
Tensor<T> squeeze(const Tensor<T>& x) {
  Shape shape;
  for (std::int64_t length : x.shape())
    if (length != 1) shape.push_back(length);
  return reshape(x, shape);
}

// -------------------------------------------------------------------------------------------- parts and wholes
namespace detail {
/// Elements start, start + step, … (count of them) of one axis, as a view without a node.
template <class T>
Tensor<T> slice_view(const Tensor<T>& x, std::size_t axis, std::int64_t start, std::int64_t count, std::int64_t step) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  const std::int64_t offset = count > 0 ? x.offset() + start * strides[axis] : x.offset();
  shape[axis] = count;
  strides[axis] *= step;
  return Tensor<T>(x.storage(), offset, shape, strides);
}

template <class T>
Tensor<T> unslice(const Tensor<T>& x, const Shape& shape, std::size_t axis, std::int64_t start, std::int64_t step);

/// Node of `slice`. Outside of recording a slice's cotangent is added straight into the whole's sum, so that splitting
/// a tensor into parts costs one pass over it and not one per part.
template <class T>
struct SliceNode final : Node {
  std::size_t axis;
  std::int64_t start, step;
  SliceNode(std::size_t a, std::int64_t first, std::int64_t s) : Node("slice"), axis(a), start(first), step(s) {}
  void pull(const TensorBase& g, const std::vector<bool>&, std::vector<TensorBase>& out) override {
    out[0] = unslice(Tensor<T>(g), inputs[0].shape, axis, start, step);
  }
  void pull_into(const TensorBase& g, TensorBase& sum) override {
    const Tensor<T> part(g);
    Tensor<T> target = slice_view(Tensor<T>(sum), axis, start, part.shape()[axis], step);
    backend::map(formula::Add{}, View<const T>(mutable_view(target)), view(part), mutable_view(target));
  }
  bool adds_in_place() const override { return true; }
};

template <class T>
Tensor<T> slice_count(const Tensor<T>& x, std::size_t axis, std::int64_t start, std::int64_t count, std::int64_t step) {
  require_defined("slice", x);
  Tensor<T> y = slice_view(x, axis, start, count, step);
  if (!grad_mode() || !x.is_tracked()) return y;
  auto node = std::make_shared<SliceNode<T>>(axis, start, step);
  const Operand input = x;
  connect(*node, y, &input, 1);
  y.set_node(std::move(node));
  return y;
}

/// Zeros of `shape` with x written at start, start + step, … of one axis: the partner of slice.
template <class T>
Tensor<T> unslice(const Tensor<T>& x, const Shape& shape, std::size_t axis, std::int64_t start, std::int64_t step) {
  Tensor<T> y = full<T>(shape, 0, x.device());
  const std::int64_t count = x.shape()[axis];
  Tensor<T> target = slice_view(y, axis, start, count, step);
  backend::copy(view(x), mutable_view(target));
  return record<T>("unslice", y, {x},
                   [=](const Call<T>& c) { return slice_count(c.g, axis, start, count, step); });
}
}  // namespace detail

/// Elements [start, stop) of one axis with a positive step, as a view; negative borders count from the end.
template <class T>
Tensor<T> slice(const Tensor<T>& x, std::int64_t axis, std::int64_t start, std::int64_t stop, std::int64_t step = 1) {
  const std::size_t at = normalize_axis("slice", axis, x);
  const std::int64_t n = x.shape()[at];
  const std::int64_t first = start < 0 ? start + n : start, last = stop < 0 ? stop + n : stop;
  if (first < 0 || first > last || last > n || step < 1)
    fail<ShapeError>("slice", concat("range out of bounds: x ", x.shape(), ", axis ", axis, " of length ", n, ", range [", start,
                                     ", ", stop, ") step ", step));
  return detail::slice_count(x, at, first, last > first ? (last - first - 1) / step + 1 : 0, step);
}
/// One position of an axis, which disappears.
template <class T>
Tensor<T> select(const Tensor<T>& x, std::int64_t axis, std::int64_t index) {
  const std::size_t at = normalize_axis("select", axis, x);
  const std::int64_t n = x.shape()[at], i = index < 0 ? index + n : index;
  if (i < 0 || i >= n) fail<ShapeError>("select", concat("index ", index, " out of range: x ", x.shape(), ", axis ", axis));
  return squeeze(detail::slice_count(x, at, i, 1, 1), static_cast<std::int64_t>(at));
}
/// Consecutive parts of the given lengths. Throws ShapeError unless they add up to the axis.
template <class T>
Tensors<T> split(const Tensor<T>& x, const std::vector<std::int64_t>& lengths, std::int64_t axis = 0) {
  const std::size_t at = normalize_axis("split", axis, x);
  std::int64_t total = 0;
  for (std::int64_t length : lengths) {
    if (length < 0) fail<ShapeError>("split", concat("negative length ", length, ": x ", x.shape(), ", axis ", axis));
    total = add_lengths("split", total, length);
  }
  if (total != x.shape()[at])
    fail<ShapeError>("split", concat("lengths add up to ", total, ", axis ", axis, " of x ", x.shape(), " has ", x.shape()[at]));
  Tensors<T> parts;
  std::int64_t start = 0;
  for (std::int64_t length : lengths) {
    parts.push_back(detail::slice_count(x, at, start, length, 1));
    start += length;
  }
  return parts;
}
/// Consecutive parts of one length; the last may be shorter.
template <class T>
Tensors<T> split(const Tensor<T>& x, std::int64_t length, std::int64_t axis = 0) {
  if (length < 1) fail<ShapeError>("split", concat("parts need a positive length, got ", length));
  const std::int64_t n = x.shape()[normalize_axis("split", axis, x)];
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(n / length), length);
  if (n % length != 0) lengths.push_back(n % length);
  return split(x, lengths, axis);
}
/// At most n parts of equal length; the last may be shorter.
template <class T>
Tensors<T> chunk(const Tensor<T>& x, std::int64_t n, std::int64_t axis = 0) {
  const std::int64_t length = x.shape()[normalize_axis("chunk", axis, x)];
  if (n < 1) fail<ShapeError>("chunk", concat("needs at least one part, got ", n));
  return split(x, length > 0 ? (length - 1) / n + 1 : 1, axis);
}

/// Joins tensors along an axis: all other axes must agree.
template <class T>
Tensor<T> cat(const Tensors<T>& xs, std::int64_t axis = 0) {
  if (xs.empty()) fail<ShapeError>("cat", "needs at least one tensor");
  Shape shape = xs[0].shape();
  const std::size_t at = normalize_axis("cat", axis, xs[0]);
  std::int64_t total = 0;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    require_defined("cat", xs[i]);
    Shape other = xs[i].shape();
    if (other.size() == shape.size()) {
      total = add_lengths("cat", total, other[at]);
      other[at] = shape[at];
    }
    if (other != shape)
      fail<ShapeError>("cat", concat("shapes differ outside of axis ", axis, ": tensor 0 ", xs[0].shape(), ", tensor ", i, " ", xs[i].shape()));
    require_same_device("cat", xs[0], xs[i]);
  }
  shape[at] = total;
  Tensor<T> y(shape, xs[0].device());
  std::vector<std::int64_t> starts;
  std::vector<Operand> inputs;
  std::int64_t start = 0;
  for (const Tensor<T>& x : xs) {
    Tensor<T> target = detail::slice_view(y, at, start, x.shape()[at], 1);
    backend::copy(view(x), mutable_view(target));
    starts.push_back(start);
    inputs.emplace_back(x);
    start += x.shape()[at];
  }
  return record_joint<T>("cat", y, inputs, [at, starts](const Call<T>& c, const std::vector<bool>& needs) {
    Tensors<T> parts(needs.size());
    for (std::size_t i = 0; i < needs.size(); ++i)
      if (needs[i]) parts[i] = detail::slice_count(c.g, at, starts[i], c.shape(i)[at], 1);
    return parts;
  });
}
template <class T>
Tensor<T> cat(std::initializer_list<Tensor<T>> xs, std::int64_t axis = 0) {
  return cat(Tensors<T>(xs), axis);
}
/// Joins tensors of one shape along a new axis.
template <class T>
Tensor<T> stack(const Tensors<T>& xs, std::int64_t axis = 0) {
  Tensors<T> with_axis;
  for (const Tensor<T>& x : xs) {
    require_defined("stack", x);
    if (x.shape() != xs[0].shape())
      fail<ShapeError>("stack", concat("shapes differ: tensor 0 ", xs[0].shape(), ", tensor ", with_axis.size(), " ", x.shape()),
                       "cat joins along an axis that they have");
    with_axis.push_back(unsqueeze(x, axis));
  }
  return cat(with_axis, axis);
}
template <class T>
Tensor<T> stack(std::initializer_list<Tensor<T>> xs, std::int64_t axis = 0) {
  return stack(Tensors<T>(xs), axis);
}
/// Zeros before and after the elements of one axis.
template <class T>
Tensor<T> pad(const Tensor<T>& x, std::int64_t axis, std::int64_t before, std::int64_t after) {
  const std::size_t at = normalize_axis("pad", axis, x);
  if (before < 0 || after < 0) fail<ShapeError>("pad", concat("negative padding: ", before, ", ", after));
  Shape shape = x.shape();
  shape[at] = add_lengths("pad", add_lengths("pad", shape[at], before), after);
  return detail::unslice(x, shape, at, before, 1);
}
/// Zeros around the last axes: {before, after} of each, the last axis last.
template <class T>
Tensor<T> pad(const Tensor<T>& x, const std::vector<std::pair<std::int64_t, std::int64_t>>& around) {
  if (around.size() > x.shape().size())
    fail<ShapeError>("pad", concat("more pairs than axes: ", around.size(), " for x ", x.shape()));
  Tensor<T> y = x;
  for (std::size_t i = 0; i < around.size(); ++i)
    y = pad(y, static_cast<std::int64_t>(i) - static_cast<std::int64_t>(around.size()), around[i].first, around[i].second);
  return y;
}
/// Reverses one axis, as a view.
template <class T>
Tensor<T> flip(const Tensor<T>& x, std::int64_t axis) {
  const std::size_t at = normalize_axis("flip", axis, x);
  Strides strides = x.strides();
  const std::int64_t n = x.shape()[at], offset = n > 0 ? x.offset() + (n - 1) * strides[at] : x.offset();
  strides[at] = -strides[at];
  return record<T>("flip", Tensor<T>(x.storage(), offset, x.shape(), strides), {x},
                   [axis](const Call<T>& c) { return flip(c.g, axis); });
}
/// Reverses several axes.
template <class T>
Tensor<T> flip(const Tensor<T>& x, const Axes& axes) {
  Tensor<T> y = x;
  for (std::int64_t axis : axes) y = flip(y, axis);
  return y;
}

// ------------------------------------------------------------------------------------------ type and device
namespace detail {
/// The one node whose input and output types differ.
template <class From, class To>
struct CastNode;
}  // namespace detail

/// Converts the element type: the one differentiable op whose output type differs from its input's.
template <class To, class From>
Tensor<To> cast(const Tensor<From>& x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else {
    require_defined("cast", x);
    Tensor<To> y(x.shape(), x.device());
    backend::cast(view(x), mutable_view(y));
    if (anomaly_mode()) require_finite("cast", y);
    if constexpr (std::is_same_v<To, std::int64_t> || std::is_same_v<From, std::int64_t>) return y;
    else {
      if (!grad_mode() || !x.is_tracked()) return y;
      auto node = std::make_shared<detail::CastNode<From, To>>();
      const Operand input = x;
      detail::connect(*node, y, &input, 1);
      y.set_node(std::move(node));
      return y;
    }
  }
}

namespace detail {
template <class From, class To>
struct CastNode final : Node {
  CastNode() : Node("cast") {}
  void pull(const TensorBase& g, const std::vector<bool>&, std::vector<TensorBase>& out) override {
    out[0] = cast<From>(Tensor<To>(g));
  }
};
}  // namespace detail

template <class T>
Tensor<T> Tensor<T>::to(Device device) const {
  require_defined("to", *this);
  if (device == this->device()) return *this;
  const Tensor<T> source = contiguous();
  Tensor<T> y(shape_, device);
  if (!device_copy().copy) fail<DeviceError>("to", concat("no backend copies from ", this->device(), " to ", device));
  device_copy().copy(y.data(), device, source.data(), this->device(), static_cast<std::size_t>(numel()) * sizeof(T));
  const Device from = this->device();
  return record<T>("to", y, {source}, [from](const Call<T>& c) { return c.g.to(from); });
}
template <class T>
Tensor<T> Tensor<T>::contiguous() const { return ttt::contiguous(*this); }
template <class T>
Tensor<T> Tensor<T>::reshape(const Shape& shape) const { return ttt::reshape(*this, shape); }
template <class T>
Tensor<T> Tensor<T>::permute(const Axes& axes) const { return ttt::permute(*this, axes); }
template <class T>
Tensor<T> Tensor<T>::transpose(std::int64_t a, std::int64_t b) const { return ttt::transpose(*this, a, b); }

}  // namespace ttt

#include "tttlib/ops/create.hpp"

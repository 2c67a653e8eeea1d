#pragma once
/// Matrix products, of the precision that `matmul_precision()` has at the call; their gradients keep it.

#include "tttlib/backend/precision.hpp"
#include "tttlib/core/cost.hpp"
#include "tttlib/ops/elementwise.hpp"

namespace ttt {

namespace detail {
/// The product of two tensors whose leading axes already agree.
template <class T>
Tensor<T> matmul_same_batch(const Tensor<T>& a, const Tensor<T>& b) {
  Shape shape = a.shape();
  shape[shape.size() - 1] = b.shape().back();
  Tensor<T> c(shape, a.device());
  backend::matmul(view(a), view(b), mutable_view(c));
  count_macs(c.numel() * a.shape().back());
  const auto pull_a = [](const Call<T>& call) { return matmul_same_batch(call.g, transpose(call.in(1))); };  // [.., m, n] x [.., n, k]
  const auto pull_b = [](const Call<T>& call) { return matmul_same_batch(transpose(call.in(0)), call.g); };  // [.., k, m] x [.., m, n]
  return record<T>("matmul", c, {{a, b.is_tracked()}, {b, a.is_tracked()}}, with_this_precision(pull_a), with_this_precision(pull_b));
}
}  // namespace detail

/// Matrix product over the last two axes; leading axes broadcast; a vector acts as a row (left) or column (right).
///   a: [.., m, k]   b: [.., k, n]   ->   [.., m, n]
/// Throws ShapeError if the inner sizes differ.
template <class T>
Tensor<T> matmul(const Tensor<T>& a, const Tensor<T>& b) {
  require_same_device("matmul", a, b);
  if (a.dim() == 0 || b.dim() == 0) fail<ShapeError>("matmul", concat("needs at least one axis: a ", a.shape(), ", b ", b.shape()));
  const std::int64_t inner_b = b.dim() == 1 ? b.size(0) : b.size(-2);
  if (a.size(-1) != inner_b)
    fail<ShapeError>("matmul", concat("inner sizes differ: a ", a.shape(), ", b ", b.shape(), "; a axis -1 is ", a.size(-1),
                                      ", b axis ", b.dim() == 1 ? -1 : -2, " is ", inner_b));
  if (a.dim() == 1) return squeeze(matmul(unsqueeze(a, 0), b), b.dim() == 1 ? 0 : -2);
  if (b.dim() == 1) return squeeze(matmul(a, unsqueeze(b, 1)), -1);
  const std::int64_t k = a.size(-1), n = b.size(-1);
  if (b.dim() == 2 && a.dim() > 2 && a.numel() > 0) {  // one tall product instead of many small ones
    Shape shape = a.shape();
    shape[shape.size() - 1] = n;
    return reshape(detail::matmul_same_batch(reshape(a, {a.numel() / k, k}), b), shape);
  }
  const std::size_t ra = a.shape().size() - 2, rb = b.shape().size() - 2;
  Shape batch = broadcast_shapes("matmul", Shape(a.shape().begin(), a.shape().begin() + ra), Shape(b.shape().begin(), b.shape().begin() + rb));
  Shape shape_a = batch, shape_b = batch;
  shape_a.push_back(a.size(-2));
  shape_a.push_back(k);
  shape_b.push_back(k);
  shape_b.push_back(n);
  return detail::matmul_same_batch(broadcast_to(a, shape_a), broadcast_to(b, shape_b));
}

/// y = x·wᵀ + b:   x [.., in], w [out, in], b [out] or undefined   ->   [.., out].
/// Throws ShapeError if the widths differ.
template <class T>
Tensor<T> linear(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& b = {}) {
  require_same_device("linear", x, w);
  if (b.defined()) require_same_device("linear", x, b);
  if (x.dim() < 1 || w.dim() != 2 || x.size(-1) != w.size(1))
    fail<ShapeError>("linear", concat("input width differs from the weight's: x ", x.shape(), ", weight ", w.shape(), "; weight is [out, in]"));
  if (b.defined() && b.shape() != Shape{w.size(0)})
    fail<ShapeError>("linear", concat("bias does not fit: bias ", b.shape(), ", weight ", w.shape()));
  const std::int64_t in = w.size(1), out = w.size(0);
  const Tensor<T> rows = reshape(x, {numel(Shape(x.shape().begin(), x.shape().end() - 1)), in});  // [rows, in]
  Tensor<T> y(Shape{rows.size(0), out}, x.device());                      // [rows, out]
  const Tensor<T> bias = b.defined() ? b.contiguous() : b;
  count_macs(y.numel() * in);
  backend::linear(view(rows), view(w), bias.data(), mutable_view(y));
  const auto pull_x = with_this_precision([](const Call<T>& c) { return matmul(c.g, c.in(1)); });             // [rows, out] x [out, in]
  const auto pull_w = with_this_precision([](const Call<T>& c) { return matmul(transpose(c.g), c.in(0)); });  // [out, rows] x [rows, in]
  const Operand keep_x{rows, w.is_tracked()}, keep_w{w, x.is_tracked()};
  if (b.defined())
    y = record<T>("linear", y, {keep_x, keep_w, bias}, pull_x, pull_w,
                  [](const Call<T>& c) { return sum_to(c.g, c.shape(2)); });
  else y = record<T>("linear", y, {keep_x, keep_w}, pull_x, pull_w);
  Shape shape = x.shape();
  shape[shape.size() - 1] = out;
  return reshape(y, shape);
}

}  // namespace ttt

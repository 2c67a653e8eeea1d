#pragma once
/// The verbs matmul and linear as products that a BLAS takes: which operands it reads as they are, which are copied first,
/// and which leading axes become one call. Head splits, transposes and broadcast operands cost nothing; a copy is made
/// only where neither the rows nor the columns of an operand are contiguous. Operations: 2·m·n·k per product.
/// In bf16 the BLAS reads the floats and rounds them on their way into tensor cores: copies in bf16 would move 4 + 2 bytes per
/// number to save 2 in the product.

#include <algorithm>

#include "tttlib/backend/cuda/elementwise.hpp"
#include "tttlib/backend/precision.hpp"

namespace ttt::cuda_backend {

/// `batch` products C = op(A)·op(B) + beta·C in BLAS's terms: column-major, C [m, n] with columns ldc numbers apart. A bias [m] is
/// added to every column; then beta is 0 and batch 1.
template <class T>
struct Gemm {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  std::int64_t lda = 1, stride_a = 0;
  const T* b = nullptr;
  std::int64_t ldb = 1, stride_b = 0;
  T beta = T(0);
  T* c = nullptr;
  std::int64_t ldc = 1, stride_c = 0;
  std::int64_t batch = 1;
  const T* bias = nullptr;
  bool bf16 = false;  // A and B, of float, are rounded to bf16; sums are floats
};

/// Whether products of T are to round their operands to bf16.
template <class T>
bool rounds_to_bf16() {
  return std::is_same_v<T, float> && matmul_precision() == MatmulPrecision::bfloat16;
}

/// How a BLAS reads a matrix [rows, columns] by its strides: with neighbouring columns side by side, as its transpose
/// in BLAS's column-major terms, or with neighbouring rows side by side (`turned`); or not at all.
struct BlasLayout {
  bool possible, turned;
  std::int64_t leading;

  BlasLayout(std::int64_t rows, std::int64_t columns, std::int64_t row_step, std::int64_t column_step) {
    const std::int64_t wide = std::max<std::int64_t>(columns, 1), tall = std::max<std::int64_t>(rows, 1);
    const bool straight = (column_step == 1 || columns <= 1) && (row_step >= wide || rows <= 1);
    turned = !straight && (row_step == 1 || rows <= 1) && (column_step >= tall || columns <= 1);
    possible = straight || turned;
    leading = straight ? (rows <= 1 ? wide : row_step) : (columns <= 1 ? tall : column_step);
  }
  template <class V>
  static BlasLayout of(const V& v) {
    const std::size_t r = v.shape.size();
    return {v.shape[r - 2], v.shape[r - 1], v.strides[r - 2], v.strides[r - 1]};
  }
};

/// An operand [.., rows, columns] that a BLAS can read: itself, or a copy without its repeated leading axes.
template <class L, class T>
class BlasOperand {
 public:
  BlasOperand(const L& run, const View<const T>& v)
      : copied_(!BlasLayout::of(v).possible), scratch_(run, copied_ ? distinct(v).numel() : 0), view_(v) {
    if (!copied_) return;
    View<const T> from = distinct(v);
    view_.data = scratch_.data();
    view_.strides = contiguous_strides(from.shape);
    copy<L, T>(from, View<T>{scratch_.data(), from.shape, view_.strides, v.device});
    for (std::size_t axis = 0; axis + 2 < v.shape.size(); ++axis)
      if (from.shape[axis] != v.shape[axis]) view_.strides[axis] = 0;
  }
  const View<const T>& view() const { return view_; }

 private:
  /// The view with leading axes of stride 0 cut to length 1.
  static View<const T> distinct(View<const T> v) {
    for (std::size_t axis = 0; axis + 2 < v.shape.size(); ++axis)
      if (v.strides[axis] == 0) v.shape[axis] = std::min<std::int64_t>(v.shape[axis], 1);
    return v;
  }
  bool copied_;
  Scratch<L, T> scratch_;
  View<const T> view_;
};

/// c = a·b + bias (null: none; else c has two axes) for operands that a BLAS can read, c with neighbouring columns side by side.
template <class L, class T>
void multiply(const L& run, const View<const T>& a, const View<const T>& b, const T* bias, const View<T>& c) {
  const std::size_t leading = c.shape.size() - 2;
  const auto batch_of = [leading](const Dims& dims) { return Dims(dims.begin(), dims.begin() + leading); };
  Shape batch;
  Strides steps[3];
  backend::merge_axes(batch_of(c.shape), {batch_of(c.strides), batch_of(a.strides), batch_of(b.strides)}, batch, steps);
  // A row-major product is the column-major product of the transposes: Cᵀ = Bᵀ·Aᵀ.
  const BlasLayout of_a = BlasLayout::of(a), of_b = BlasLayout::of(b), of_c = BlasLayout::of(c);
  std::size_t longest = 0;  // the axis that one call works on; others are walked here
  for (std::size_t axis = 0; axis < batch.size(); ++axis)
    if (batch[axis] > batch[longest]) longest = axis;
  Gemm<T> product;
  product.transpose_a = of_b.turned, product.transpose_b = of_a.turned;
  product.m = c.shape[leading + 1], product.n = c.shape[leading], product.k = a.shape[leading + 1];
  product.lda = of_b.leading, product.ldb = of_a.leading, product.ldc = of_c.leading;
  product.batch = batch[longest];
  product.stride_c = steps[0][longest], product.stride_b = steps[1][longest], product.stride_a = steps[2][longest];
  product.bf16 = rounds_to_bf16<T>();
  batch[longest] = 1;
  const Walk<3> calls(batch, steps);
  for (std::int64_t call = 0; call < calls.count; ++call) {
    const Offsets<3> at = calls(call);
    product.c = c.data + at[0], product.b = a.data + at[1], product.a = b.data + at[2];
    product.bias = bias;
    if (run.gemm(product)) continue;
    // No kernel adds a bias to such a product: the bias is where the product is added to.
    copy<L, T>(View<const T>{bias, c.shape, {0, 1}, c.device}, c);
    product.bias = nullptr, product.beta = T(1);
    run.gemm(product);
  }
}

template <class L, class T>
void multiply_any(const L& run, const View<const T>& a, const View<const T>& b, const T* bias, const View<T>& c) {
  if (c.numel() == 0) return;
  if (a.shape.back() == 0) return bias ? copy<L, T>(View<const T>{bias, c.shape, {0, 1}, c.device}, c) : fill<L, T>(c, T(0));
  const BlasOperand<L, T> left(run, a), right(run, b);
  const BlasLayout of_c = BlasLayout::of(c);
  if (of_c.possible && !of_c.turned) return multiply(run, left.view(), right.view(), bias, c);
  const Scratch<L, T> result(run, c.numel());
  const View<T> plain{result.data(), c.shape, contiguous_strides(c.shape), c.device};
  multiply(run, left.view(), right.view(), bias, plain);
  copy<L, T>(plain, c);
}

template <class L, class T>
void matmul(View<const T> a, View<const T> b, View<T> c) {
  multiply_any<L, T>(L("matmul", c.device), a, b, nullptr, c);
}
template <class L, class T>
void linear(View<const T> x, View<const T> w, const T* bias, View<T> y) {
  const View<const T> turned{w.data, {w.shape[1], w.shape[0]}, {w.strides[1], w.strides[0]}, w.device};  // [in, out]
  multiply_any(L("linear", y.device), x, turned, bias, y);
}

template <class L, class T>
void add_products(Verbs<T>& verbs) {
  verbs.matmul = matmul<L, T>;
  verbs.linear = linear<L, T>;
}

}  // namespace ttt::cuda_backend

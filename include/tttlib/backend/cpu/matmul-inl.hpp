#pragma once
/// The verbs matmul and linear: which matrices to multiply, and on how many threads. A head split, a transpose or a
/// broadcast operand costs nothing: products take any strides.

#include "tttlib/backend/cpu/elementwise-inl.hpp"
#include "tttlib/backend/cpu/gemm-inl.hpp"
#include "tttlib/backend/cpu/gemm_bf16-inl.hpp"
#if defined(TTTLIB_MATMUL_EIGEN) || defined(TTTLIB_MATMUL_BLAS)
#include "tttlib/backend/cpu/gemm_library-inl.hpp"
#endif

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// c = start + a·b by what the build chose: our kernels, Eigen or a BLAS; `start` as in gemm_kernel.
template <class T>
void multiply(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const T* start, std::int64_t start_row,
              const MatrixRef<T>& c) {
#if defined(TTTLIB_MATMUL_EIGEN) || defined(TTTLIB_MATMUL_BLAS)
  library_gemm(a, b, start, start_row, c);
#else
  gemm(a, b, start, start_row, c);
#endif
}

/// The same with operands of that precision; double is always itself.
template <class T>
void multiply(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const T* start, std::int64_t start_row,
              const MatrixRef<T>& c, MatmulPrecision precision) {
  if constexpr (std::is_same_v<T, float>)
    if (precision == MatmulPrecision::bfloat16) {
      if (has_bf16_products()) return gemm_bf16(a, b, start, start_row, c);
      return multiply<T>(rounded_to_bf16<Packing::rounded_a>(a), rounded_to_bf16<Packing::rounded_b>(b), start, start_row, c);
    }
  multiply<T>(a, b, start, start_row, c);
}

template <class V>
auto matrix_at(const V& v, std::int64_t offset) {
  const std::size_t r = v.shape.size();
  return MatrixRef<std::remove_pointer_t<decltype(v.data)>>{v.data + offset, v.shape[r - 2], v.shape[r - 1],
                                                            v.strides[r - 2], v.strides[r - 1]};
}

template <class T>
void matmul(View<const T> a, View<const T> b, View<T> c) {
  const std::size_t batch_rank = c.shape.size() - 2;
  const Shape batch(c.shape.begin(), c.shape.begin() + batch_rank);
  const Walk<3> walk(batch, {Strides(c.strides.begin(), c.strides.begin() + batch_rank),
                             Strides(a.strides.begin(), a.strides.begin() + batch_rank),
                             Strides(b.strides.begin(), b.strides.begin() + batch_rank)});
  const std::int64_t count = numel(batch), inner = walk.inner();
  const MatmulPrecision precision = matmul_precision();  // of this thread, for all that help it
  const std::int64_t operations = 2 * c.shape[batch_rank] * c.shape[batch_rank + 1] * a.shape[batch_rank + 1];
  auto products = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      walk.rows(i / inner, i / inner + 1, [&](const std::int64_t* at) {
        const std::int64_t j = i % inner;
        multiply<T>(matrix_at(a, at[1] + j * walk.inner_stride(1)), matrix_at(b, at[2] + j * walk.inner_stride(2)), nullptr, 0,
                    matrix_at(c, at[0] + j * walk.inner_stride(0)), precision);
      });
    }
  };
  if (count < 4) products(0, count);  // few products: each is cut into tiles
  else parallel_for(count, 1'000'000 / (operations + 1) + 1, products);
}

template <class T>
void linear(View<const T> x, View<const T> w, const T* bias, View<T> y) {
  multiply<T>(matrix_at(x, 0), matrix_at(w, 0).transposed(), bias, 0, matrix_at(y, 0), matmul_precision());  // [rows, in] x [in, out]
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

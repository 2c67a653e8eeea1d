#pragma once
/// Products by Eigen or a BLAS instead of our own kernels, for those who choose so (CMake: TTTLIB_MATMUL=eigen or blas).
/// Their layouts need one unit stride; a matrix with none is copied first. Threads are ours: the library runs
/// single-threaded on tiles whose borders depend on the shape only (for OpenBLAS set OPENBLAS_NUM_THREADS=1).

#include <algorithm>

#include "tttlib/backend/cpu/gemm-inl.hpp"
#if defined(TTTLIB_MATMUL_EIGEN)
#include "tttlib/backend/cpu/eigen.hpp"
#elif defined(TTTLIB_MATMUL_BLAS)
#include <cblas.h>
#endif

#if defined(TTTLIB_MATMUL_EIGEN) || defined(TTTLIB_MATMUL_BLAS)
namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

template <class T>
bool is_row_major(const MatrixRef<T>& m) { return m.column_stride == 1 || m.columns == 1; }
/// Distance between neighbouring rows (columns), at least their length: a single one's stride is never used.
template <class T>
std::int64_t leading_stride(const MatrixRef<T>& m) {
  const std::int64_t stride = is_row_major(m) ? m.row_stride : m.column_stride;
  const std::int64_t least = is_row_major(m) ? m.columns : m.rows;
  return stride < least ? least : stride;
}

#if defined(TTTLIB_MATMUL_EIGEN)
template <int Order, class T>
auto eigen_map(const MatrixRef<T>& m) {
  using Matrix = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Order>;
  using Maybe = std::conditional_t<std::is_const_v<T>, const Matrix, Matrix>;
  return Eigen::Map<Maybe, Eigen::Unaligned, Eigen::OuterStride<>>(m.data, m.rows, m.columns,
                                                                   Eigen::OuterStride<>(leading_stride(m)));
}

/// c += a · b on one tile; c is row-major.
template <class T>
void multiply_tile(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const MatrixRef<T>& c) {
  auto out = eigen_map<Eigen::RowMajor>(c);
  const auto with_left = [&](const auto& left) {
    if (is_row_major(b)) out.noalias() += left * eigen_map<Eigen::RowMajor>(b);
    else out.noalias() += left * eigen_map<Eigen::ColMajor>(b);
  };
  if (is_row_major(a)) with_left(eigen_map<Eigen::RowMajor>(a));
  else with_left(eigen_map<Eigen::ColMajor>(a));
}
#else
template <class T>
void multiply_tile(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const MatrixRef<T>& c) {
  const auto order = [](const auto& m) { return is_row_major(m) ? CblasNoTrans : CblasTrans; };
  const auto as_int = [](std::int64_t n) { return static_cast<int>(n); };
  const int m = as_int(c.rows), n = as_int(c.columns), k = as_int(a.columns), lda = as_int(leading_stride(a)),
            ldb = as_int(leading_stride(b)), ldc = as_int(leading_stride(c));
  if constexpr (sizeof(T) == sizeof(float))
    cblas_sgemm(CblasRowMajor, order(a), order(b), m, n, k, 1, a.data, lda, b.data, ldb, 1, c.data, ldc);
  else cblas_dgemm(CblasRowMajor, order(a), order(b), m, n, k, 1, a.data, lda, b.data, ldb, 1, c.data, ldc);
}
#endif

/// Gives a matrix a unit stride, copying it into `buffer` if it has none or repeats elements.
template <class T>
MatrixRef<const T> with_unit_stride(const MatrixRef<const T>& m, std::vector<T>& buffer) {
  const bool rows_apart = m.rows == 1 || m.row_stride >= m.columns, columns_apart = m.columns == 1 || m.column_stride >= m.rows;
  if ((m.column_stride == 1 && rows_apart) || (m.row_stride == 1 && columns_apart)) return m;
  buffer.resize(static_cast<std::size_t>(m.rows * m.columns));
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.columns; ++j)
      buffer[static_cast<std::size_t>(i * m.columns + j)] = m.data[i * m.row_stride + j * m.column_stride];
  return {buffer.data(), m.rows, m.columns, m.columns, 1};
}

/// Lines per tile: about 16 million operations, never fewer than 96, because a tile repacks what it shares.
inline std::int64_t tile_size(std::int64_t length, std::int64_t operations_per_line) {
  const std::int64_t lines = std::max<std::int64_t>(96, 16'000'000 / (operations_per_line + 1));
  const std::int64_t tiles = (length + lines - 1) / lines;
  return (length + tiles - 1) / tiles;
}

/// c = start + a·b, as `gemm`.
template <class T>
void library_gemm(const MatrixRef<const T>& a_in, const MatrixRef<const T>& b_in, const T* start, std::int64_t start_row,
                  const MatrixRef<T>& c) {
  if (c.rows == 0 || c.columns == 0) return;
  std::vector<T> buffer_a, buffer_b;
  const MatrixRef<const T> a = with_unit_stride(a_in, buffer_a), b = with_unit_stride(b_in, buffer_b);
  const bool by_rows = c.rows >= c.columns;
  const std::int64_t length = by_rows ? c.rows : c.columns, across = by_rows ? c.columns : c.rows;
  parallel_for(length, tile_size(length, 2 * across * a.columns), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t row = by_rows ? begin : 0, rows = by_rows ? end - begin : c.rows;
    const std::int64_t column = by_rows ? 0 : begin, columns = by_rows ? c.columns : end - begin;
    const MatrixRef<T> tile = c.block(row, rows, column, columns);
    if (start != c.data)
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
          tile.data[i * tile.row_stride + j] = start ? start[(row + i) * start_row + column + j] : T(0);
    if (a.columns > 0) multiply_tile(a.block(row, rows, 0, a.columns), b.block(0, a.columns, column, columns), tile);
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
#endif

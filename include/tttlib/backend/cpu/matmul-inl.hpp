#pragma once
/// Matrix products: Eigen's single-threaded kernels on tiles whose borders depend on the shape only.
/// Operations: 2·m·n·k per product. Layouts are passed to Eigen as they are (row- or column-major with any outer
/// stride), so a head split or a transpose costs nothing; only a matrix with no unit stride is copied first.

#include <vector>

#include "tttlib/backend/cpu/eigen.hpp"
#include "tttlib/backend/cpu/elementwise-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// One matrix: rows × columns with a stride for each.
template <class T>
struct MatrixRef {
  T* data;
  std::int64_t rows, columns, row_stride, column_stride;

  bool row_major() const { return column_stride == 1 || columns == 1; }
  bool column_major() const { return row_stride == 1 || rows == 1; }
  MatrixRef row_block(std::int64_t first, std::int64_t count) const {
    return {data + first * row_stride, count, columns, row_stride, column_stride};
  }
  MatrixRef column_block(std::int64_t first, std::int64_t count) const {
    return {data + first * column_stride, rows, count, row_stride, column_stride};
  }
};

template <class T, int Order>
using EigenMatrix = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Order>;
template <class T, int Order>
using EigenMap = Eigen::Map<std::conditional_t<std::is_const_v<T>, const EigenMatrix<T, Order>, EigenMatrix<T, Order>>,
                            Eigen::Unaligned, Eigen::OuterStride<>>;

template <int Order, class T>
EigenMap<T, Order> eigen_map(const MatrixRef<T>& m) {
  std::int64_t outer = Order == Eigen::RowMajor ? m.row_stride : m.column_stride;
  const std::int64_t least = Order == Eigen::RowMajor ? m.columns : m.rows;
  if (outer < least) outer = least;  // a single row (column): its stride is never used
  return {m.data, m.rows, m.columns, Eigen::OuterStride<>(outer)};
}

/// c (+)= a · b on one tile; c is row-major.
template <class T>
void multiply_tile(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const MatrixRef<T>& c, bool add) {
  auto out = eigen_map<Eigen::RowMajor>(c);
  auto run = [&](const auto& left, const auto& right) {
    if (add) out.noalias() += left * right;
    else out.noalias() = left * right;
  };
  if (a.row_major()) {
    const auto left = eigen_map<Eigen::RowMajor>(a);
    if (b.row_major()) run(left, eigen_map<Eigen::RowMajor>(b));
    else run(left, eigen_map<Eigen::ColMajor>(b));
  } else {
    const auto left = eigen_map<Eigen::ColMajor>(a);
    if (b.row_major()) run(left, eigen_map<Eigen::RowMajor>(b));
    else run(left, eigen_map<Eigen::ColMajor>(b));
  }
}

/// Gives a matrix a unit stride, copying it into `buffer` if it has none (or repeats elements by stride 0).
template <class T>
MatrixRef<const T> with_unit_stride(const MatrixRef<const T>& m, std::vector<T>& buffer) {
  const bool repeats = (m.rows > 1 && m.row_stride == 0) || (m.columns > 1 && m.column_stride == 0);
  if (!repeats && ((m.row_major() && (m.rows == 1 || m.row_stride >= m.columns)) ||
                   (m.column_major() && (m.columns == 1 || m.column_stride >= m.rows))))
    return m;
  buffer.resize(static_cast<std::size_t>(m.rows * m.columns));
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.columns; ++j)
      buffer[static_cast<std::size_t>(i * m.columns + j)] = m.data[i * m.row_stride + j * m.column_stride];
  return {buffer.data(), m.rows, m.columns, m.columns, 1};
}

/// Rows (or columns) per tile: tiles of about 16 million operations, never thinner than 96, because every tile repacks
/// the whole operand that it shares with its neighbours.
inline std::int64_t tile_size(std::int64_t length, std::int64_t operations_per_line) {
  std::int64_t lines = 16'000'000 / (operations_per_line + 1);
  if (lines < 96) lines = 96;
  const std::int64_t tiles = (length + lines - 1) / lines;
  const std::int64_t even = (length + tiles - 1) / tiles;
  return (even + 7) / 8 * 8;
}

/// c (+)= a · b, on several threads. Each tile repacks the operand it shares with its neighbours, so the longer
/// side of c is cut.
template <class T>
void multiply(MatrixRef<const T> a, MatrixRef<const T> b, const MatrixRef<T>& c, bool add) {
  if (c.rows == 0 || c.columns == 0) return;
  if (a.columns == 0) {
    if (!add)
      for (std::int64_t i = 0; i < c.rows; ++i)
        for (std::int64_t j = 0; j < c.columns; ++j) c.data[i * c.row_stride + j] = T(0);
    return;
  }
  std::vector<T> buffer_a, buffer_b;
  a = with_unit_stride(a, buffer_a);
  b = with_unit_stride(b, buffer_b);
  if (c.rows >= c.columns) {
    parallel_for(c.rows, tile_size(c.rows, 2 * c.columns * a.columns), [&](std::int64_t first, std::int64_t last) {
      multiply_tile(a.row_block(first, last - first), b, c.row_block(first, last - first), add);
    });
  } else {
    parallel_for(c.columns, tile_size(c.columns, 2 * c.rows * a.columns), [&](std::int64_t first, std::int64_t last) {
      multiply_tile(a, b.column_block(first, last - first), c.column_block(first, last - first), add);
    });
  }
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
  const std::int64_t operations = 2 * c.shape[batch_rank] * c.shape[batch_rank + 1] * a.shape[batch_rank + 1];
  auto products = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      walk.rows(i / inner, i / inner + 1, [&](const std::int64_t* at) {
        const std::int64_t j = i % inner;
        multiply<T>(matrix_at(a, at[1] + j * walk.inner_stride(1)), matrix_at(b, at[2] + j * walk.inner_stride(2)),
                    matrix_at(c, at[0] + j * walk.inner_stride(0)), false);
      });
    }
  };
  if (count < 4) products(0, count);  // few products: each is cut into tiles
  else parallel_for(count, 1'000'000 / (operations + 1) + 1, products);
}

template <class T>
void linear(View<const T> x, View<const T> w, const T* bias, View<T> y) {
  const auto left = matrix_at(x, 0);                                                                    // [rows, in]
  const MatrixRef<const T> right{w.data, w.shape[1], w.shape[0], w.strides[1], w.strides[0]};           // [in, out]
  const auto out = matrix_at(y, 0);                                                                     // [rows, out]
  if (!bias) return multiply<T>(left, right, out, false);
  const std::int64_t columns = out.columns;
  parallel_for(out.rows, tile_size(out.rows, 2 * columns * left.columns), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
      std::memcpy(static_cast<void*>(out.data + i * out.row_stride), bias, static_cast<std::size_t>(columns) * sizeof(T));
    multiply<T>(left.row_block(first, last - first), right, out.row_block(first, last - first), true);
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

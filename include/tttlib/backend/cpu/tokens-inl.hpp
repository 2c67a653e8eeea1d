#pragma once
/// What kernels that keep one head of one image in cache are made of: tokens as rows of whole registers, and products of
/// such rows.

#include <algorithm>

#include "tttlib/backend/cpu/gemm-inl.hpp"
#include "tttlib/backend/view.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

inline constexpr std::int64_t token_block = 128;  // tokens at a time, so that all of a head's numbers stay in L2

/// n rounded up to whole registers.
template <class T>
constexpr std::int64_t whole_lanes(std::int64_t n) {
  return (n + lanes<T> - 1) / lanes<T> * lanes<T>;
}

/// Rows of numbers, `row` apart.
template <class T>
struct Rows {
  T* data;
  std::int64_t row;
};

/// c = a·b, or with `add` c += a·b, for operands in cache: b [depth, columns] with rows of b_row numbers, columns whole registers. Meanwhile
/// asks for what lies ahead.
template <bool add, class T>
void product_in_cache(const MatrixRef<const T>& a, const T* b, std::int64_t b_row, const Rows<T>& c, std::int64_t columns, Ahead<T> ahead = {}) {
  ahead.spread((a.rows + kernel_rows - 1) / kernel_rows * (columns / (2 * lanes<T>) + 1));
  for (std::int64_t j = 0; j < columns;) {
    const bool two = columns - j >= 2 * lanes<T>;
    const std::int64_t step = two ? 2 * lanes<T> : lanes<T>;
    const MatrixRef<T> out{c.data + j, a.rows, step, c.row, 1};
    const T* start = add ? out.data : nullptr;
    if (two) gemm_panel<2>(a, b + j, b_row, start, c.row, out, ahead);
    else gemm_panel<1>(a, b + j, b_row, start, c.row, out, ahead);
    j += step;
  }
}
/// The same with contiguous rows of c.
template <bool add, class T>
void product_in_cache(const MatrixRef<const T>& a, const T* b, std::int64_t b_row, T* c, std::int64_t columns, const Ahead<T>& ahead = {}) {
  product_in_cache<add, T>(a, b, b_row, Rows<T>{c, columns}, columns, ahead);
}
/// Rows of `width` numbers, `stride` apart, transposed.
template <class T>
MatrixRef<const T> columns_of(const T* x, std::int64_t rows, std::int64_t width, std::int64_t stride) {
  return {x, width, rows, 1, stride};
}

/// Tokens [first, first + n) of image b and head h of x [B, H, N, d] as rows of `width` numbers.
template <class T>
void load_tokens(const View<const T>& x, std::int64_t b, std::int64_t h, std::int64_t first, std::int64_t n, std::int64_t width, T* __restrict to) {
  const std::int64_t d = x.shape[3], step = x.strides[3];
  const T* from = x.data + b * x.strides[0] + h * x.strides[1] + first * x.strides[2];
  for (std::int64_t i = 0; i < n; ++i, from += x.strides[2], to += width) {
    if (step == 1)
      for (std::int64_t c = 0; c < d; ++c) to[c] = from[c];
    else
      for (std::int64_t c = 0; c < d; ++c) to[c] = from[c * step];
    for (std::int64_t c = d; c < width; ++c) to[c] = T(0);
  }
}
template <class T>
void store_tokens(const T* __restrict from, std::int64_t width, std::int64_t b, std::int64_t h, std::int64_t first, std::int64_t n, const View<T>& x) {
  T* to = x.data + b * x.strides[0] + h * x.strides[1] + first * x.strides[2];
  for (std::int64_t i = 0; i < n; ++i, to += x.strides[2], from += width)
    for (std::int64_t c = 0; c < x.shape[3]; ++c) to[c * x.strides[3]] = from[c];
}

/// Where kernels can work on the tokens of x [B, H, N, d] from `first` on without a copy: null unless their numbers are
/// neighbours and fill whole registers.
template <class T>
T* tokens_in_place(const View<T>& x, std::int64_t b, std::int64_t h, std::int64_t first) {
  if (x.strides[3] != 1 || x.shape[3] % lanes<std::remove_const_t<T>> != 0) return nullptr;
  return x.data + b * x.strides[0] + h * x.strides[1] + first * x.strides[2];
}
/// Those n tokens to read: in place, or copied to `buffer` as rows of `width` numbers.
template <class T>
Rows<const T> read_tokens(const View<const T>& x, std::int64_t b, std::int64_t h, std::int64_t first, std::int64_t n, std::int64_t width, T* buffer) {
  if (const T* at = tokens_in_place(x, b, h, first)) return {at, x.strides[2]};
  load_tokens(x, b, h, first, n, width, buffer);
  return {buffer, width};
}
/// The tokens from `first` on, as many as one block has, to be asked for; nothing if there are none or they will be copied.
template <class T>
Ahead<T> tokens_ahead(const View<const T>& x, std::int64_t b, std::int64_t h, std::int64_t first) {
  const T* at = tokens_in_place(x, b, h, first);
  if (!at || first >= x.shape[2]) return {};
  return Ahead<T>({at, std::min(token_block, x.shape[2] - first), x.shape[3], x.strides[2], 1});
}
/// n rows of d numbers as an operand of a product.
template <class T>
MatrixRef<const T> token_matrix(const Rows<const T>& tokens, std::int64_t n, std::int64_t d) {
  return {tokens.data, n, d, tokens.row, 1};
}
/// Calls compute(rows) with where those n tokens are to be written: in place, or `buffer`, copied to x afterwards.
template <class T, class Compute>
void write_tokens(const View<T>& x, std::int64_t b, std::int64_t h, std::int64_t first, std::int64_t n, std::int64_t width, T* buffer,
                  const Compute& compute) {
  if (T* at = tokens_in_place(x, b, h, first)) return compute(Rows<T>{at, x.strides[2]});
  compute(Rows<T>{buffer, width});
  store_tokens(buffer, width, b, h, first, n, x);
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

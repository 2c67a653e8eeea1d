#pragma once
/// What kernels that keep one head of one image on chip are made of: tiles of tokens in shared memory and products of
/// them. Rows of tiles are an odd number of elements apart, so that threads reading down a column meet different banks.

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/view.hpp"

namespace ttt::cuda_backend {

/// Distance of rows of `width` numbers.
TTT_HD int tile_row(int width) { return width | 1; }

/// A matrix by its strides, in shared or global memory.
template <class T>
struct Tile {
  T* data;
  int row, column;
  TTT_DEVICE T& operator()(int i, int j) const { return data[i * row + j * column]; }
  TTT_DEVICE Tile turned() const { return {data, column, row}; }
};

/// c [rows, columns] = a [rows, depth] · b [depth, columns], or added to c. A thread has four rows by four columns of c,
/// so that it multiplies twice for every number it reads.
template <bool add, class T>
TTT_DEVICE void product(Block& block, const Tile<T>& a, const Tile<T>& b, const Tile<T>& c, int rows, int depth, int columns) {
  const int down = (rows + 3) / 4, across = (columns + 3) / 4;
  block.each_of(down * across, [&](int item) {
    const int first_row = item / across * 4, first_column = item % across;  // neighbouring threads on neighbouring columns
    T sum[4][4] = {};
    for (int k = 0; k < depth; ++k) {
      T left[4], right[4];
      for (int r = 0; r < 4; ++r) left[r] = a(first_row + r < rows ? first_row + r : rows - 1, k);
      for (int s = 0; s < 4; ++s) right[s] = b(k, first_column + s * across < columns ? first_column + s * across : columns - 1);
      for (int r = 0; r < 4; ++r)
        for (int s = 0; s < 4; ++s) sum[r][s] += left[r] * right[s];
    }
    for (int r = 0; r < 4 && first_row + r < rows; ++r)
      for (int s = 0; s < 4 && first_column + s * across < columns; ++s) {
        T& to = c(first_row + r, first_column + s * across);
        to = add ? to + sum[r][s] : sum[r][s];
      }
  });
}

/// Tokens x [B, H, N, d] of heads, by their strides.
template <class T>
struct Tokens {
  T* data;
  std::int64_t step_image, step_head, step_token, step_channel;
  Tokens(const View<T>& v)  // NOLINT: implicit on purpose
      : data(v.data), step_image(v.strides[0]), step_head(v.strides[1]), step_token(v.strides[2]), step_channel(v.strides[3]) {}
  TTT_DEVICE T& at(std::int64_t b, std::int64_t h, std::int64_t token, std::int64_t channel) const {
    return data[b * step_image + h * step_head + token * step_token + channel * step_channel];
  }
};
/// Tokens [first, first + n) of one head -> to [n, d], times `scale`.
template <class T>
TTT_DEVICE void load_tokens(Block& block, const Tokens<const T>& x, std::int64_t b, std::int64_t h, std::int64_t first, int n, int d,
                            const Tile<T>& to, T scale = T(1)) {
  block.each_of(n * d, [&](int i) { to(i / d, i % d) = x.at(b, h, first + i / d, i % d) * scale; });
}
template <class T>
TTT_DEVICE void store_tokens(Block& block, const Tile<T>& from, std::int64_t b, std::int64_t h, std::int64_t first, int n, int d,
                             const Tokens<T>& x, T scale = T(1)) {
  block.each_of(n * d, [&](int i) { x.at(b, h, first + i / d, i % d) = from(i / d, i % d) * scale; });
}
template <class T>
TTT_DEVICE void clear(Block& block, T* tile, int n) {
  block.each_of(n, [&](int i) { tile[i] = T(0); });
}

}  // namespace ttt::cuda_backend

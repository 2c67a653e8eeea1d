#pragma once
/// The two layers of an MLP: two products that add their bias, and GELU in a pass of its own between them. The GELU that cuBLASLt
/// has as an epilogue is not documented to be the exact one, xΦ(x), that ours is, and fusing libraries match its tanh form with it.
/// Where products are rounded to bf16, so is what lies between them: h, gelu(h) and their cotangents are written once, in bf16.
/// Legend: R rows, C width, M hidden width, h = x·w1ᵀ + b1.
/// Operations: 4·R·C·M forward, 8·R·C·M back. Bytes beyond the products': 2·R·M numbers forward, 4·R·M and the sums of columns back;
/// in bf16 those are numbers of 2 bytes, the sums cost nothing, and rounding adds 6·R·C bytes for x, and back as many for x and for g.

#include "tttlib/backend/cuda/matmul.hpp"
#include "tttlib/backend/cuda/norm.hpp"
#include "tttlib/backend/cuda/reduce.hpp"

namespace ttt::cuda_backend {

/// A matrix seen as its transpose.
template <class T>
View<T> transposed(const View<T>& v) {
  return {v.data, {v.shape[1], v.shape[0]}, {v.strides[1], v.strides[0]}, v.device};
}
/// A matrix [rows, columns] with rows side by side, `leading` numbers apart.
template <class T>
View<T> rows_at(T* data, std::int64_t rows, std::int64_t columns, std::int64_t leading, Device device) {
  return {data, {rows, columns}, {leading, 1}, device};
}

/// gelu of numbers 8·i … 8·i + 7 of n, in place too.
struct GeluOfBf16 {
  const bf16* h;
  bf16* activated;
  std::int64_t n;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t first = 8 * i;
    if (first + 8 <= n) {
      float x[8];
      load_numbers(h + first, x);
      for (int k = 0; k < 8; ++k) x[k] = formula::Gelu{}(x[k]);
      store_numbers(x, activated + first);
    } else {
      for (std::int64_t at = first; at < n; ++at) activated[at] = bf16(formula::Gelu{}(float(h[at])));
    }
  }
};

/// partial [parts, columns] = sums over the rows of a part of what `pass(row, column, x)` puts into x: numbers column … column + 7 of
/// that row, or those of them that exist. Neighbouring threads have neighbouring columns; a block has 16 rows on their way at once.
template <class Pass>
struct ColumnSums {
  static constexpr int wide = 16, tall = block_threads / wide, tile = 8 * wide;  // columns of a block
  Pass pass;
  float* partial;
  std::int64_t rows, rows_of_part;
  int columns, tiles;

  TTT_DEVICE void operator()(Block& block) const {
    float* sums = block.shared<float>(tall * tile);
    const int part = static_cast<int>(block.index()) / tiles, left = (static_cast<int>(block.index()) - part * tiles) * tile;
    const std::int64_t first = part * rows_of_part, last = first + rows_of_part < rows ? first + rows_of_part : rows;
    block.each_thread([&](int t) {
      const int column = left + t % wide * 8;
      float total[8] = {};
      if (column < columns)
        for (std::int64_t row = first + t / wide; row < last; row += tall) {
          float x[8] = {};
          pass(row, column, x);
          for (int i = 0; i < 8; ++i) total[i] += x[i];
        }
      for (int i = 0; i < 8; ++i) sums[t / wide * tile + i * wide + t % wide] = total[i];  // columns in an order without bank conflicts
    });
    block.each_of(tile, [&](int i) {
      float total = 0;
      for (int row = 0; row < tall; ++row) total += sums[row * tile + i];
      const int column = left + i % wide * 8 + i / wide;
      if (column < columns) partial[static_cast<std::int64_t>(part) * columns + column] = total;
    });
  }
};
/// Runs `pass` over a matrix [rows, columns], which may write too, and adds up what it sees of each column: sums [columns] (null: none).
template <class L, class Pass>
void pass_with_column_sums(const L& run, const Pass& pass, std::int64_t rows, std::int64_t columns, float* sums) {
  using Program = ColumnSums<Pass>;
  if (columns == 0) return;
  const std::int64_t tiles = (columns + Program::tile - 1) / Program::tile, wanted = std::clamp<std::int64_t>(2048 / tiles, 1, 256);
  const std::int64_t most = std::max<std::int64_t>((rows + Program::tall - 1) / Program::tall, 1), cut = std::min(wanted, most);
  const std::int64_t rows_of_part = (rows + cut - 1) / cut, parts = rows_of_part > 0 ? (rows + rows_of_part - 1) / rows_of_part : 1;
  const Scratch<L, float> partial(run, parts * columns);
  run.blocks(parts * tiles, block_threads, shared_size<float>(Program::tall * Program::tile),
             Program{pass, partial.data(), rows, rows_of_part, static_cast<int>(columns), static_cast<int>(tiles)});
  if (sums) sum_parts<L, float>(run, partial.data(), parts, columns, {1}, {columns}, sums, {1});
}

/// Eight numbers of a row, or the `left` ones at its end; `aligned`: eight may be moved at once.
template <class T>
TTT_DEVICE inline void load_row(const T* from, int left, bool aligned, float (&x)[8]) {
  if (aligned && left >= 8) return load_numbers(from, x);
  for (int i = 0; i < 8; ++i)
    if (i < left) x[i] = float(from[i]);
}
TTT_DEVICE inline void store_row(const float (&x)[8], int left, bool aligned, bf16* to) {
  if (aligned && left >= 8) return store_numbers(x, to);
  for (int i = 0; i < 8; ++i)
    if (i < left) to[i] = bf16(x[i]);
}

/// Reads a matrix, to sum its columns.
struct ReadRows {
  const bf16* x;
  std::int64_t leading;
  int columns;
  bool aligned;
  TTT_DEVICE void operator()(std::int64_t row, int column, float (&own)[8]) const {
    load_row(x + row * leading + column, columns - column, aligned, own);
  }
};
/// sums [columns] of a matrix x [rows, columns] whose rows are side by side, in float: 2 bytes per number.
template <class L>
void column_sums(const L& run, const View<const bf16>& x, float* sums) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && x.strides[0] % 8 == 0;
  pass_with_column_sums(run, ReadRows{x.data, x.strides[0], static_cast<int>(x.shape[1]), aligned}, x.shape[0], x.shape[1], sums);
}

/// rounded = x in bf16, its rows `leading` numbers apart; x itself is summed.
struct RoundRows {
  const float* x;
  bf16* rounded;
  std::int64_t leading;
  int columns;
  bool aligned;
  TTT_DEVICE void operator()(std::int64_t row, int column, float (&own)[8]) const {
    load_row(x + row * columns + column, columns - column, aligned, own);
    store_row(own, columns - column, aligned, rounded + row * leading + column);
  }
};
/// activated = gelu(h), dh = dh·gelu'(h); dh is summed before it is rounded.
struct GeluBothWaysOfBf16 {
  const bf16* h;
  bf16 *activated, *dh;
  int columns;
  bool aligned;
  TTT_DEVICE void operator()(std::int64_t row, int column, float (&own)[8]) const {
    const std::int64_t at = row * columns + column;
    const int left = columns - column;
    float x[8] = {};
    load_row(h + at, left, aligned, x);
    load_row(dh + at, left, aligned, own);
    for (int i = 0; i < 8; ++i) {
      const formula::GeluJet<float> gelu(x[i]);
      x[i] = gelu.value;
      own[i] *= gelu.first;
    }
    store_row(x, left, aligned, activated + at);
    store_row(own, left, aligned, dh + at);
  }
};

/// The way forward of x [R, C], w1 and w2 in bf16; `plus` [R, C'] is added unless null.
template <class L>
void mlp_of_rounded(const L& run, const View<const bf16>& x, const View<const bf16>& w1, const float* b1, const View<const bf16>& w2, const float* b2,
                    bf16* hidden, const float* plus, const View<float>& y) {
  const std::int64_t R = x.shape[0], M = w1.shape[0];
  const Scratch<L, bf16> scratch(run, R * M);
  const View<bf16> activated = rows_at(scratch.data(), R, M, M, y.device), h = rows_at(hidden ? hidden : scratch.data(), R, M, M, y.device);
  multiply_bf16(run, x, transposed(w1), b1, h);                                         // h [R, M]
  for_each(run, (R * M + 7) / 8, GeluOfBf16{h.data, activated.data, R * M});            // gelu(h) [R, M], in place if h is not kept
  multiply_bf16<L, float>(run, activated, transposed(w2), b2, y, plus);                 // y [R, C']
}

/// y [R, C'] = gelu(x·w1ᵀ + b1)·w2ᵀ + b2: x [R, C], w1 [M, C], w2 [C', M]; keeps h [R, M] in `hidden` unless that is null.
template <class L, class T>
void mlp(View<const T> x, View<const T> w1, const T* b1, View<const T> w2, const T* b2, const AnyArray& hidden, View<T> y) {
  const L run("mlp", y.device);
  if constexpr (std::is_same_v<T, float>)
    if (hidden.type == DType::bfloat16) {
      const RoundedOperands<L, 3> rounded(run, {x, w1, w2});
      return mlp_of_rounded(run, rounded[0], rounded[1], b1, rounded[2], b2, static_cast<bf16*>(hidden.data), nullptr, y);
    }
  const std::int64_t R = x.shape[0], M = w1.shape[0];
  const Scratch<L, T> scratch(run, R * M);
  const View<T> activated = rows_at(scratch.data(), R, M, M, y.device);
  const View<T> h = rows_at(hidden.data ? static_cast<T*>(hidden.data) : scratch.data(), R, M, M, y.device);
  linear<L, T>(x, w1, b1, h);                             // h [R, M]
  map_unary<L, formula::Gelu, T>(0, 0, h, activated);     // gelu(h) [R, M], in place if h is not kept
  linear<L, T>(activated, w2, b2, y);                     // y [R, C']
}

/// activated = gelu(h), dh = dh·gelu'(h)
template <class T>
struct GeluBothWays {
  const T* h;
  T *activated, *dh;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const formula::GeluJet<T> gelu(h[i]);
    activated[i] = gelu.value;
    dh[i] *= gelu.first;
  }
};

/// The way back of x, w1 and w2 in bf16; without data where not needed.
template <class L>
void mlp_pull_of_rounded(const L& run, const View<const bf16>& x, const View<const bf16>& w1, const View<const bf16>& w2, const bf16* hidden,
                         const View<const float>& g, const View<float>& dx, const View<float>& dw1, float* db1, const View<float>& dw2, float* db2) {
  const std::int64_t R = x.shape[0], M = w1.shape[0], out = g.shape[1], wide = (out + 7) / 8 * 8;
  const Scratch<L, bf16> of_y(run, R * wide), of_hidden(run, R * M), gelu(run, R * M);
  const View<bf16> dy = rows_at(of_y.data(), R, out, wide, g.device), dh = rows_at(of_hidden.data(), R, M, M, g.device);
  const View<bf16> activated = rows_at(gelu.data(), R, M, M, g.device);
  const bool aligned = out % 8 == 0 && reinterpret_cast<std::uintptr_t>(g.data) % 16 == 0;
  pass_with_column_sums(run, RoundRows{g.data, dy.data, wide, static_cast<int>(out), aligned}, R, out, db2);
  multiply_bf16<L, bf16>(run, dy, w2, nullptr, dh);                                                              // g·w2 [R, M]
  pass_with_column_sums(run, GeluBothWaysOfBf16{hidden, activated.data, dh.data, static_cast<int>(M), M % 8 == 0}, R, M, db1);
  if (dx.data) multiply_bf16<L, float>(run, dh, w1, nullptr, dx);                                                // x̄ [R, C]
  if (dw1.data) multiply_bf16<L, float>(run, transposed(dh), x, nullptr, dw1);                                   // [M, R] x [R, C]
  if (dw2.data) multiply_bf16<L, float>(run, transposed(dy), activated, nullptr, dw2);                           // [C', R] x [R, M]
}

/// From what `mlp` kept and the cotangent g [R, C'] of y, those of x, of the weights and of the biases; null where not needed. With
/// h̄ = (g·w2) ⊙ gelu'(h): h̄·w1, h̄ᵀ·x, Σ h̄, gᵀ·gelu(h), Σ g.
template <class L, class T>
void mlp_pull(View<const T> x, View<const T> w1, View<const T> w2, const AnyArray& hidden, View<const T> g, View<T> dx, View<T> dw1, T* db1,
              View<T> dw2, T* db2) {
  const L run("mlp_pull", g.device);
  if constexpr (std::is_same_v<T, float>)
    if (hidden.type == DType::bfloat16) {
      View<const float> needed_x = x, needed_w1 = w1;
      if (!dw1.data) needed_x.data = nullptr;
      if (!dx.data) needed_w1.data = nullptr;
      const RoundedOperands<L, 3> rounded(run, {needed_x, needed_w1, w2});
      return mlp_pull_of_rounded(run, rounded[0], rounded[1], rounded[2], static_cast<const bf16*>(hidden.data), g, dx, dw1, db1, dw2, db2);
    }
  const std::int64_t R = g.shape[0], M = w1.shape[0], out = g.shape[1];
  const Scratch<L, T> of_hidden(run, R * M), gelu(run, R * M);
  const View<T> dh = rows_at(of_hidden.data(), R, M, M, g.device), activated = rows_at(gelu.data(), R, M, M, g.device);
  matmul<L, T>(g, w2, dh);                                                                                     // g·w2 [R, M]
  for_each(run, R * M, GeluBothWays<T>{static_cast<const T*>(hidden.data), activated.data, dh.data});          // gelu(h), h̄ [R, M]
  if (dx.data) matmul<L, T>(dh, w1, dx);                                                                       // x̄ [R, C]
  if (dw1.data) matmul<L, T>(transposed(dh), x, dw1);                                                          // [M, R] x [R, C]
  if (dw2.data) matmul<L, T>(transposed(g), activated, dw2);                                                   // [C', R] x [R, M]
  if (db1) reduce<L, T>(Reduction::sum, dh, rows_at(db1, 1, M, M, g.device));
  if (db2) reduce<L, T>(Reduction::sum, g, rows_at(db2, 1, out, out, g.device));
}

/// The same of layer_norm(x), whose rows [R, C] are made again on the way back: x is all that is kept of them. A residual x or g is added
/// where y or dx is written: 8·R·C bytes less each way than in a pass of its own.
template <class L>
void normed_mlp(View<const float> x, const RowNorm<const float>& norm, View<const float> w1, const float* b1, View<const float> w2, const float* b2,
                bf16* hidden, bool residual, View<float> y) {
  const L run("normed_mlp", y.device);
  const std::int64_t R = x.shape[0], C = x.shape[1];
  const Scratch<L, bf16> normed(run, R * C);
  normed_rows(run, x, norm, normed.data());
  const RoundedOperands<L, 2> rounded(run, {w1, w2});
  mlp_of_rounded(run, rows_at<const bf16>(normed.data(), R, C, C, x.device), rounded[0], b1, rounded[1], b2, hidden,
                 residual ? x.data : nullptr, y);
}
template <class L>
void normed_mlp_pull(View<const float> x, const RowNorm<const float>& norm, View<const float> w1, View<const float> w2, const bf16* hidden,
                     View<const float> g, bool residual, View<float> dx, const RowNorm<float>& dnorm, View<float> dw1, float* db1,
                     View<float> dw2, float* db2) {
  const L run("normed_mlp_pull", g.device);
  const std::int64_t R = x.shape[0], C = x.shape[1];
  const Scratch<L, float> of_normed(run, R * C);                                                                 // cotangent of the rows
  {
    const Scratch<L, bf16> normed(run, R * C);
    normed_rows(run, x, norm, normed.data());
    const RoundedOperands<L, 2> rounded(run, {w1, w2});
    mlp_pull_of_rounded(run, rows_at<const bf16>(normed.data(), R, C, C, x.device), rounded[0], rounded[1], hidden, g,
                        rows_at(of_normed.data(), R, C, C, x.device), dw1, db1, dw2, db2);
  }
  layer_norm_pull_plus<L, float>(x, norm.w, rows_at<const float>(of_normed.data(), R, C, C, x.device), norm.eps, residual ? g.data : nullptr, dx,
                                 dnorm.w, dnorm.b);
}

template <class L, class T>
void add_mlps(Verbs<T>& verbs) {
  verbs.mlp = mlp<L, T>;
  verbs.mlp_pull = mlp_pull<L, T>;
  if constexpr (std::is_same_v<T, float>) {
    verbs.normed_mlp = normed_mlp<L>;
    verbs.normed_mlp_pull = normed_mlp_pull<L>;
  }
}

}  // namespace ttt::cuda_backend

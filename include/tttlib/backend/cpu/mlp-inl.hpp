#pragma once
/// The two layers of an MLP, some rows at a time: the hidden layer is multiplied on while it is in cache.
/// Legend: R rows, C width, M hidden width, h = x·w1ᵀ + b1.
/// Operations: 4·R·C·M forward, 8·R·C·M back. Bytes: x, y and the weights once; forward writes h if it is kept, and
/// the way back reads it and writes gelu(h) and h̄, which the products for the weights' gradients read whole.

#include <algorithm>

#include "tttlib/backend/cpu/matmul-inl.hpp"
#include "tttlib/backend/cpu/reduce-inl.hpp"
#include "tttlib/kernels/formulas.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// Calls `run(first, count)` for groups of so few of R rows that their hidden layer of `bytes` a row stays in L2, on several threads;
/// groups are whole kernels of `unit` rows.
template <class Run>
void for_mlp_rows(std::int64_t R, std::int64_t bytes, std::int64_t unit, const Run& run) {
  constexpr std::int64_t enough = 64;  // rows that pay for reading the weights
  const std::int64_t most = 384 * 1024 / (bytes + 1), threads = num_threads();
  const std::int64_t groups = std::clamp(R / (threads * enough), std::int64_t(1), std::int64_t(4)) * threads;  // a few for every thread
  const std::int64_t share = (R + groups - 1) / groups;
  const std::int64_t rows = (std::max<std::int64_t>(std::min(most, share), 1) + unit - 1) / unit * unit;
  parallel_for(R, rows, [&](std::int64_t begin, std::int64_t end) { run(begin, end - begin); });
}

/// A matrix [k, n] packed for products with a few rows at a time, in the precision that the caller has chosen. It packs into
/// `kind`, what it rounds only into `rounded`.
template <class T, Packing kind, Packing rounded>
class PackedMatrix {
 public:
  explicit PackedMatrix(const MatrixRef<const T>& b) : b_(b) {
    if constexpr (std::is_same_v<T, float>) {
      round_ = rounds_to_bf16<T>();
      if (round_ && has_bf16_products()) {
        pairs_ = pack_panels_bf16<kind>(b);
        return;
      }
      if (round_) b_ = rounded_to_bf16<rounded>(b);
    }
    packed_ = pack_panels<T, kind>(b_);
  }
  /// c [rows, n] = start [n] (null: 0) + a [rows, k] · b, on this thread.
  void multiply(MatrixRef<const T> a, const T* start, const MatrixRef<T>& c) const {
    if constexpr (std::is_same_v<T, float>) {
      if (pairs_) return gemm_bf16_few_rows(pack_rows_bf16(a), b_, pairs_, start, 0, c);
      if (round_) a = rounded_to_bf16<Packing::rounded_a>(a);
    }
    gemm_tile(a, b_, packed_, 0, panels_of<T>(b_.columns), start, 0, c);
  }

 private:
  MatrixRef<const T> b_;
  bool round_ = false;
  const T* packed_ = nullptr;              // panels of numbers
  const std::uint32_t* pairs_ = nullptr;   // or of pairs in bf16
};

/// gelu(h) to a matrix of the same size, which may be h. Rows are contiguous.
template <class T>
void gelu_rows(const MatrixRef<T>& h, const MatrixRef<T>& to) {
  if (h.row_stride == h.columns && to.row_stride == h.columns && h.rows > 1)  // one long row
    return gelu_rows(rows_of(h.data, 1, h.rows * h.columns), rows_of(to.data, 1, h.rows * h.columns));
  for (std::int64_t i = 0; i < h.rows; ++i) {
    const T* from = h.data + i * h.row_stride;
    T* row = to.data + i * to.row_stride;
    TTT_INDEPENDENT
    for (std::int64_t j = 0; j < h.columns; ++j) row[j] = formula::Gelu{}(from[j]);
  }
}

/// `mlp` where processors multiply bf16 pairs: every block of the hidden layer is rounded as soon as it is complete.
inline void mlp_bf16(const MatrixRef<const float>& x, const MatrixRef<const float>& w1, const float* b1, const MatrixRef<const float>& w2,
                     const float* b2, float* kept, const MatrixRef<float>& y) {
  const std::int64_t R = x.rows, C = x.columns, M = w1.columns;
  const bool whole = R <= few_rows;  // then weights are packed where they are used
  const std::uint32_t* first = whole ? nullptr : pack_panels_bf16<Packing::first>(w1);
  const std::uint32_t* second = whole ? nullptr : pack_panels_bf16<Packing::second>(w2);
  const auto some_rows = [&](std::int64_t row, std::int64_t rows) {
    const MatrixRef<const std::uint32_t> pairs = pack_rows_bf16(x.block(row, rows, 0, C));
    const MatrixRef<std::uint32_t> activated = pair_rows<Packing::hidden>(rows, M);
    const MatrixRef<float> h{kept ? kept + row * M : nullptr, rows, M, M, 1};
    gemm_bf16_few_rows(pairs, w1, first, b1, 0, h, [&](const MatrixRef<float>& block, std::int64_t i, std::int64_t j) {
      constexpr std::int64_t at_once = 32;  // rows, whose pairs are written out while the next are computed
      for (std::int64_t at = 0; at < block.rows; at += at_once) {
        const MatrixRef<float> part = block.block(at, std::min(at_once, block.rows - at), 0, block.columns);
        alignas(64) float apart[at_once * bf16_panel_width];
        const MatrixRef<float> gelu = kept ? rows_of(apart, part.rows, part.columns) : part;
        gelu_rows(part, gelu);
        store_pairs(gelu, activated, i + at, j);                                                                    // gelu(h) [rows, M]
      }
    });
    gemm_bf16_few_rows(activated, w2, second, b2, 0, y.block(row, rows, 0, y.columns));                             // y [rows, C']
  };
  if (whole) some_rows(0, R);
  else for_mlp_rows(R, M * static_cast<std::int64_t>(sizeof(float)), bf16_kernel_rows, some_rows);  // groups twice as large gained nothing
}

/// y [R, C'] = gelu(x·w1ᵀ + b1)·w2ᵀ + b2: x [R, C], w1 [M, C], w2 [C', M]; keeps h [R, M] in `hidden` unless that is null. Rows
/// of x and y are contiguous.
template <class T>
void mlp(View<const T> x, View<const T> w1, const T* b1, View<const T> w2, const T* b2, const AnyArray& hidden, View<T> y) {
  const std::int64_t R = x.shape[0], C = x.shape[1], M = w1.shape[0], out = w2.shape[0];
  T* const kept = static_cast<T*>(hidden.data);
  if constexpr (std::is_same_v<T, float>)
    if (rounds_to_bf16<T>() && has_bf16_products())
      return mlp_bf16(rows_of(x.data, R, C), matrix_at(w1, 0).transposed(), b1, matrix_at(w2, 0).transposed(), b2, kept,
                      rows_of(y.data, R, out));
  if (R <= few_rows && !rounds_to_bf16<T>()) {  // the hidden layer stays in cache as a whole
    T* activated = packing_buffer<T, Packing::hidden>(R * M);
    const MatrixRef<T> h = rows_of(kept ? kept : activated, R, M);
    gemm_few_rows<T>(rows_of(x.data, R, C), matrix_at(w1, 0).transposed(), b1, 0, h,
                     [&](const MatrixRef<T>& block, std::int64_t i, std::int64_t j) {                                        // gelu(h) [R, M]
                       gelu_rows(block, rows_of(activated, R, M).block(i, block.rows, j, block.columns));
                     });
    return gemm_few_rows<T>(rows_of<const T>(activated, R, M), matrix_at(w2, 0).transposed(), b2, 0, rows_of(y.data, R, out));  // y [R, C']
  }
  const PackedMatrix<T, Packing::first, Packing::first_rounded> first(matrix_at(w1, 0).transposed());   // [C, M]
  const PackedMatrix<T, Packing::second, Packing::second_rounded> second(matrix_at(w2, 0).transposed());  // [M, C']
  for_mlp_rows(R, M * static_cast<std::int64_t>(sizeof(T)), kernel_rows, [&](std::int64_t row, std::int64_t rows) {
    T* activated = packing_buffer<T, Packing::hidden>(rows * M);
    T* h = kept ? kept + row * M : activated;
    first.multiply(rows_of(x.data + row * C, rows, C), b1, rows_of(h, rows, M));                                              // h [rows, M]
    gelu_rows(rows_of(h, rows, M), rows_of(activated, rows, M));                                                              // gelu(h) [rows, M]
    second.multiply(rows_of(activated, rows, M), b2, rows_of(y.data + row * out, rows, out));                        // y [rows, C']
  });
}

/// From h and the cotangent g [R, C'] of y, those of x, of the weights and of the biases; null where not needed. With
/// h̄ = (g·w2) ⊙ gelu'(h): h̄·w1, h̄ᵀ·x, Σ h̄, gᵀ·gelu(h), Σ g. Rows of x, g and dx are contiguous.
template <class T>
void mlp_pull(View<const T> x, View<const T> w1, View<const T> w2, const AnyArray& hidden, View<const T> g, View<T> dx, View<T> dw1, T* db1,
              View<T> dw2, T* db2) {
  const std::int64_t R = g.shape[0], out = g.shape[1], M = w1.shape[0], C = w1.shape[1];
  Tensor<T> activated(Shape{R, M}), dh(Shape{R, M});
  const View<const T> of_activated = view(activated), of_hidden = view(dh);
  const PackedMatrix<T, Packing::first, Packing::first_rounded> first(matrix_at(w1, 0));    // [M, C]
  const PackedMatrix<T, Packing::second, Packing::second_rounded> second(matrix_at(w2, 0));   // [C', M]
  for_mlp_rows(R, M * static_cast<std::int64_t>(sizeof(T)), kernel_rows, [&](std::int64_t row, std::int64_t rows) {
    T* __restrict pulled = dh.data() + row * M;
    T* __restrict a = activated.data() + row * M;
    const T* __restrict h = static_cast<const T*>(hidden.data) + row * M;
    second.multiply(rows_of(g.data + row * out, rows, out), nullptr, rows_of(pulled, rows, M));                               // g·w2 [rows, M]
    TTT_INDEPENDENT
    for (std::int64_t i = 0; i < rows * M; ++i) {
      const formula::GeluJet<T> gelu(h[i]);
      a[i] = gelu.value;
      pulled[i] *= gelu.first;                                                                                                // h̄ [rows, M]
    }
    if (dx.data) first.multiply(rows_of(pulled, rows, M), nullptr, rows_of(dx.data + row * C, rows, C));             // x̄ [rows, C]
  });
  const auto transposed = [](const View<const T>& v) {
    return View<const T>{v.data, {v.shape[1], v.shape[0]}, {v.strides[1], v.strides[0]}, v.device};
  };
  if (dw1.data) matmul<T>(transposed(of_hidden), x, dw1);                                                           // [M, R] x [R, C]
  if (dw2.data) matmul<T>(transposed(g), of_activated, dw2);                                                        // [C', R] x [R, M]
  if (db1) reduce<T>(Reduction::sum, of_hidden, {db1, {1, M}, {M, 1}, cpu()});
  if (db2) reduce<T>(Reduction::sum, g, {db2, {1, out}, {out, 1}, cpu()});
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

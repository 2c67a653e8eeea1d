#pragma once
/// The two layers of an MLP, some rows at a time: the hidden layer is multiplied on while it is in cache.
/// Legend: R rows, C width, M hidden width, h = x·w1ᵀ + b1.
/// Operations: 4·R·C·M forward, 4·R·C·M for h̄ and x̄. Bytes: x, y and the weights once; forward writes h if it is kept, and
/// the way back reads it and writes gelu(h) and h̄, which the products for the weights' gradients need whole.

#include <algorithm>

#include "tttlib/backend/cpu/matmul-inl.hpp"
#include "tttlib/kernels/formulas.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// Calls `run(first, count)` for groups of so few of R rows that their hidden layer stays in L2, on several threads.
template <class T, class Run>
void for_mlp_rows(std::int64_t R, std::int64_t M, const Run& run) {
  constexpr std::int64_t enough = 64;  // rows that pay for reading the weights
  const std::int64_t most = 384 * 1024 / (M * static_cast<std::int64_t>(sizeof(T)) + 1), threads = num_threads();
  const std::int64_t groups = std::clamp(R / (threads * enough), std::int64_t(1), std::int64_t(4)) * threads;  // a few for every thread
  const std::int64_t share = (R + groups - 1) / groups;
  const std::int64_t rows = (std::max<std::int64_t>(std::min(most, share), 1) + kernel_rows - 1) / kernel_rows * kernel_rows;
  parallel_for(R, rows, [&](std::int64_t begin, std::int64_t end) { run(begin, end - begin); });
}

/// A matrix [k, n] packed for products with a few rows at a time, in the precision that the caller has chosen. It takes the
/// packing buffers `kind`, and where bf16 is only rounded to, the next two: of one kind a thread has one.
template <class T, int kind>
class PackedMatrix {
 public:
  explicit PackedMatrix(const MatrixRef<const T>& b) : b_(b) {
    if constexpr (std::is_same_v<T, float>) {
      round_ = matmul_precision() == MatmulPrecision::bfloat16;
      if (round_ && has_bf16_products()) {
        pairs_ = pack_panels_bf16<kind>(b);
        return;
      }
      if (round_) b_ = rounded_to_bf16<kind + 1>(b);
    }
    packed_ = pack_panels<T, kind>(b_);
  }
  /// c [rows, n] = start [n] (null: 0) + a [rows, k] · b, on this thread.
  void multiply(MatrixRef<const T> a, const T* start, const MatrixRef<T>& c) const {
    if constexpr (std::is_same_v<T, float>) {
      if (pairs_) return gemm_bf16_rows(a, depth_block_bf16(b_.rows), pairs_, 0, (b_.columns + bf16_panel_width - 1) / bf16_panel_width, start, 0, c);
      if (round_) a = rounded_to_bf16<kind + 2>(a);
    }
    gemm_tile(a, b_, packed_, 0, (b_.columns + panel_width<T> - 1) / panel_width<T>, start, 0, c);
  }

 private:
  MatrixRef<const T> b_;
  bool round_ = false;
  const T* packed_ = nullptr;              // panels of numbers
  const std::uint32_t* pairs_ = nullptr;   // or of pairs in bf16
};

/// y [R, C'] = gelu(x·w1ᵀ + b1)·w2ᵀ + b2: x [R, C], w1 [M, C], w2 [C', M]; keeps h [R, M] in `hidden` unless that is null. Rows
/// of x and y are contiguous.
template <class T>
void mlp(View<const T> x, View<const T> w1, const T* b1, View<const T> w2, const T* b2, T* hidden, View<T> y) {
  const std::int64_t R = x.shape[0], C = x.shape[1], M = w1.shape[0], out = w2.shape[0];
  const PackedMatrix<T, 10> first(matrix_at(w1, 0).transposed());   // [C, M]
  const PackedMatrix<T, 20> second(matrix_at(w2, 0).transposed());  // [M, C']
  for_mlp_rows<T>(R, M, [&](std::int64_t row, std::int64_t rows) {
    T* activated = packing_buffer<T, 7>(rows * M);
    T* h = hidden ? hidden + row * M : activated;
    first.multiply(rows_of(x.data + row * C, rows, C), b1, rows_of(h, rows, M));                                              // h [rows, M]
    TTT_INDEPENDENT
    for (std::int64_t i = 0; i < rows * M; ++i) activated[i] = formula::Gelu{}(h[i]);                                         // gelu(h) [rows, M]
    second.multiply(rows_of(activated, rows, M), b2, rows_of(y.data + row * out, rows, out));                        // y [rows, C']
  });
}

/// From h and the cotangent g [R, C'] of y: gelu(h) and h̄ = (g·w2) ⊙ gelu'(h), both [R, M], and dx [R, C] = h̄·w1.
template <class T>
void mlp_pull(View<const T> w1, View<const T> w2, const T* hidden, View<const T> g, T* activated, T* dh, View<T> dx) {
  const std::int64_t R = g.shape[0], out = g.shape[1], M = w1.shape[0], C = w1.shape[1];
  const PackedMatrix<T, 10> first(matrix_at(w1, 0));    // [M, C]
  const PackedMatrix<T, 20> second(matrix_at(w2, 0));   // [C', M]
  for_mlp_rows<T>(R, M, [&](std::int64_t row, std::int64_t rows) {
    T* __restrict pulled = dh + row * M;
    T* __restrict a = activated + row * M;
    const T* __restrict h = hidden + row * M;
    second.multiply(rows_of(g.data + row * out, rows, out), nullptr, rows_of(pulled, rows, M));                               // g·w2 [rows, M]
    TTT_INDEPENDENT
    for (std::int64_t i = 0; i < rows * M; ++i) {
      const formula::GeluJet<T> gelu(h[i]);
      a[i] = gelu.value;
      pulled[i] *= gelu.first;                                                                                                // h̄ [rows, M]
    }
    first.multiply(rows_of(pulled, rows, M), nullptr, rows_of(dx.data + row * C, rows, C));                          // x̄ [rows, C]
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

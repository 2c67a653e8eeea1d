#pragma once
/// Products of float matrices whose operands are rounded to bf16, c = start + bf16(a)·bf16(b), summed in float: by the
/// instruction vdpbf16ps (AVX512_BF16), which multiplies 16 pairs of numbers and adds them to 16 sums.
/// Operations: 2·m·n·k, 64 of them per instruction, twice those of a float multiply-add.
/// Bytes: b is read once and written once as bf16, 6·k·n, for few rows of a into L1 by the thread that multiplies with it; a once,
/// 6·m·k; c is read and written once per block of k, and a block of b's panel, depth × 32 numbers, stays in L1.
/// The sum over k has one fixed order: blocks depend on k alone, so bits depend neither on tiles nor on threads.
/// bf16 subnormals (below 1.2e-38) count as 0, and floats above 3.39e38 round to infinity.

#include "tttlib/backend/cpu/gemm-inl.hpp"
#include "tttlib/backend/precision.hpp"
#include "tttlib/core/dtype.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

inline constexpr std::int64_t bf16_panel_width = 32;  // columns of b: two vectors of sums
inline constexpr int bf16_kernel_rows = 12;           // times two vectors: 24 of 32 registers hold sums

#if defined(__x86_64__)
// The two instructions are written as such, because <immintrin.h> would double the time to compile a small program; the
// attribute lets a program for any x86-64 hold them, and `has_bf16_products` asks before they run.
#define TTT_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

/// Whether this processor multiplies bf16 pairs.
inline bool has_bf16_products() {
  static const bool supported = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return supported;
}

namespace bf16_pairs {

typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef std::uint32_t Pairs __attribute__((vector_size(64), aligned(4), may_alias));  // 16 × (even k, odd k)
typedef std::uint16_t Halves __attribute__((vector_size(64), aligned(4), may_alias));

inline constexpr int rows_of_tail = 4;              // of the kernel for what is left of the rows
inline constexpr std::int64_t width = bf16_panel_width;
inline constexpr std::int64_t most_depth = 384;     // of a block of k: its panel takes 24 KiB
inline constexpr std::int64_t rows_of_tile = 192;   // of c: its block of a takes 144 KiB

/// The floats of `low` and `high` in bf16, in this order.
TTT_AVX512_BF16 inline __attribute__((always_inline)) Pairs rounded(Floats low, Floats high) {
  Pairs both;
  asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(low), "v"(high));
  return both;
}

/// sum_j + a_even·b_even + a_odd·b_odd for the 16 pairs.
TTT_AVX512_BF16 inline __attribute__((always_inline)) void multiply_add(Floats& sum, Pairs a, Pairs b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

/// (even_j, odd_j) of two rows of 16 floats.
TTT_AVX512_BF16 inline __attribute__((always_inline)) Pairs interleaved(Floats even, Floats odd) {
  const Halves both = reinterpret_cast<Halves>(rounded(even, odd));
  return reinterpret_cast<Pairs>(__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25,
                                                         10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
}

/// c [R, 32] = start + a [R, 2·pairs] · b [2·pairs, 32]; a in rows of pairs with two strides, b as [pairs, 32, 2].
template <int R>
TTT_AVX512_BF16 void kernel(std::int64_t pairs, const std::uint32_t* a, std::int64_t a_row, std::int64_t a_pair, const std::uint32_t* b,
                            const float* start, std::int64_t start_row, float* c, std::int64_t c_row) {
  Floats sum[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) sum[r][v] = start ? *reinterpret_cast<const Floats*>(start + r * start_row + 16 * v) : Floats{};
  for (std::int64_t p = 0; p < pairs; ++p, a += a_pair, b += width) {
    const Pairs left = *reinterpret_cast<const Pairs*>(b), right = *reinterpret_cast<const Pairs*>(b + 16);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Pairs pair = Pairs{} + a[r * a_row];
      multiply_add(sum[r][0], pair, left);
      multiply_add(sum[r][1], pair, right);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) *reinterpret_cast<Floats*>(c + r * c_row + 16 * v) = sum[r][v];
}

/// The same for `rows` ≤ R and `columns` ≤ 32, through a full tile beside c; a has R rows all the same.
template <int R>
TTT_AVX512_BF16 void kernel_at_edge(std::int64_t rows, std::int64_t columns, std::int64_t pairs, const std::uint32_t* a, std::int64_t a_row,
                                    std::int64_t a_pair, const std::uint32_t* b, const float* start, std::int64_t start_row, float* c,
                                    std::int64_t c_row) {
  if (rows == R && columns == width) return kernel<R>(pairs, a, a_row, a_pair, b, start, start_row, c, c_row);
  alignas(64) float tile[R * width] = {};
  if (start)
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t j = 0; j < columns; ++j) tile[r * width + j] = start[r * start_row + j];
  kernel<R>(pairs, a, a_row, a_pair, b, tile, width, tile, width);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; ++j) c[r * c_row + j] = tile[r * width + j];
}

/// 16 floats of which only the first `count` exist; zeros stand for the others.
TTT_AVX512_BF16 inline Floats some_floats(const float* from, std::int64_t stride, std::int64_t count) {
  if (stride == 1 && count >= 16) return *reinterpret_cast<const Floats*>(from);
  alignas(64) float some[16] = {};
  for (std::int64_t j = 0; j < 16 && j < count; ++j) some[j] = from[j * stride];
  return *reinterpret_cast<const Floats*>(some);
}

/// 32 such floats in bf16. Out of line where some are missing, so that loops over whole ones stay small.
TTT_AVX512_BF16 inline __attribute__((noinline)) Pairs pairs_at_edge(const float* from, std::int64_t stride, std::int64_t count) {
  return rounded(some_floats(from, stride, count), some_floats(from + 16 * stride, stride, count - 16));
}
TTT_AVX512_BF16 inline __attribute__((always_inline)) Pairs some_pairs(const float* from, std::int64_t stride, std::int64_t count) {
  if (stride != 1 || count < 32) return pairs_at_edge(from, stride, count);
  return rounded(*reinterpret_cast<const Floats*>(from), *reinterpret_cast<const Floats*>(from + 16));
}

/// Rows of pairs across columns: to[p·to_row + j] = (x[2p, j], x[2p + 1, j]) for all columns, a multiple of 16 of them
/// with zeros behind the last.
TTT_AVX512_BF16 inline void pack_across(const MatrixRef<const float>& x, std::uint32_t* to, std::int64_t to_row) {
  for (std::int64_t k = 0; k < x.rows; k += 2, to += to_row)
    for (std::int64_t j = 0; j < x.columns; j += 16) {
      const float* even = x.data + k * x.row_stride + j * x.column_stride;
      const Floats odd = k + 1 < x.rows ? some_floats(even + x.row_stride, x.column_stride, x.columns - j) : Floats{};
      *reinterpret_cast<Pairs*>(to + j) = interleaved(some_floats(even, x.column_stride, x.columns - j), odd);
    }
}

/// Rows of pairs along them: to[i·to_row + p] = (x[i, 2p], x[i, 2p + 1]), a multiple of 16 pairs with zeros behind the last.
TTT_AVX512_BF16 inline void pack_along(const MatrixRef<const float>& x, std::uint32_t* to, std::int64_t to_row) {
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t k = 0; k < x.columns; k += 32) {
      const float* from = x.data + i * x.row_stride + k * x.column_stride;
      __builtin_prefetch(from + 4 * x.row_stride);  // packing waits for memory, not for arithmetic
      __builtin_prefetch(from + 4 * x.row_stride + 16);
      *reinterpret_cast<Pairs*>(to + i * to_row + k / 2) = some_pairs(from, x.column_stride, x.columns - k);
    }
}

/// Exchanges, between two vectors, the odd blocks of `size` pairs of `x` and the even ones of `y`.
template <int size, int... lane>
TTT_AVX512_BF16 inline __attribute__((always_inline)) void exchange(Pairs& x, Pairs& y, std::integer_sequence<int, lane...>) {
  const Pairs before = x;
  x = __builtin_shufflevector(before, y, (lane / size % 2 == 0 ? lane : 16 + lane - size)...);
  y = __builtin_shufflevector(before, y, (lane / size % 2 == 0 ? lane + size : 16 + lane)...);
}
template <int size>
TTT_AVX512_BF16 inline __attribute__((always_inline)) void transpose_blocks(Pairs (&rows)[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i)
    if (i / size % 2 == 0) exchange<size>(rows[i], rows[i + size], std::make_integer_sequence<int, 16>{});
  if constexpr (size > 1) transpose_blocks<size / 2>(rows);
}

/// 16 columns × 32 numbers of a matrix whose columns are contiguous, transposed in registers; `whole`: all of them exist.
template <bool whole>
TTT_AVX512_BF16 inline void pack_square(const float* x, std::int64_t column_stride, std::int64_t columns, std::int64_t rows, std::uint32_t* to,
                                        std::int64_t to_row) {
  Pairs square[16];
#pragma GCC unroll 16
  for (std::int64_t j = 0; j < 16; ++j) {
    const float* from = x + j * column_stride;
    square[j] = whole || j < columns ? some_pairs(from, 1, whole ? 32 : rows) : Pairs{};
  }
  transpose_blocks<8>(square);
#pragma GCC unroll 16
  for (std::int64_t p = 0; p < 16; ++p)
    if (whole || 2 * p < rows) *reinterpret_cast<Pairs*>(to + p * to_row) = square[p];
}
/// `pack_across` of such a matrix.
TTT_AVX512_BF16 inline void pack_across_columns(const MatrixRef<const float>& x, std::uint32_t* to, std::int64_t to_row) {
  for (std::int64_t j = 0; j < x.columns; j += 16)
    for (std::int64_t k = 0; k < x.rows; k += 32) {
      const float* from = x.data + j * x.column_stride + k;
      const bool whole = x.columns - j >= 16 && x.rows - k >= 32;
      (whole ? pack_square<true> : pack_square<false>)(from, x.column_stride, x.columns - j, x.rows - k, to + k / 2 * to_row + j, to_row);
    }
}

/// A panel of b [depth, up to 32 columns] as [pairs, 32, 2].
inline void pack_panel(const MatrixRef<const float>& b, std::uint32_t* to) {
  if (b.columns <= 16)  // the kernel reads the second vector all the same
    for (std::int64_t p = 0; p < (b.rows + 1) / 2; ++p)
      for (std::int64_t j = 16; j < width; ++j) to[p * width + j] = 0;
  if (b.row_stride == 1) pack_across_columns(b, to, width);
  else pack_across(b, to, width);
}

/// Σ a_k·b_k over contiguous numbers, in one vector of sums that are added in order.
TTT_AVX512_BF16 inline float dot_product(const float* a, const float* b, std::int64_t depth) {
  Floats sum[2] = {};
  std::int64_t k = 0;
  for (; k + 64 <= depth; k += 64)
    for (int i = 0; i < 2; ++i)
      multiply_add(sum[i], some_pairs(a + k + 32 * i, 1, 32), some_pairs(b + k + 32 * i, 1, 32));
  for (; k < depth; k += 32) multiply_add(sum[0], some_pairs(a + k, 1, depth - k), some_pairs(b + k, 1, depth - k));
  sum[0] += sum[1];
  float total = 0;
  for (int i = 0; i < 16; ++i) total += sum[0][i];
  return total;
}

}  // namespace bf16_pairs

/// Room for a matrix in bf16, as rows of pairs of which kernels may read some behind the last; their distance is an odd number of
/// cache lines, so that the rows of a kernel do not meet in a cache.
template <Packing kind>
MatrixRef<std::uint32_t> pair_rows(std::int64_t rows, std::int64_t columns) {
  const std::int64_t pairs = (columns + 1) / 2, apart = ((pairs + 15) / 16 | 1) * 16;
  return {packing_buffer<std::uint32_t, kind>((rows + bf16_kernel_rows) * apart), rows, pairs, apart, 1};
}

/// x, rounded, into the rows and columns of `to` from these on.
inline void store_pairs(const MatrixRef<const float>& x, const MatrixRef<std::uint32_t>& to, std::int64_t row, std::int64_t column) {
  bf16_pairs::pack_along(x, to.data + row * to.row_stride + column / 2, to.row_stride);
}

/// a [m, k] as pairs along k, in the order in which it can be read by cache lines.
inline MatrixRef<const std::uint32_t> pack_rows_bf16(const MatrixRef<const float>& a) {
  const std::int64_t m = a.rows, k = a.columns;
  if (a.row_stride == 1 && a.column_stride != 1) {
    const MatrixRef<std::uint32_t> across = pair_rows<Packing::rows_of_a>((k + 1) / 2, 2 * m + 2 * bf16_kernel_rows);
    bf16_pairs::pack_across({a.data, k, m, a.column_stride, 1}, across.data, across.row_stride);
    return across.block(0, across.rows, 0, m).transposed();
  }
  const MatrixRef<std::uint32_t> along = pair_rows<Packing::rows_of_a>(m, k);
  parallel_for(m, 16384 / (k + 1) + 1,
               [&](std::int64_t begin, std::int64_t end) { store_pairs(a.block(begin, end - begin, 0, k), along, begin, 0); });
  return along;
}

/// Panels of a matrix of n columns, and the pairs in a packed one.
inline std::int64_t panels_bf16(std::int64_t n) { return (n + bf16_panel_width - 1) / bf16_panel_width; }
inline std::int64_t panel_size_bf16(std::int64_t depth) { return (depth + 1) / 2 * bf16_pairs::width; }
/// All panels of b [depth, n], one after the other.
template <Packing kind>
const std::uint32_t* pack_panels_bf16(const MatrixRef<const float>& b) {
  using bf16_pairs::width;
  const std::int64_t n = b.columns, depth = b.rows, panels = panels_bf16(n), size = panel_size_bf16(depth);
  std::uint32_t* packed = packing_buffer<std::uint32_t, kind>(panels * size);
  parallel_for(panels, 1 + 65536 / (width * depth + 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p)
      bf16_pairs::pack_panel(b.block(0, depth, p * width, n - p * width < width ? n - p * width : width), packed + p * size);
  });
  return packed;
}

/// Length of the blocks that an inner axis of k is summed in: equal parts, even ones; of none, one empty part.
inline std::int64_t depth_block_bf16(std::int64_t k) {
  const std::int64_t blocks = k <= bf16_pairs::most_depth ? 1 : (k + bf16_pairs::most_depth - 1) / bf16_pairs::most_depth;
  return k == 0 ? 2 : (k + 2 * blocks - 1) / (2 * blocks) * 2;
}

/// One tile: c = start + a·b for the panels [first, last) of b [k, n], which are in `packed` or, if that is null, taken from b; c null:
/// into a buffer, for the epilogue alone, which gets every block of c with its first column. k is summed in parts of `block`.
template <class Epilogue>
void gemm_bf16_tile(const MatrixRef<const std::uint32_t>& a, const MatrixRef<const float>& b, std::int64_t block, const std::uint32_t* packed,
                    std::int64_t first, std::int64_t last, const float* start, std::int64_t start_row, const MatrixRef<float>& c,
                    const Epilogue& epilogue) {
  using namespace bf16_pairs;
  const std::int64_t m = a.rows, n = b.columns, k = b.rows;
  const auto part = [&](std::int64_t panel, std::int64_t at) {  // of b
    return b.block(at, std::min(block, k - at), panel * width, std::min(width, n - panel * width));
  };
  for (std::int64_t panel = first; panel < last; ++panel) {
    const std::int64_t column = panel * width, columns = std::min(width, n - column);
    const MatrixRef<float> out =
        c.data ? c.block(0, m, column, columns) : MatrixRef<float>{packing_buffer<float, Packing::block_of_c>(m * width), m, columns, width, 1};
    for (std::int64_t at = 0; at == 0 || at < k; at += block) {
      const std::int64_t pairs = (part(panel, at).rows + 1) / 2;
      const std::uint32_t* pairs_of_b = packed ? packed + panel * panel_size_bf16(k) + at / 2 * width : nullptr;
      Ahead<float> ahead;
      if (!packed) {
        std::uint32_t* to = packing_buffer<std::uint32_t, Packing::panel_of_b>(pairs * width);
        pack_panel(part(panel, at), to);
        pairs_of_b = to;
        if (at + block < k) ahead = Ahead<float>(part(panel, at + block));
        else if (column + width < n) ahead = Ahead<float>(part(panel + 1, 0));
        ahead.spread((m + bf16_kernel_rows - 1) / bf16_kernel_rows);
      }
      const float* from = at > 0 ? out.data : start ? start + column : nullptr;
      const std::int64_t from_row = at > 0 ? out.row_stride : start_row;
      std::int64_t i = 0;
      const auto step = [&](auto rows_of_step) {
        constexpr int R = decltype(rows_of_step)::value;
        kernel_at_edge<R>(m - i < R ? m - i : R, columns, pairs, a.data + i * a.row_stride + at / 2 * a.column_stride, a.row_stride,
                          a.column_stride, pairs_of_b, from ? from + i * from_row : nullptr, from_row, out.data + i * out.row_stride,
                          out.row_stride);
        i += R;
        ahead.step();
      };
      while (m - i > 2 * rows_of_tail) step(std::integral_constant<int, bf16_kernel_rows>{});
      while (i < m) step(std::integral_constant<int, rows_of_tail>{});
    }
    epilogue(out, column);
  }
}

/// gemm_bf16 for at most few_rows rows of a, which are packed; b is packed by the thread that multiplies with it, and the memory of the
/// next panel asked for meanwhile, unless it is in `packed`. c and `epilogue` as in gemm_bf16_tile, with the block's first row, too.
template <class Epilogue = NoEpilogue>
void gemm_bf16_few_rows(const MatrixRef<const std::uint32_t>& a, const MatrixRef<const float>& b, const std::uint32_t* packed, const float* start,
                        std::int64_t start_row, const MatrixRef<float>& c, const Epilogue& epilogue = {}) {
  const std::int64_t m = a.rows, n = b.columns, panels = panels_bf16(n);
  for_tiles(choose_panels(m, panels, 2 * m * n * b.rows), m, panels, bf16_kernel_rows,
            [&](std::int64_t row, std::int64_t rows, std::int64_t first, std::int64_t last) {
              gemm_bf16_tile(a.block(row, rows, 0, a.columns), b, depth_block_bf16(b.rows), packed, first, last,
                             start ? start + row * start_row : nullptr, start_row, c.data ? c.block(row, rows, 0, n) : c,
                             [&](const MatrixRef<float>& out, std::int64_t column) { epilogue(out, row, column); });
            });
}

/// c = start + bf16(a)·bf16(b) where c has few rows or columns and both operands lie along k: packing would cost more than it helps.
inline void gemm_bf16_by_dots(const MatrixRef<const float>& a, const MatrixRef<const float>& b, const float* start, std::int64_t start_row,
                              const MatrixRef<float>& c) {
  parallel_for(c.rows * c.columns, 100'000 / (a.columns + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / c.columns, column = i % c.columns;
      const float sum = bf16_pairs::dot_product(a.data + row * a.row_stride, b.data + column * b.column_stride, a.columns);
      c.data[row * c.row_stride + column] = sum + (start ? start[row * start_row + column] : 0.0f);
    }
  });
}

/// c = start + bf16(a)·bf16(b) on several threads; a [m, k], b [k, n], c [m, n] with contiguous rows. `start` as in gemm_kernel.
/// Only where `has_bf16_products()`.
inline void gemm_bf16(const MatrixRef<const float>& a, const MatrixRef<const float>& b, const float* start, std::int64_t start_row,
                      const MatrixRef<float>& c) {
  using namespace bf16_pairs;
  const std::int64_t m = c.rows, n = c.columns, k = a.columns, panels = panels_bf16(n);
  if (m == 0 || n == 0) return;
  if ((m <= 2 || n <= 2) && a.column_stride == 1 && b.row_stride == 1) return gemm_bf16_by_dots(a, b, start, start_row, c);
  if (m <= few_rows && a.column_stride == 1) return gemm_bf16_few_rows(pack_rows_bf16(a), b, nullptr, start, start_row, c);
  // Whichever is smaller stays in cache from one block of k to the next: b, packed, or c. A tile's a stays in L2.
  const std::int64_t block = depth_block_bf16(k), span = k > 0 && k < 2 * m ? std::min(k, 4 * block) : block;
  Tiling tiles{(m + rows_of_tile - 1) / rows_of_tile, 1};
  if (num_threads() > 1) {  // columns, too, where rows alone give threads too little to share, of four million operations or more
    const std::int64_t wanted = 4 * num_threads() / tiles.rows, worth = 2 * m * n * span / tiles.rows / 4'000'000;
    tiles.columns = std::clamp(std::min(wanted, worth), std::int64_t(1), panels);
  }
  for (std::int64_t k0 = 0; k0 == 0 || k0 < k; k0 += span) {
    const std::int64_t depth = k - k0 < span ? k - k0 : span;
    const MatrixRef<const float> b_part = b.block(k0, depth, 0, n);
    const std::uint32_t* packed = pack_panels_bf16<Packing::whole_b>(b_part);
    const float* from = k0 == 0 ? start : c.data;
    const std::int64_t from_row = k0 == 0 ? start_row : c.row_stride;
    for_tiles(tiles, m, panels, bf16_kernel_rows, [&](std::int64_t row, std::int64_t rows, std::int64_t first, std::int64_t last) {
      gemm_bf16_tile(pack_rows_bf16(a.block(row, rows, k0, depth)), b_part, block, packed, first, last,
                     from ? from + row * from_row : nullptr, from_row, c.block(row, rows, 0, n), [](const MatrixRef<float>&, std::int64_t) {});
    });
  }
}
#undef TTT_AVX512_BF16
#else
inline bool has_bf16_products() { return false; }
template <Packing kind>
MatrixRef<std::uint32_t> pair_rows(std::int64_t, std::int64_t) { return {}; }
inline void store_pairs(const MatrixRef<const float>&, const MatrixRef<std::uint32_t>&, std::int64_t, std::int64_t) {}
inline MatrixRef<const std::uint32_t> pack_rows_bf16(const MatrixRef<const float>&) { return {}; }
template <Packing kind>
const std::uint32_t* pack_panels_bf16(const MatrixRef<const float>&) { return nullptr; }
template <class Epilogue = NoEpilogue>
void gemm_bf16_few_rows(const MatrixRef<const std::uint32_t>&, const MatrixRef<const float>&, const std::uint32_t*, const float*, std::int64_t,
                        const MatrixRef<float>&, const Epilogue& = {}) {}
inline void gemm_bf16(const MatrixRef<const float>&, const MatrixRef<const float>&, const float*, std::int64_t, const MatrixRef<float>&) {}
#endif

/// A copy of x with every number rounded to bf16, for processors without such products: [rows, columns], contiguous rows.
template <Packing kind>
MatrixRef<const float> rounded_to_bf16(const MatrixRef<const float>& x) {
  float* copy = packing_buffer<float, kind>(x.rows * x.columns);
  parallel_for(x.rows, 16384 / (x.columns + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t j = 0; j < x.columns; ++j) copy[i * x.columns + j] = float(bf16(x.data[i * x.row_stride + j * x.column_stride]));
  });
  return {copy, x.rows, x.columns, x.columns, 1};
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

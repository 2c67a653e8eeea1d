#pragma once
/// Products of two matrices with any strides, c = start + a·b: our own packed kernels, on vectors of the compiler.
/// Operations: 2·m·n·k. Bytes: b is copied once into panels of one or two vectors per row, for few rows of a by the thread that
/// multiplies with them; a only where its layout would make the kernel touch a new cache line for every number.
/// Every element of c is summed over k in one fixed order, by fused multiply-adds where the processor has them: the
/// result does not depend on tiles, and so neither on threads.

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

#include "tttlib/backend/cpu/vector.hpp"
#include "tttlib/core/parallel.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// One matrix: rows × columns with a stride for each.
template <class T>
struct MatrixRef {
  T* data;
  std::int64_t rows, columns, row_stride, column_stride;

  MatrixRef block(std::int64_t row, std::int64_t row_count, std::int64_t column, std::int64_t column_count) const {
    return {data + row * row_stride + column * column_stride, row_count, column_count, row_stride, column_stride};
  }
  MatrixRef transposed() const { return {data, columns, rows, column_stride, row_stride}; }
  /// Reading is always allowed.
  operator MatrixRef<const T>() const
    requires(!std::is_const_v<T>)
  {
    return {data, rows, columns, row_stride, column_stride};
  }
};
/// Contiguous rows of `width` numbers.
template <class T>
MatrixRef<T> rows_of(T* x, std::int64_t rows, std::int64_t width) {
  return {x, rows, width, width, 1};
}

inline constexpr int kernel_rows = vector_bytes == 64 ? 8 : 6;  // as many sums as registers hold
inline constexpr int tail_rows = 4;                             // of the kernel for what is left of the rows
inline constexpr std::int64_t depth_block = 384;                // a panel of b, depth_block × two vectors, stays in L1
inline constexpr std::int64_t packed_bytes = 4 << 20;           // of b at a time, so that it stays in the last cache
inline constexpr std::int64_t few_rows = 512;                   // of a, which stays in L2 while one panel after the other is packed and used

/// c [R, V vectors] = start + a [R, depth] · b [depth, V vectors]; start is null for zero, c itself to add to it, or a
/// row that all rows share (stride 0). All R·V partial sums live in registers.
template <int R, int V, class T>
void gemm_kernel(std::int64_t depth, const T* a, std::int64_t a_row, std::int64_t a_column, const T* b, std::int64_t b_row,
                 const T* start, std::int64_t start_row, T* c, std::int64_t c_row) {
  using Vector = typename VectorOf<T>::type;
  Vector sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
      sum[r][v] = start ? *reinterpret_cast<const Vector*>(start + r * start_row + v * lanes<T>) : Vector{};
  for (std::int64_t k = 0; k < depth; ++k, a += a_column, b += b_row) {
    Vector row[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) row[v] = *reinterpret_cast<const Vector*>(b + v * lanes<T>);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] += a[r * a_row] * row[v];
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(c + r * c_row + v * lanes<T>) = sum[r][v];
}

/// What a thread packs, each into memory of its own: of one kind and type it has one at a time.
enum class Packing {
  whole_b,       // all panels of a product's b
  panel_of_b,    // one of them
  rows_of_a,     // a tile's rows of a
  edge_rows,     // fewer than a kernel's
  block_of_c,    // what an epilogue alone is to see
  rounded_a,     // a in bf16
  rounded_b,
  first,         // an MLP's weights and hidden layer
  first_rounded,
  second,
  second_rounded,
  hidden,
  head,          // what the inner step of a head works with
  attention,     // or its attention
  convolution    // a convolution's weights
};
/// Memory that a thread keeps for what it packs, from a cache line's border.
template <class T, Packing kind>
T* packing_buffer(std::int64_t count) {
  constexpr std::size_t line = 64;
  thread_local std::vector<T> buffer;
  const std::size_t size = static_cast<std::size_t>(count) + line / sizeof(T);
  if (buffer.size() < size) buffer.resize(size);
  return reinterpret_cast<T*>((reinterpret_cast<std::uintptr_t>(buffer.data()) + line - 1) / line * line);
}

/// The same for `rows` ≤ R and `columns` ≤ V vectors: through a full tile beside c. Rows of a beyond the last are not read.
template <int R, int V, class T>
void gemm_edge(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a, std::int64_t a_row,
               std::int64_t a_column, const T* b, std::int64_t b_row, const T* start, std::int64_t start_row, T* c,
               std::int64_t c_row) {
  constexpr std::int64_t width = V * lanes<T>;
  alignas(64) T tile[R * width] = {};
  if (start)
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t j = 0; j < columns; ++j) tile[r * width + j] = start[r * start_row + j];
  if (rows < R) {
    T* padded = packing_buffer<T, Packing::edge_rows>(R * depth);
    for (std::int64_t k = 0; k < depth; ++k)
      for (std::int64_t r = 0; r < R; ++r) padded[k * R + r] = r < rows ? a[r * a_row + k * a_column] : T(0);
    a = padded, a_row = 1, a_column = R;
  }
  gemm_kernel<R, V>(depth, a, a_row, a_column, b, b_row, tile, width, tile, width);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; ++j) c[r * c_row + j] = tile[r * width + j];
}

/// Memory that is needed soon, asked for little by little between kernels: runs of numbers far apart, of which a processor does not
/// foresee the next.
template <class T>
class Ahead {
 public:
  Ahead() = default;  // nothing
  /// The rows of x, or its columns if those are side by side; nothing if neither are.
  explicit Ahead(const MatrixRef<const T>& x) {
    if (x.column_stride == 1) runs_ = x;
    else if (x.row_stride == 1) runs_ = x.transposed();
    lines_ = (runs_.columns + line - 1) / line;
  }
  /// Asks for a share at each of so many `step`s.
  void spread(std::int64_t steps) {
    share_ = runs_.rows * lines_ / std::max<std::int64_t>(steps, 1) + 1;
  }
  void step() {
    for (std::int64_t count = share_; count > 0 && run_ < runs_.rows; --count) {
      __builtin_prefetch(runs_.data + run_ * runs_.row_stride + at_ * line, 0, 2);
      if (++at_ == lines_) at_ = 0, ++run_;
    }
  }

 private:
  static constexpr std::int64_t line = 64 / sizeof(T);
  MatrixRef<const T> runs_{};
  std::int64_t lines_ = 0, share_ = 0, run_ = 0, at_ = 0;
};

/// All rows of a block against one panel of b, V vectors wide.
template <int V, class T>
void gemm_panel(const MatrixRef<const T>& a, const T* b, std::int64_t b_row, const T* start, std::int64_t start_row,
                const MatrixRef<T>& c, Ahead<T>& ahead) {
  const bool full = c.columns == V * lanes<T>;
  std::int64_t i = 0;
  const auto step = [&](auto rows_of_kernel) {
    constexpr int R = decltype(rows_of_kernel)::value;
    const std::int64_t rows = a.rows - i < R ? a.rows - i : R;
    const T* from = start ? start + i * start_row : nullptr;
    if (full && rows == R)
      gemm_kernel<R, V>(a.columns, a.data + i * a.row_stride, a.row_stride, a.column_stride, b, b_row, from, start_row,
                        c.data + i * c.row_stride, c.row_stride);
    else
      gemm_edge<R, V>(rows, c.columns, a.columns, a.data + i * a.row_stride, a.row_stride, a.column_stride, b, b_row, from,
                      start_row, c.data + i * c.row_stride, c.row_stride);
    i += rows;
    ahead.step();
  };
  while (a.rows - i > tail_rows) step(std::integral_constant<int, kernel_rows>{});
  while (i < a.rows) step(std::integral_constant<int, tail_rows>{});
}

/// Columns [first, first + count) of b as rows of `width` numbers, zeros behind the last: [b.rows, width].
template <class T>
void pack_panel(const MatrixRef<const T>& b, std::int64_t first, std::int64_t count, std::int64_t width, T* __restrict to) {
  constexpr std::int64_t strip = 16;  // rows at a time, a multiple of `lanes`, so that a transposed b is read and written by cache lines
  for (std::int64_t k0 = 0; k0 < b.rows; k0 += strip) {
    const std::int64_t k1 = k0 + strip < b.rows ? k0 + strip : b.rows;
    if (b.column_stride == 1) {
      for (std::int64_t k = k0; k < k1; ++k) {
        const T* __restrict from = b.data + k * b.row_stride + first;
        for (std::int64_t j = 0; j < count; ++j) to[k * width + j] = from[j];
      }
    } else {
      std::int64_t j = 0;
      if (b.row_stride == 1 && (k1 - k0) % lanes<T> == 0)
        for (; j + lanes<T> <= count; j += lanes<T>)
          for (std::int64_t k = k0; k < k1; k += lanes<T>)
            transpose_square<T>(b.data + (first + j) * b.column_stride + k, b.column_stride, to + k * width + j, width);
      for (; j < count; ++j) {
        const T* __restrict from = b.data + (first + j) * b.column_stride;
        for (std::int64_t k = k0; k < k1; ++k) to[k * width + j] = from[k * b.row_stride];
      }
    }
    for (std::int64_t k = k0; k < k1; ++k)
      for (std::int64_t j = count; j < width; ++j) to[k * width + j] = T(0);
  }
}

/// a [m, k] in groups of kernel_rows rows, each group as [k, rows of the group].
template <class T>
void pack_rows(const MatrixRef<const T>& a, T* __restrict to) {
  const std::int64_t depth = a.columns, whole = a.row_stride == 1 ? a.rows / kernel_rows * kernel_rows : 0;
  for (std::int64_t k = 0; k < depth; ++k) {  // all groups at once, so that a is read by cache lines
    const T* __restrict from = a.data + k * a.column_stride;
    for (std::int64_t i = 0; i < whole; i += kernel_rows)
      for (int r = 0; r < kernel_rows; ++r) to[i * depth + k * kernel_rows + r] = from[i + r];
  }
  for (std::int64_t i = whole; i < a.rows; i += kernel_rows) {
    const std::int64_t count = a.rows - i < kernel_rows ? a.rows - i : kernel_rows;
    for (std::int64_t k = 0; k < depth; ++k)
      for (std::int64_t r = 0; r < count; ++r) to[i * depth + k * count + r] = a.data[(i + r) * a.row_stride + k * a.column_stride];
  }
}

/// Σ a_k·b_k over contiguous numbers, in one vector of partial sums that are added in order.
template <class T>
T dot_product(const T* a, const T* b, std::int64_t depth) {
  using Vector = typename VectorOf<T>::type;
  Vector sum[4] = {};
  std::int64_t k = 0;
  for (; k + 4 * lanes<T> <= depth; k += 4 * lanes<T>)
    for (int v = 0; v < 4; ++v)
      sum[v] += *reinterpret_cast<const Vector*>(a + k + v * lanes<T>) * *reinterpret_cast<const Vector*>(b + k + v * lanes<T>);
  sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  T total = T(0);
  for (int i = 0; i < lanes<T>; ++i) total += sum[0][i];
  for (; k < depth; ++k) total += a[k] * b[k];
  return total;
}

/// c = start + a·b where c has few rows or columns and both operands lie along k: packing would cost more than it helps.
template <class T>
void gemm_by_dots(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const T* start, std::int64_t start_row,
                  const MatrixRef<T>& c) {
  parallel_for(c.rows * c.columns, 100'000 / (a.columns + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / c.columns, column = i % c.columns;
      const T sum = dot_product(a.data + row * a.row_stride, b.data + column * b.column_stride, a.columns);
      c.data[row * c.row_stride + column] = sum + (start ? start[row * start_row + column] : T(0));
    }
  });
}

/// Into how many tiles c is cut. What is computed for an element of c does not depend on it.
struct Tiling {
  std::int64_t rows, columns;
};

/// Tiles of about two million operations or more, a few for every thread; rows first, because every tile reads all its
/// panels of b, and so few rows that a tile of a stays in L2.
inline Tiling choose_tiles(std::int64_t m, std::int64_t panels, std::int64_t operations) {
  constexpr std::int64_t most_rows = 128;
  std::int64_t tiles = operations / 2'000'000 + 1;
  if (tiles > 4 * num_threads()) tiles = 4 * num_threads();
  if (num_threads() == 1) tiles = (m + most_rows - 1) / most_rows;
  Tiling t{tiles, 1};
  if (t.rows * 2 * kernel_rows > m) {
    t.rows = m / (2 * kernel_rows) + 1;
    t.columns = tiles / t.rows < panels ? tiles / t.rows : panels;
    if (t.columns < 1) t.columns = 1;
  }
  if ((m + t.rows - 1) / t.rows > most_rows) t.rows = (m + most_rows - 1) / most_rows;
  return t;
}

/// A tile for every panel, which is packed where it is used, and rows cut only as far as threads would get unequal shares.
inline Tiling choose_panels(std::int64_t m, std::int64_t panels, std::int64_t operations) {
  const std::int64_t threads = operations < 2'000'000 ? 1 : num_threads();
  const std::int64_t rows = panels >= 4 * threads ? 1 : threads / std::gcd(panels, threads);
  return {std::min(rows, m / (2 * kernel_rows) + 1), threads == 1 ? 1 : panels};
}

template <class T>
inline constexpr std::int64_t panel_width = 2 * lanes<T>;
/// Panels of a matrix of n columns.
template <class T>
constexpr std::int64_t panels_of(std::int64_t n) {
  return (n + panel_width<T> - 1) / panel_width<T>;
}

/// All panels of b [depth, n], one after the other, each `panel_width` wide (the last one may be half as wide).
template <class T, Packing kind = Packing::whole_b>
T* pack_panels(const MatrixRef<const T>& b) {
  constexpr std::int64_t width = panel_width<T>;
  const std::int64_t n = b.columns, depth = b.rows, panels = panels_of<T>(n);
  T* packed = packing_buffer<T, kind>(panels * width * depth);
  parallel_for(panels, 1 + 65536 / (width * depth + 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t columns = n - p * width < width ? n - p * width : width;
      pack_panel(b, p * width, columns, columns <= lanes<T> ? lanes<T> : width, packed + p * width * depth);
    }
  });
  return packed;
}

/// Calls run(row, rows, first, last) for every tile: so many rows of m from `row` on, by whole kernels of `unit` rows, and the
/// panels [first, last); on several threads.
template <class Run>
void for_tiles(const Tiling& tiles, std::int64_t m, std::int64_t panels, std::int64_t unit, const Run& run) {
  parallel_for(tiles.rows * tiles.columns, 1, [&](std::int64_t tile, std::int64_t) {
    const std::int64_t i = tile / tiles.columns, j = tile % tiles.columns;
    const auto border = [&](std::int64_t at) { return at == tiles.rows ? m : m * at / tiles.rows / unit * unit; };
    const std::int64_t row = border(i), rows = border(i + 1) - row;
    if (rows > 0) run(row, rows, j * panels / tiles.columns, (j + 1) * panels / tiles.columns);
  });
}

/// What a product may do with a block of c, at this row and column, as soon as it is complete: nothing.
struct NoEpilogue {
  template <class T>
  void operator()(const MatrixRef<T>&, std::int64_t, std::int64_t) const {}
};

/// One tile, from `row` of a whole c on: c = start + a·b for the panels [first, last) of b, which are in `packed` or, if that is
/// null, taken from b.
template <class T, class Epilogue = NoEpilogue>
void gemm_tile(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const T* packed, std::int64_t first, std::int64_t last,
               const T* start, std::int64_t start_row, const MatrixRef<T>& c, const Epilogue& epilogue = {},
               std::int64_t row = 0) {
  constexpr std::int64_t width = panel_width<T>;
  const std::int64_t rows = a.rows, n = b.columns;
  for (std::int64_t k0 = 0; k0 == 0 || k0 < a.columns; k0 += depth_block) {
    const std::int64_t depth = a.columns - k0 < depth_block ? a.columns - k0 : depth_block;
    const MatrixRef<const T> a_block = a.block(0, rows, k0, depth), b_block = b.block(k0, depth, 0, n);
    T* packed_a = nullptr;
    if (n > 2 * width && a.column_stride != 1) pack_rows(a_block, packed_a = packing_buffer<T, Packing::rows_of_a>(rows * depth));
    for (std::int64_t p = first; p < last; ++p) {
      const std::int64_t column = p * width, columns = n - column < width ? n - column : width;
      const bool narrow = columns <= lanes<T>;
      std::int64_t panel_row = narrow ? lanes<T> : width;
      const T* panel = packed ? packed + column * b.rows + k0 * panel_row : nullptr;
      const bool packs = !packed && (columns != panel_row || b.column_stride != 1);
      if (packs) {
        T* to = packing_buffer<T, Packing::panel_of_b>(panel_row * depth);
        pack_panel(b_block, column, columns, panel_row, to);
        panel = to;
      } else if (!packed) {
        panel = b_block.data + column, panel_row = b.row_stride;
      }
      Ahead<T> ahead;
      if (packs) {
        const std::int64_t next = p + 1 < last ? p + 1 : k0 + depth < a.columns ? first : last;  // whichever is packed next
        const std::int64_t next_k0 = p + 1 < last ? k0 : k0 + depth < a.columns ? k0 + depth : 0;
        if (next * width < n)
          ahead = Ahead<T>(b.block(next_k0, std::min(depth_block, a.columns - next_k0), next * width, std::min(width, n - next * width)));
        ahead.spread((rows + kernel_rows - 1) / kernel_rows);
      }
      const auto run = [&](const MatrixRef<const T>& a_rows, std::int64_t i) {
        const MatrixRef<T> out = c.block(i, a_rows.rows, column, columns);
        const T* from = k0 > 0 ? out.data : start ? start + i * start_row + column : nullptr;
        const std::int64_t from_row = k0 > 0 ? c.row_stride : start_row;
        if (narrow) gemm_panel<1>(a_rows, panel, panel_row, from, from_row, out, ahead);
        else gemm_panel<2>(a_rows, panel, panel_row, from, from_row, out, ahead);
      };
      if (!packed_a) run(a_block, 0);
      else
        for (std::int64_t i = 0; i < rows; i += kernel_rows) {
          const std::int64_t count = rows - i < kernel_rows ? rows - i : kernel_rows;
          run({packed_a + i * depth, count, depth, 1, count}, i);
        }
      if (k0 + depth == a.columns) epilogue(c.block(0, rows, column, columns), row, column);
    }
  }
}

/// All tiles of c, on several threads; `packed` as in gemm_tile.
template <class T, class Epilogue = NoEpilogue>
void gemm_tiles(const Tiling& tiles, const MatrixRef<const T>& a, const MatrixRef<const T>& b, const T* packed, const T* start,
                std::int64_t start_row, const MatrixRef<T>& c, const Epilogue& epilogue = {}) {
  for_tiles(tiles, c.rows, panels_of<T>(c.columns), kernel_rows, [&](std::int64_t row, std::int64_t rows, std::int64_t first, std::int64_t last) {
    gemm_tile(a.block(row, rows, 0, a.columns), b, packed, first, last, start ? start + row * start_row : nullptr, start_row,
              c.block(row, rows, 0, c.columns), epilogue, row);
  });
}

/// gemm for at most few_rows rows of a, which lie along k: every panel of b is packed by the thread that multiplies with it, and the
/// memory of the next one is asked for meanwhile. `epilogue` gets every block of c that is complete.
template <class T, class Epilogue = NoEpilogue>
void gemm_few_rows(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const T* start, std::int64_t start_row, const MatrixRef<T>& c,
                   const Epilogue& epilogue = {}) {
  const Tiling tiles = choose_panels(c.rows, panels_of<T>(c.columns), 2 * c.rows * c.columns * a.columns);
  gemm_tiles(tiles, a, b, static_cast<const T*>(nullptr), start, start_row, c, epilogue);
}

/// c = start + a·b on several threads; a [m, k], b [k, n], c [m, n] with contiguous rows. `start` as in gemm_kernel.
template <class T>
void gemm(const MatrixRef<const T>& a, const MatrixRef<const T>& b, const T* start, std::int64_t start_row,
          const MatrixRef<T>& c) {
  const std::int64_t m = c.rows, n = c.columns, k = a.columns;
  if (m == 0 || n == 0) return;
  if ((m <= 2 || n <= 2) && a.column_stride == 1 && b.row_stride == 1) return gemm_by_dots(a, b, start, start_row, c);
  // Few rows do not pay for a copy of b, and short rows of b lie close enough together as they are.
  const bool direct = b.column_stride == 1 && (m <= 2 * kernel_rows || b.row_stride <= 2 * panel_width<T>);
  if (!direct && m <= few_rows && a.column_stride == 1) return gemm_few_rows(a, b, start, start_row, c);
  const std::int64_t blocks = packed_bytes / (n * depth_block * static_cast<std::int64_t>(sizeof(T)));
  const std::int64_t most = direct && k > 0 ? k : (blocks > 1 ? blocks : 1) * depth_block;  // rows of b that are packed at a time
  for (std::int64_t k0 = 0; k0 == 0 || k0 < k; k0 += most) {
    const std::int64_t depth = k - k0 < most ? k - k0 : most;
    const MatrixRef<const T> b_part = b.block(k0, depth, 0, n);
    const T* packed = direct ? nullptr : pack_panels(b_part);
    const T* from = k0 == 0 ? start : c.data;
    const std::int64_t from_row = k0 == 0 ? start_row : c.row_stride;
    gemm_tiles(choose_tiles(m, panels_of<T>(n), 2 * m * n * depth), a.block(0, m, k0, depth), b_part, packed, from, from_row, c);
  }
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

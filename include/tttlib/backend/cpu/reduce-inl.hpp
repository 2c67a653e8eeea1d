#pragma once
/// Reductions over any set of axes. Chunks are cut by size only and partial results are combined in order, so the
/// same input gives the same bits at any thread count. Bytes: the input once.

#include <vector>

#include "tttlib/backend/cpu/elementwise-inl.hpp"
#include "tttlib/backend/cpu/vector.hpp"
#include "tttlib/kernels/reductions.hpp"

TTT_INDEPENDENT_BEGIN
namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

using reduction::Max, reduction::Min, reduction::Sum;

/// The lanes of a register combined: halves folded onto each other, without leaving the register.
template <class R, class T, std::int64_t width = lanes<T> / 2, std::int64_t... lane>
T fold_lanes(typename VectorOf<T>::type x, std::integer_sequence<std::int64_t, lane...> all) {
  using Vector = typename VectorOf<T>::type;
  if constexpr (width == 0) return x[0];
  else return fold_lanes<R, T, width / 2>(R::combine(x, Vector(__builtin_shufflevector(x, x, (lane + width) % lanes<T>...))), all);
}
/// Registers combined by halves, then their lanes.
template <class R, class T, int registers>
T fold_registers(typename VectorOf<T>::type (&partial)[registers]) {
  for (int half = registers / 2; half > 0; half /= 2)
    for (int r = 0; r < half; ++r) partial[r] = R::combine(partial[r], partial[r + half]);
  return fold_lanes<R, T>(partial[0], std::make_integer_sequence<std::int64_t, lanes<T>>{});
}
/// Numbers side by side reduced, in as many interleaved partial results as 128 bytes hold, whatever the width of registers; 256
/// for extrema, where the order of combining does not show and each step waits for the last.
template <class R, class T>
T reduce_neighbours(const T* x, std::int64_t n) {
  using Vector = typename VectorOf<T>::type;
  constexpr int registers = (std::is_same_v<R, reduction::Sum> ? 128 : 256) / vector_bytes;
  constexpr std::int64_t step = registers * lanes<T>;
  alignas(vector_bytes) Vector partial[registers];
  for (int r = 0; r < registers; ++r) partial[r] = Vector{} + R::template identity<T>();
  std::int64_t i = 0;
  for (; i + step <= n; i += step)
    for (int r = 0; r < registers; ++r) partial[r] = R::combine(partial[r], *reinterpret_cast<const Vector*>(x + i + r * lanes<T>));
  T total = R::template identity<T>();
  if constexpr (std::is_same_v<R, reduction::Sum>)
    for (; i < n; ++i) total = R::combine(total, x[i]);
  else  // the last registers may overlap: what is seen twice is the same extremum
    for (int r = 0; i < n; i += lanes<T>, ++r)
      partial[r] = R::combine(partial[r], *reinterpret_cast<const Vector*>(x + (i + lanes<T> <= n ? i : n - lanes<T>)));
  return R::combine(total, fold_registers<R, T>(partial));
}
/// Reduces n numbers `stride` apart.
template <class R, class T>
T reduce_run(const T* x, std::int64_t n, std::int64_t stride) {
  if constexpr (std::is_floating_point_v<T>)
    if (stride == 1 && n * static_cast<std::int64_t>(sizeof(T)) >= 128) return reduce_neighbours<R>(x, n);
  T total = R::template identity<T>();
  for (std::int64_t i = 0; i < n; ++i) total = R::combine(total, x[i * stride]);
  return total;
}

/// sums [K] = Σ of the terms [K] that f(i, terms) sets, over i < n, in as many interleaved sums as 128 bytes hold. f may also write
/// what belongs to i.
template <class T, int K, class F>
void sum_terms(std::int64_t n, T (&sums)[K], const F& f) {
  using Vector = typename VectorOf<T>::type;
  constexpr int registers = 128 / vector_bytes;
  constexpr std::int64_t width = registers * lanes<T>;
  alignas(vector_bytes) T partial[K][width] = {};
  const auto add_terms = [&](std::int64_t i, std::int64_t lane) {
    T terms[K];
    f(i, terms);
    for (int k = 0; k < K; ++k) partial[k][lane] += terms[k];
  };
  std::int64_t begin = 0;
  for (; begin + width <= n; begin += width) {
    TTT_INDEPENDENT
    for (std::int64_t lane = 0; lane < width; ++lane) add_terms(begin + lane, lane);
  }
  if (begin < n) {
    TTT_INDEPENDENT
    for (std::int64_t lane = 0; lane < width; ++lane)  // of a length known to the compiler: one masked block
      if (begin + lane < n) add_terms(begin + lane, lane);
  }
  for (int k = 0; k < K; ++k) {
    Vector folded[registers];
    for (int r = 0; r < registers; ++r) folded[r] = *reinterpret_cast<const Vector*>(&partial[k][r * lanes<T>]);
    sums[k] = fold_registers<reduction::Sum, T>(folded);
  }
}
/// The sum of f(i) over i < n.
template <class T, class F>
T sum_of(std::int64_t n, const F& f) {
  T sum[1];
  sum_terms(n, sum, [&](std::int64_t i, T* term) { term[0] = f(i); });
  return sum[0];
}

/// y [rows] from x walked as [rows, reduced…]: one output at a time.
template <class R, class T>
void reduce_rows(const Walk<2>& kept, const Walk<1>& reduced, const T* x, T* y) {
  const std::int64_t inner = reduced.inner(), outer = reduced.outer(), per_output = inner * outer;
  const std::int64_t outputs = kept.inner() * kept.outer();
  constexpr std::int64_t piece = 8192;
  auto one = [&](const T* base, std::int64_t first, std::int64_t last) {  // outer rows [first, last) of one output
    T total = R::template identity<T>();
    reduced.rows(first, last, [&](const std::int64_t* at) {
      for (std::int64_t i = 0; i < inner; i += piece)
        total = R::combine(total, reduce_run<R>(base + at[0] + i * reduced.inner_stride(0),
                                                inner - i < piece ? inner - i : piece, reduced.inner_stride(0)));
    });
    return total;
  };
  if (outputs <= 4 && per_output > 4 * piece) {  // few long sums: split each into fixed pieces
    const bool split_inner = outer == 1;
    const std::int64_t length = split_inner ? inner : outer;
    const std::int64_t grain = split_inner ? 4 * piece : 4 * piece / inner + 1;
    const std::int64_t parts = (length + grain - 1) / grain;
    kept.rows(0, kept.outer(), [&](const std::int64_t* at) {
      for (std::int64_t o = 0; o < kept.inner(); ++o) {
        const T* base = x + at[1] + o * kept.inner_stride(1);
        std::vector<T> partial(static_cast<std::size_t>(parts));
        parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
          const std::int64_t first = part * grain, last = first + grain < length ? first + grain : length;
          partial[static_cast<std::size_t>(part)] =
              split_inner ? reduce_run<R>(base + first * reduced.inner_stride(0), last - first, reduced.inner_stride(0))
                          : one(base, first, last);
        });
        T total = R::template identity<T>();
        for (T p : partial) total = R::combine(total, p);
        y[at[0] + o * kept.inner_stride(0)] = total;
      }
    });
    return;
  }
  const std::int64_t columns = kept.inner();
  parallel_for(outputs, elementwise_grain / (per_output + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end;) {
      const std::int64_t row = o / columns, column = o % columns;
      const std::int64_t count = columns - column < end - o ? columns - column : end - o;
      kept.rows(row, row + 1, [&](const std::int64_t* at) {
        for (std::int64_t c = column; c < column + count; ++c)
          y[at[0] + c * kept.inner_stride(0)] = one(x + at[1] + c * kept.inner_stride(1), 0, outer);
      });
      o += count;
    }
  });
}

/// Same result where x runs contiguously along the kept axis: whole rows are combined, e.g. bias gradients.
template <class R, class T>
void reduce_columns(const Walk<2>& kept, const Walk<1>& reduced, const T* x, T* y) {
  const std::int64_t columns = kept.inner(), sy = kept.inner_stride(0);
  const std::int64_t reduced_rows = reduced.inner() * reduced.outer();
  Strides plain = reduced.strides[0];
  Shape shape = reduced.shape;
  plain.push_back(1);
  shape.push_back(1);  // so that `rows` visits every reduced element
  Walk<1> visit = reduced;
  visit.shape = shape;
  visit.strides[0] = plain;
  const std::int64_t grain = 4 * elementwise_grain / columns + 1;
  const std::int64_t parts = (reduced_rows + grain - 1) / grain;
  auto accumulate = [&](const T* base, std::int64_t first, std::int64_t last, T* __restrict total) {
    for (std::int64_t c = 0; c < columns; ++c) total[c] = R::template identity<T>();
    visit.rows(first, last, [&](const std::int64_t* at) {
      const T* __restrict row = base + at[0];
      for (std::int64_t c = 0; c < columns; ++c) total[c] = R::combine(total[c], row[c]);
    });
  };
  const std::int64_t kept_rows = kept.outer();
  parallel_for(parts == 1 ? kept_rows : 1, elementwise_grain / (reduced_rows * columns + 1) + 1,
               [&](std::int64_t begin, std::int64_t end) {
    if (parts > 1) begin = 0, end = kept_rows;
    kept.rows(begin, end, [&](const std::int64_t* at) {
      std::vector<T> partial(static_cast<std::size_t>(parts * columns));
      const T* base = x + at[1];
      parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
        const std::int64_t last = (part + 1) * grain;
        accumulate(base, part * grain, last < reduced_rows ? last : reduced_rows, partial.data() + part * columns);
      });
      for (std::int64_t c = 0; c < columns; ++c) {
        T total = partial[static_cast<std::size_t>(c)];
        for (std::int64_t part = 1; part < parts; ++part)
          total = R::combine(total, partial[static_cast<std::size_t>(part * columns + c)]);
        y[at[0] + c * sy] = total;
      }
    });
  });
}

template <class R, class T>
void reduce_with(View<const T> x, View<T> y) {
  const backend::ReducedAxes axes(x.shape, x.strides, y.shape, y.strides);
  if (numel(axes.kept) == 0) return;
  if (numel(axes.reduced) == 0) return fill(y, R::template identity<T>());
  const Walk<2> kept(axes.kept, {axes.kept_y, axes.kept_x});
  const Walk<1> reduced(axes.reduced, {axes.reduced_x});
  const bool columns = kept.inner() > 1 && kept.inner_stride(1) == 1 && reduced.inner_stride(0) != 1;
  if (columns) reduce_columns<R>(kept, reduced, x.data, y.data);
  else reduce_rows<R>(kept, reduced, x.data, y.data);
}

template <class T>
void reduce(Reduction kind, View<const T> x, View<T> y) {
  switch (kind) {
    case Reduction::sum: return reduce_with<Sum>(x, y);
    case Reduction::max: return reduce_with<Max>(x, y);
    case Reduction::min: return reduce_with<Min>(x, y);
  }
}

template <class T>
void arg_reduce(Reduction kind, View<const T> x, std::size_t axis, View<std::int64_t> y) {
  Shape kept = x.shape;
  Strides sx = x.strides, sy = y.strides;
  const std::int64_t n = x.shape[axis], stride = x.strides[axis];
  kept[axis] = 1;
  const Walk<2> walk(kept, {sy, sx});
  walk.parallel([&](const std::int64_t* at, std::int64_t count) {
    for (std::int64_t c = 0; c < count; ++c) {
      const T* run = x.data + at[1] + c * walk.inner_stride(1);
      std::int64_t best = 0;
      for (std::int64_t i = 1; i < n; ++i) {
        if (reduction::overtakes(run[i * stride], run[best * stride], kind == Reduction::max)) best = i;
      }
      y.data[at[0] + c * walk.inner_stride(0)] = best;
    }
  });
}

template <class T>
void cumsum(View<const T> x, std::size_t axis, bool reverse, View<T> y) {
  Shape rest = x.shape;
  rest[axis] = 1;
  if (x.numel() == 0) return;
  const Walk<2> walk(rest, {y.strides, x.strides});
  const std::int64_t n = x.shape[axis], sx = x.strides[axis], sy = y.strides[axis];
  walk.parallel([&](const std::int64_t* at, std::int64_t count) {
    for (std::int64_t c = 0; c < count; ++c) {
      const T* in = x.data + at[1] + c * walk.inner_stride(1);
      T* out = y.data + at[0] + c * walk.inner_stride(0);
      T total = T(0);
      for (std::int64_t j = 0; j < n; ++j) {
        const std::int64_t i = reverse ? n - 1 - j : j;
        total += in[i * sx];
        out[i * sy] = total;
      }
    }
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
TTT_INDEPENDENT_END

#pragma once
/// Reductions over any set of axes, arg-reductions and running sums. Where the kept axis is the contiguous one, neighbouring threads
/// have neighbouring outputs; else a block has one output to itself, or a thread if little is summed. Long sums of few outputs are cut
/// into parts by shape and layout only, and a second kernel combines the parts: trees of one shape, no atomics, the same bits every
/// time. Bytes: the input once, and twice the partial results. Operations: one a number.

#include <algorithm>

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/cuda/walk.hpp"
#include "tttlib/backend/table.hpp"
#include "tttlib/kernels/reductions.hpp"

namespace ttt::cuda_backend {

/// Results of neighbouring threads side by side in x, N each: a block has `columns` packs of outputs and as many lanes for each as its
/// threads allow, lane l with positions l, l + lanes, … of the part, a tree over the lanes. To y, or to partial [parts, outputs].
/// `flat`: the reduced positions are one axis.
template <class R, class T, int N, bool flat>
struct ReduceColumns {
  const T* x;
  T *y, *partial;
  Walk<2> kept;     // y, x
  Walk<1> reduced;  // x
  std::int64_t groups, length;
  int columns;
  static constexpr int in_flight = flat ? 8 : 4;
  TTT_DEVICE void operator()(Block& block) const {
    const int lanes = block.threads() / columns;
    Pack<T, N>* totals = block.shared<Pack<T, N>>(block.threads());  // [lanes, columns]
    const std::int64_t part = block.index() / groups, first_output = (block.index() - part * groups) * columns * N;
    block.each_thread([&](int t) {
      const int lane = t / columns;
      const std::int64_t output = first_output + (t - lane * columns) * N, begin = part * length;
      Pack<T, N> total = same_pack<N>(R::template identity<T>());
      if (output < kept.count) {
        const std::int64_t left = begin + length < reduced.count ? length : reduced.count - begin, step = reduced.strides[0][0];
        const T* from = x + kept(output)[1];
        if (flat) from += (begin + lane) * step;
        const auto next = [&](std::int64_t i, auto all) {  // positions i, i + lanes, … of those left
          Pack<T, N> numbers[in_flight];
          unrolled<in_flight>([&](int k) {
            const std::int64_t position = i + k * lanes;
            const T* at = flat ? from + k * (lanes * step) : from + reduced(begin + position)[0];
            numbers[k] = all || position < left ? load_pack<N>(at) : same_pack<N>(R::template identity<T>());
          });
          unrolled<in_flight>([&](int k) { unrolled<N>([&](int j) { total[j] = R::combine(total[j], numbers[k][j]); }); });
          from += flat ? in_flight * lanes * step : 0;
        };
        std::int64_t i = lane;
        for (; i + (in_flight - 1) * lanes < left; i += in_flight * lanes) next(i, std::true_type{});
        if (i < left) next(i, std::false_type{});
      }
      totals[t] = total;
    });
    for (int width = lanes / 2 * columns; width >= columns; width /= 2)
      block.each_thread([&](int t) {
        if (t >= width) return;
        Pack<T, N> total = totals[t];
        unrolled<N>([&](int j) { total[j] = R::combine(total[j], totals[t + width][j]); });
        totals[t] = total;
      });
    block.each_thread([&](int t) {
      const std::int64_t output = first_output + t * N;
      if (t >= columns || output >= kept.count) return;
      T* to = partial ? partial + part * kept.count + output : y + kept(output)[0];
      const std::int64_t step = partial ? 1 : kept.inner_stride(0);
      unrolled<N>([&](int j) { to[j * step] = totals[t][j]; });
    });
  }
};
/// y = the outputs of `kept` (y, x), each combined from x at the positions of `reduced`; partial: as above, or null with one part.
template <class R, int N, class L, class T>
void reduce_columns(const L& run, const T* x, T* y, T* partial, const Walk<2>& kept, const Walk<1>& reduced, std::int64_t length, int columns) {
  const std::int64_t groups = (kept.count / N + columns - 1) / columns, parts = partial ? (reduced.count + length - 1) / length : 1;
  const auto start = [&]<bool flat>(std::bool_constant<flat>) {
    run.blocks(groups * parts, block_threads, shared_size<Pack<T, N>>(block_threads),
               ReduceColumns<R, T, N, flat>{x, y, partial, kept, reduced, groups, length, columns});
  };
  if (reduced.rank == 1) start(std::true_type{});
  else start(std::false_type{});
}
/// Packs of outputs of a block, of `packs` in all, each with n positions: at most `most`, if every lane then has at least `least` positions.
inline int column_packs(std::int64_t packs, std::int64_t n, int most, int least) {
  int columns = most;
  while (columns > 1 && columns / 2 >= packs) columns /= 2;
  while (columns < block_threads && block_threads / columns * least > n) columns *= 2;
  return columns;
}
/// True if packs of N outputs are packs of x at every position.
template <int N, class T>
bool columns_in_packs(const T* x, const Walk<2>& kept, const Walk<1>& reduced) {
  const bool whole = kept.shape[kept.rank - 1] % N == 0 && reduced.whole(0, N);
  return whole && kept.inner_stride(1) == 1 && kept.in_packs(1, N) && aligned<N>(x);
}
/// y [shape] = parts of partial combined by R; partial has those axes in `partial_strides` and its parts `step` numbers apart. Few outputs
/// go in groups of 8, so that many blocks share the work; many are a pass at the speed of memory.
template <class R, class L, class T>
void combine_parts(const L& run, const T* partial, std::int64_t parts, std::int64_t step, const Strides& partial_strides, const Shape& shape, T* y,
                   const Strides& y_strides) {
  constexpr int N = pack_size<T>;
  const Walk<2> kept(shape, {y_strides, partial_strides});
  const Walk<1> reduced({parts}, {Strides{step}});
  const std::int64_t outputs = kept.count;
  const bool many = outputs >= 64 * block_threads;
  T* const nowhere = nullptr;
  if (outputs == 0) return;
  if (many && columns_in_packs<N>(partial, kept, reduced))
    reduce_columns<R, N>(run, partial, y, nowhere, kept, reduced, parts, column_packs(outputs / N, parts, 32, 2));
  else reduce_columns<R, 1>(run, partial, y, nowhere, kept, reduced, parts, column_packs(outputs, parts, many ? 32 : 8, 2));
}
/// The same with sums.
template <class L, class T>
void sum_parts(const L& run, const T* partial, std::int64_t parts, std::int64_t step, const Strides& partial_strides, const Shape& shape, T* y,
               const Strides& y_strides) {
  combine_parts<reduction::Sum>(run, partial, parts, step, partial_strides, shape, y, y_strides);
}

/// Which reduced positions belong to an output's part, and where its result goes.
template <class T>
struct ReducePart {
  const T* x;
  T *y, *partial;
  Walk<2> kept;     // y, x
  Walk<1> reduced;  // x
  std::int64_t parts, length;

  struct Range {
    const T* x;
    std::int64_t first, count;
    T* result;
  };
  TTT_DEVICE Range range(std::int64_t item) const {
    const std::int64_t part = item / kept.count, output = item - part * kept.count, first = part * length;
    const Offsets<2> at = kept(output);
    const std::int64_t count = first + length < reduced.count ? length : reduced.count - first;
    return {x + at[1], first, count, parts == 1 ? y + at[0] : partial + item};
  }
};
template <class R, class T>
struct ReduceByThread {
  ReducePart<T> part;
  TTT_DEVICE void operator()(std::int64_t item) const {
    const auto range = part.range(item);
    T total = R::template identity<T>();
    for (std::int64_t i = 0; i < range.count; ++i) total = R::combine(total, range.x[part.reduced(range.first + i)[0]]);
    *range.result = total;
  }
};
template <class R, class T>
struct ReduceByBlock {
  ReducePart<T> part;
  TTT_DEVICE void operator()(Block& block) const {
    T* scratch = block.shared<T>(block.threads());
    for (std::int64_t item = block.index(); item < part.kept.count * part.parts; item += block.count()) {
      const auto range = part.range(item);
      const T total = reduce_items<R>(block, range.count, scratch, [&](std::int64_t i) { return range.x[part.reduced(range.first + i)[0]]; });
      block.each_thread([&](int t) {
        if (t == 0) *range.result = total;
      });
    }
  }
};

template <class R, class L, class T>
void reduce_with(View<const T> x, View<T> y) {
  const L run("reduce", y.device);
  const backend::ReducedAxes axes(x.shape, x.strides, y.shape, y.strides);
  const Walk<2> kept(axes.kept, {axes.kept_y, axes.kept_x});
  const Walk<1> reduced(axes.reduced, {axes.reduced_x});
  const std::int64_t outputs = kept.count, n = reduced.count;
  if (outputs == 0) return;
  const bool by_columns = outputs > 1 && kept.inner_stride(1) == 1 && reduced.inner_stride(0) != 1, by_thread = !by_columns && n <= 32;
  constexpr int N = pack_size<T>;
  const bool in_packs = by_columns && columns_in_packs<N>(x.data, kept, reduced);
  const int columns = column_packs(in_packs ? outputs / N : outputs, n, 32, 8);
  const std::int64_t items = by_columns ? (outputs + columns * (in_packs ? N : 1) - 1) / (columns * (in_packs ? N : 1)) : outputs;
  // Enough blocks for every place of a large GPU, and enough to do for each thread.
  const std::int64_t wanted = 1584 / items, most = by_columns ? n / (8 * (block_threads / columns)) : by_thread ? 1 : n / 4096;
  std::int64_t parts = std::clamp<std::int64_t>(std::min(wanted, most), 1, 1024);
  const std::int64_t length = (n + parts - 1) / parts;
  if (length > 0) parts = (n + length - 1) / length;
  const Scratch<L, T> partial(run, parts > 1 ? parts * outputs : 0);
  const ReducePart<T> part{x.data, y.data, partial.data(), kept, reduced, parts, length};
  if (in_packs) reduce_columns<R, N>(run, x.data, y.data, partial.data(), kept, reduced, length, columns);
  else if (by_columns) reduce_columns<R, 1>(run, x.data, y.data, partial.data(), kept, reduced, length, columns);
  else if (by_thread) for_each(run, outputs, ReduceByThread<R, T>{part});
  else run.blocks(std::min<std::int64_t>(outputs * parts, 65535), block_threads, shared_size<T>(block_threads), ReduceByBlock<R, T>{part});
  if (parts > 1) combine_parts<R>(run, partial.data(), parts, outputs, contiguous_strides(axes.kept), axes.kept, y.data, axes.kept_y);
}
template <class L, class T>
void reduce(Reduction kind, View<const T> x, View<T> y) {
  switch (kind) {
    case Reduction::sum: return reduce_with<reduction::Sum, L>(x, y);
    case Reduction::max: return reduce_with<reduction::Max, L>(x, y);
    case Reduction::min: return reduce_with<reduction::Min, L>(x, y);
  }
}

template <class T>
struct ArgReduce {
  const T* x;
  std::int64_t* y;
  Walk<2> lines;  // y, x
  std::int64_t n, stride;
  bool largest;
  TTT_DEVICE void operator()(std::int64_t line) const {
    const Offsets<2> at = lines(line);
    const T* run = x + at[1];
    std::int64_t best = 0;
    for (std::int64_t i = 1; i < n; ++i)
      if (reduction::overtakes(run[i * stride], run[best * stride], largest)) best = i;
    y[at[0]] = best;
  }
};
template <class L, class T>
void arg_reduce(Reduction kind, View<const T> x, std::size_t axis, View<std::int64_t> y) {
  Shape lines = x.shape;
  lines[axis] = 1;
  const Walk<2> walk(lines, {y.strides, x.strides});
  for_each(L("arg_reduce", y.device), walk.count,
           ArgReduce<T>{x.data, y.data, walk, x.shape[axis], x.strides[axis], kind == Reduction::max});
}

template <class T>
struct CumulativeSum {
  const T* x;
  T* y;
  Walk<2> lines;  // y, x
  std::int64_t n, step_y, step_x;
  bool reverse;
  TTT_DEVICE void operator()(std::int64_t line) const {
    const Offsets<2> at = lines(line);
    T total = T(0);
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t i = reverse ? n - 1 - j : j;
      total += x[at[1] + i * step_x];
      y[at[0] + i * step_y] = total;
    }
  }
};
template <class L, class T>
void cumsum(View<const T> x, std::size_t axis, bool reverse, View<T> y) {
  Shape lines = x.shape;
  lines[axis] = 1;
  const Walk<2> walk(lines, {y.strides, x.strides});
  for_each(L("cumsum", y.device), walk.count,
           CumulativeSum<T>{x.data, y.data, walk, x.shape[axis], y.strides[axis], x.strides[axis], reverse});
}

template <class L, class T>
void add_sums(Verbs<T>& verbs) {
  verbs.reduce = reduce<L, T>;
  verbs.cumsum = cumsum<L, T>;
}
template <class L, class T>
void add_reductions(Verbs<T>& verbs) {
  add_sums<L>(verbs);
  verbs.arg_reduce = arg_reduce<L, T>;
}

}  // namespace ttt::cuda_backend

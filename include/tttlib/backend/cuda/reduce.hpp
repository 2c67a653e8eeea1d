#pragma once
/// Reductions over any set of axes, arg-reductions and running sums. Where the kept axis is the contiguous one, or little
/// is summed, a thread has one output to itself; else a block has. Long sums of few outputs are cut into parts by shape
/// and layout only, and the parts are combined in order by a second kernel: no atomics, the same bits every time.
/// Bytes: the input once, and twice the partial results.

#include <algorithm>

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/cuda/walk.hpp"
#include "tttlib/backend/table.hpp"
#include "tttlib/kernels/reductions.hpp"

namespace ttt::cuda_backend {

/// y[..] = parts of it, `step` numbers apart, combined by R in order; the walk has y and the first part.
template <class R, class T>
struct CombineParts {
  const T* partial;
  std::int64_t parts, step;
  T* y;
  Walk<2> walk;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const Offsets<2> at = walk(i);
    T total = R::template identity<T>();
    for (std::int64_t part = 0; part < parts; ++part) total = R::combine(total, partial[part * step + at[1]]);
    y[at[0]] = total;
  }
};
/// y [shape] = Σ over parts of partial, which has those axes in `partial_strides` and its parts `step` numbers apart.
template <class L, class T>
void sum_parts(const L& run, const T* partial, std::int64_t parts, std::int64_t step, const Strides& partial_strides, const Shape& shape, T* y,
               const Strides& y_strides) {
  const Walk<2> walk(shape, {y_strides, partial_strides});
  for_each(run, walk.count, CombineParts<reduction::Sum, T>{partial, parts, step, y, walk});
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
  const bool by_thread = n <= 32 || (outputs > 1 && kept.inner_stride(1) == 1 && reduced.inner_stride(0) != 1);
  // Enough parts to fill a large GPU, and each with enough to do.
  const std::int64_t wanted = (by_thread ? 1 << 16 : 1 << 10) / outputs, most = n / (by_thread ? 64 : 4096);
  const std::int64_t parts = std::clamp<std::int64_t>(std::min(wanted, most), 1, 1024), length = (n + parts - 1) / parts;
  const Scratch<L, T> partial(run, parts > 1 ? parts * outputs : 0);
  const ReducePart<T> part{x.data, y.data, partial.data(), kept, reduced, parts, length};
  if (by_thread) for_each(run, outputs * parts, ReduceByThread<R, T>{part});
  else run.blocks(std::min<std::int64_t>(outputs * parts, 65535), block_threads, shared_size<T>(block_threads), ReduceByBlock<R, T>{part});
  if (parts == 1) return;
  const Walk<2> walk(axes.kept, {axes.kept_y, contiguous_strides(axes.kept)});
  for_each(run, outputs, CombineParts<R, T>{partial.data(), parts, outputs, y.data, walk});
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

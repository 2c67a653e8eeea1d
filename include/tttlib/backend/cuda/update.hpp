#pragma once
/// Random fills, the AdamW update of many parameters, and the norm over many gradients: one pass each.
/// Element i of a fill (row-major, contiguous) takes number i of its stream.
/// Bytes: a fill writes once; an update reads four and writes three numbers per element; the norm reads one.

#include <vector>

#include "tttlib/backend/adamw.hpp"
#include "tttlib/backend/cuda.hpp"
#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/kernels/draws.hpp"
#include "tttlib/kernels/reductions.hpp"

namespace ttt::cuda_backend {

template <class Draw, class T>
struct FillFrom {
  Draw draw;
  T* y;
  const std::int64_t* stream_offset;  // of a graph, or null
  TTT_DEVICE void operator()(std::int64_t i) const {
    Draw now = draw;
    if (stream_offset) now.stream += static_cast<std::uint64_t>(*stream_offset);
    y[i] = now(static_cast<std::uint64_t>(i));
  }
};
/// Number i of y's from `draw`, in a captured graph of a stream that its replays move on.
template <class L, class Draw, class T>
void fill_from(const char* op, const Draw& draw, const View<T>& y) {
  for_each(L(op, y.device), y.numel(), FillFrom<Draw, T>{draw, y.data, cuda_capture() ? cuda_capture()->stream_offset : nullptr});
}
template <class L, class T>
void uniform(std::uint64_t seed, std::uint64_t stream, double low, double high, View<T> y) {
  fill_from<L>("uniform", draws::Uniform<T>{seed, stream, low, high}, y);
}
template <class L, class T>
void normal(std::uint64_t seed, std::uint64_t stream, double mean, double std, View<T> y) {
  fill_from<L>("normal", draws::Normal<T>{seed, stream, mean, std}, y);
}
template <class L, class T>
void truncated_normal(std::uint64_t seed, std::uint64_t stream, double std, double bound, View<T> y) {
  fill_from<L>("truncated_normal", draws::TruncatedNormal<T>{seed, stream, std, bound}, y);
}

/// The next of many arrays, as many as fit into the arguments of a launch, worked on in pieces of `piece` numbers: one a block.
template <class Array, int most>
struct ArrayTable {
  static constexpr std::int64_t piece = 4096;
  Array arrays[most];
  std::int32_t first[most];  // piece of each
  std::int32_t count = 0, pieces = 0;

  /// Takes arrays from number `next` on, the last time none.
  ArrayTable(const std::vector<Array>& all, std::size_t& next) {
    for (; next < all.size() && count < most; ++next) {
      const std::int64_t more = (all[next].n + piece - 1) / piece;
      if (more == 0) continue;
      if (count > 0 && pieces + more > (1 << 30)) break;
      arrays[count] = all[next];
      first[count++] = pieces;
      pieces += static_cast<std::int32_t>(more);
    }
  }
  /// Which array a block's piece is of.
  TTT_DEVICE int find(const Block& block) const {
    int low = 0, high = count - 1;  // the last one that begins no later
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (first[middle] <= block.index()) low = middle;
      else high = middle - 1;
    }
    return low;
  }
  /// Calls f(i, size) for the packs from i on that are thread t's, of a block's piece of the array that `find` found: a constant N, or 1 if
  /// the array is not `in_packs`, and for the odd rest.
  template <int N, class F>
  TTT_DEVICE void each(const Block& block, int array, int t, bool in_packs, const F& f) const {
    const std::int64_t begin = (block.index() - first[array]) * piece, n = arrays[array].n;
    const int size = static_cast<int>(n - begin < piece ? n - begin : piece), packed = in_packs ? size / N * N : 0;
    for (int i = t * N; i < packed; i += block.threads() * N) f(begin + i, std::integral_constant<int, N>{});
    for (int i = packed + t; i < size; i += block.threads()) f(begin + i, std::integral_constant<int, 1>{});
  }
};

template <class T>
struct AdamW {
  ArrayTable<AdamWParameter<T>, 64> table;
  AdamWStep step;
  TTT_DEVICE void operator()(Block& block) const {
    constexpr int N = pack_size<T>;
    block.each_thread([&](int t) {
      const int array = table.find(block);
      const AdamWParameter<T>& of = table.arrays[array];
      const backend::AdamWUpdate<T> update(step, of.lr_scale, of.weight_decay);
      const bool in_packs = aligned<N>(of.parameter, of.grad, of.mean, of.variance);
      table.template each<N>(block, array, t, in_packs, [&]<int M>(std::int64_t i, std::integral_constant<int, M>) {
        const Pack<T, M> g = load_pack<M>(of.grad + i);
        Pack<T, M> p = load_pack<M>(of.parameter + i), m = load_pack<M>(of.mean + i), v = load_pack<M>(of.variance + i);
        unrolled<M>([&](int j) { update(p[j], g[j], m[j], v[j]); });
        store_pack(of.parameter + i, p), store_pack(of.mean + i, m), store_pack(of.variance + i, v);
      });
    });
  }
};
/// One launch for every 64 parameters.
template <class L, class T>
void adamw(const std::vector<AdamWParameter<T>>& parameters, const AdamWStep& step, Device device) {
  const L run("adamw", device);
  for (std::size_t next = 0; next < parameters.size();) {
    const AdamW<T> program{{parameters, next}, step};
    if (program.table.pieces > 0) run.blocks(program.table.pieces, block_threads, 0, program);
  }
}

/// squares [pieces] = Σ x² of each piece.
template <class T>
struct SumOfSquares {
  ArrayTable<ConstArray<T>, 192> table;
  double* squares;
  TTT_DEVICE void operator()(Block& block) const {
    constexpr int N = pack_size<T>;
    T* scratch = block.shared<T>(block.threads());
    PerThread<T> sum(block);
    block.each_thread([&](int t) {
      T own = T(0);
      const int array = table.find(block);
      const T* x = table.arrays[array].data;
      table.template each<N>(block, array, t, aligned<N>(x), [&]<int M>(std::int64_t i, std::integral_constant<int, M>) {
        const Pack<T, M> numbers = load_pack<M>(x + i);
        unrolled<M>([&](int j) { own += numbers[j] * numbers[j]; });
      });
      sum[t] = own;
    });
    const T total = reduce_items<reduction::Sum>(block, block.threads(), scratch, [&](std::int64_t t) { return sum[static_cast<int>(t)]; });
    block.each_thread([&](int t) {
      if (t == 0) squares[block.index()] = static_cast<double>(total);
    });
  }
};
/// From n sums of squares: the norm, and what clips it.
struct NormAndScale {
  const double* squares;
  std::int64_t n;
  double max_norm, *norm_and_scale;
  TTT_DEVICE void operator()(Block& block) const {
    double* scratch = block.shared<double>(block.threads());
    const double total = reduce_items<reduction::Sum>(block, n, scratch, [&](std::int64_t i) { return squares[i]; });
    block.each_thread([&](int t) {
      if (t > 0) return;
      norm_and_scale[0] = std::sqrt(total);
      norm_and_scale[1] = backend::clipping_factor(norm_and_scale[0], max_norm);
    });
  }
};
/// One launch for every 192 arrays, and one that adds up.
template <class L, class T>
void global_norm(const std::vector<ConstArray<T>>& arrays, double max_norm, double* norm_and_scale, Device device) {
  using Program = SumOfSquares<T>;
  const L run("global_norm", device);
  std::int64_t pieces = 0;
  for (const ConstArray<T>& array : arrays) pieces += (array.n + decltype(Program::table)::piece - 1) / decltype(Program::table)::piece;
  const Scratch<L, double> squares(run, pieces);
  double* next_squares = squares.data();
  for (std::size_t next = 0; next < arrays.size();) {
    const Program program{{arrays, next}, next_squares};
    if (program.table.pieces > 0) run.blocks(program.table.pieces, block_threads, shared_size<T>(block_threads), program);
    next_squares += program.table.pieces;
  }
  run.blocks(1, block_threads, shared_size<double>(block_threads), NormAndScale{squares.data(), pieces, max_norm, norm_and_scale});
}

template <class L, class T>
void add_updates(Verbs<T>& verbs) {
  verbs.uniform = uniform<L, T>;
  verbs.normal = normal<L, T>;
  verbs.truncated_normal = truncated_normal<L, T>;
  verbs.adamw = adamw<L, T>;
  verbs.global_norm = global_norm<L, T>;
}

}  // namespace ttt::cuda_backend

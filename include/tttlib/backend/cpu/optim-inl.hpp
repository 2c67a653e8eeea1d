#pragma once
/// What an optimiser does to all parameters at once: AdamW, and the norm over all gradients. One parallel loop each, over the
/// numbers of all tensors one after the other, cut by size. Bytes: AdamW four reads and three writes per number, the norm one
/// read.

#include <algorithm>

#include "tttlib/backend/adamw.hpp"
#include "tttlib/backend/cpu/reduce-inl.hpp"

TTT_INDEPENDENT_BEGIN
namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// Numbers per chunk of work on many tensors.
inline constexpr std::int64_t list_grain = 4 * elementwise_grain;

/// Calls `run(chunk, array, begin, count)` for the pieces of arrays, each with its length n, in chunks of `list_grain` numbers of them
/// all, on several threads.
template <class Array, class Run>
void for_arrays(const std::vector<Array>& arrays, const Run& run) {
  std::vector<std::int64_t> ends;  // where each ends in the row of them all
  std::int64_t total = 0;
  for (const Array& array : arrays) ends.push_back(total += array.n);
  parallel_for(total, list_grain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t chunk = begin / list_grain;
    for (auto i = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin()); begin < end; ++i) {
      const std::int64_t last = std::min(end, ends[i]);
      if (last > begin) run(chunk, arrays[i], begin - (ends[i] - arrays[i].n), last - begin);
      begin = last;
    }
  });
}

template <class T>
void adamw(const std::vector<AdamWParameter<T>>& parameters, const AdamWStep& step) {
  for_arrays(parameters, [&](std::int64_t, const AdamWParameter<T>& of, std::int64_t begin, std::int64_t n) {
    // A copy of the numbers: through a reference they could be what the loop writes, and it would not become vector code.
    const backend::AdamWUpdate<T> update(step, of.lr_scale, of.weight_decay);
    T *p = of.parameter + begin, *m = of.mean + begin, *v = of.variance + begin;
    const T* g = of.grad + begin;
    TTT_INDEPENDENT
    for (std::int64_t i = 0; i < n; ++i) update(p[i], g[i], m[i], v[i]);
  });
}

template <class T>
void global_norm(const std::vector<ConstArray<T>>& arrays, double max_norm, double* norm_and_scale) {
  constexpr std::int64_t piece = 8192;  // numbers summed in T
  std::int64_t total = 0;
  for (const ConstArray<T>& array : arrays) total += array.n;
  std::vector<double> squares(static_cast<std::size_t>(total / list_grain + 1));  // of each chunk, added in order below
  for_arrays(arrays, [&](std::int64_t chunk, const ConstArray<T>& of, std::int64_t begin, std::int64_t n) {
    double sum = 0;
    for (std::int64_t at = 0; at < n; at += piece) {
      const T* x = of.data + begin + at;
      sum += static_cast<double>(sum_of<T>(std::min(piece, n - at), [x](std::int64_t i) { return x[i] * x[i]; }));
    }
    squares[static_cast<std::size_t>(chunk)] += sum;
  });
  double sum = 0;
  for (const double s : squares) sum += s;
  norm_and_scale[0] = std::sqrt(sum);
  norm_and_scale[1] = backend::clipping_factor(norm_and_scale[0], max_norm);
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
TTT_INDEPENDENT_END

#pragma once
/// Elementwise kernels, any layout: a thread has several packs of neighbouring elements where all operands have them side by side (or
/// repeat one), single elements elsewhere. Bytes: each operand once. Operations: the formula's, and an address or two a pack.

#include <tuple>

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/cuda/walk.hpp"
#include "tttlib/backend/table.hpp"
#include "tttlib/kernels/reductions.hpp"

namespace ttt::cuda_backend {

/// True if all operands of a walk can be read and written in packs of N: K + 1 of them, the result first.
template <int N, int K, class... T>
bool walks_in_packs(const Walk<K>& walk, const T*... data) {
  int k = 0;
  return walk.inner_stride(0) == 1 && ((walk.in_packs(k, N) && (walk.inner_stride(k++) == 0 || aligned<N>(data))) && ...);
}

template <class T>
struct Fill {
  T value;
  T* y;
  Walk<1> walk;
  struct Nothing {};
  template <int N>
  TTT_DEVICE Nothing load(std::int64_t) const {
    return {};
  }
  template <int N>
  TTT_DEVICE void store(std::int64_t i, Nothing) const {
    store_pack(y + walk(i)[0], same_pack<N>(value));
  }
};
template <class L, class T>
void fill(View<T> y, T value) {
  constexpr int N = pack_size<T>;
  const Walk<1> walk(y.shape, {y.strides});
  for_each_pack<N>(L("fill", y.device), walk.count, walks_in_packs<N>(walk, y.data), Fill<T>{value, y.data, walk});
}

/// y = f(x[0], …, x[K−1])
template <class F, class From, class To, int K>
struct Map {
  F f;
  const From* x[K];
  To* y;
  Walk<K + 1> walk;  // y, x…
  template <int N>
  struct Operands {
    Pack<From, N> x[K];
  };
  template <int N>
  TTT_DEVICE Operands<N> load(std::int64_t i) const {
    const Offsets<K + 1> at = walk(i);
    Operands<N> of;
    unrolled<K>([&](int k) {
      const From* from = x[k] + at[k + 1];
      of.x[k] = N == 1 || walk.inner_stride(k + 1) != 0 ? load_pack<N>(from) : same_pack<N>(*from);
    });
    return of;
  }
  template <int N>
  TTT_DEVICE void store(std::int64_t i, const Operands<N>& of) const {
    Pack<To, N> out;
    unrolled<N>([&](int j) {
      if constexpr (K == 1) out[j] = f(of.x[0][j]);
      else if constexpr (K == 2) out[j] = f(of.x[0][j], of.x[1][j]);
      else out[j] = f(of.x[0][j], of.x[1][j], of.x[2][j]);
    });
    store_pack(y + walk(i)[0], out);
  }
};
template <class L, class F, class To, class... From>
void map(const char* op, const F& f, const View<To>& y, const View<const From>&... x) {
  constexpr int K = sizeof...(From), N = pack_size<To, From...>;
  using X = std::tuple_element_t<0, std::tuple<From...>>;
  const Walk<K + 1> walk(y.shape, {y.strides, x.strides...});
  for_each_pack<N>(L(op, y.device), walk.count, walks_in_packs<N>(walk, static_cast<const To*>(y.data), x.data...),
                   Map<F, X, To, K>{f, {x.data...}, y.data, walk});
}

struct Same {
  template <class T>
  TTT_DEVICE T operator()(T x) const { return x; }
};
template <class L, class T>
void copy(View<const T> x, View<T> y) {
  map<L>("copy", Same{}, y, x);
}
template <class To>
struct Convert {
  template <class From>
  TTT_DEVICE To operator()(From x) const { return convert<To>(x); }
};
template <class L, class From, class To>
void cast(View<const From> x, View<To> y) {
  map<L>("cast", Convert<To>{}, y, x);
}
template <class L, class F, class T>
void map_unary(double p, double q, View<const T> x, View<T> y) {
  map<L>("map", F{p, q}, y, x);
}
template <class L, class F, class T>
void map_binary(double p, double q, View<const T> a, View<const T> b, View<T> y) {
  map<L>("map", F{p, q}, y, a, b);
}

struct Where {
  template <class T>
  TTT_DEVICE T operator()(T condition, T a, T b) const { return condition != T(0) ? a : b; }
};
template <class L, class T>
void where(View<const T> condition, View<const T> a, View<const T> b, View<T> y) {
  map<L>("where", Where{}, y, condition, a, b);
}

struct AddScaled {
  template <class T>
  TTT_DEVICE T operator()(T x, T y, T scale) const { return x + scale * y; }
};
template <class L, class T>
void add_scaled(View<const T> x, View<const T> y, View<const T> scale, View<T> z) {
  map<L>("add_scaled", AddScaled{}, z, x, y, scale);
}

/// bad [blocks] = how many of a block's elements are infinite or NaN.
template <class T>
struct CountNotFinite {
  const T* x;
  Walk<1> walk;
  int* bad;
  TTT_DEVICE void operator()(Block& block) const {
    int* scratch = block.shared<int>(block.threads());
    const std::int64_t length = (walk.count + block.count() - 1) / block.count(), first = block.index() * length;
    const std::int64_t n = first + length < walk.count ? length : walk.count - first;
    const int found = reduce_items<reduction::Sum>(block, n, scratch, [&](std::int64_t i) {
      const T value = x[walk(first + i)[0]];
      return value - value == T(0) ? 0 : 1;
    });
    block.each_thread([&](int t) {
      if (t == 0) bad[block.index()] = found;
    });
  }
};
template <class L, class T>
bool all_finite(View<const T> x) {
  const L run("all_finite", x.device);
  const Walk<1> walk(x.shape, {x.strides});
  if (walk.count == 0) return true;
  constexpr std::int64_t most = 256;
  const std::int64_t blocks = walk.count < most * block_threads ? (walk.count + block_threads - 1) / block_threads : most;
  const Scratch<L, int> bad(run, blocks);
  run.blocks(blocks, block_threads, shared_size<int>(block_threads), CountNotFinite<T>{x.data, walk, bad.data()});
  int found[most];
  run.read(found, bad.data(), static_cast<std::size_t>(blocks) * sizeof(int));
  int total = 0;
  for (std::int64_t i = 0; i < blocks; ++i) total += found[i] != 0;
  return total == 0;
}

/// What tensors of any element type need.
template <class L, class T>
void add_copies(Verbs<T>& verbs) {
  verbs.fill = fill<L, T>;
  verbs.copy = copy<L, T>;
  verbs.casts = {cast<L, float, T>, cast<L, double, T>, cast<L, bf16, T>, cast<L, std::int64_t, T>};
}
template <class L, class T>
void add_elementwise(Verbs<T>& verbs) {
  add_copies<L>(verbs);
  verbs.where = where<L, T>;
  verbs.add_scaled = add_scaled<L, T>;
  verbs.all_finite = all_finite<L, T>;
#define TTT_ADD(Name) verbs.map_unary[formula::index_of<formula::Name>] = map_unary<L, formula::Name, T>;
  TTT_UNARY_FORMULAS(TTT_ADD)
#undef TTT_ADD
#define TTT_ADD(Name) verbs.map_binary[formula::index_of<formula::Name>] = map_binary<L, formula::Name, T>;
  TTT_BINARY_FORMULAS(TTT_ADD)
#undef TTT_ADD
}
/// The arithmetic of index tensors.
template <class L>
void add_integer_elementwise(Verbs<std::int64_t>& verbs) {
  add_copies<L>(verbs);
  verbs.where = where<L, std::int64_t>;
  verbs.map_unary[formula::index_of<formula::Neg>] = map_unary<L, formula::Neg, std::int64_t>;
  verbs.map_binary[formula::index_of<formula::Add>] = map_binary<L, formula::Add, std::int64_t>;
  verbs.map_binary[formula::index_of<formula::Mul>] = map_binary<L, formula::Mul, std::int64_t>;
}

}  // namespace ttt::cuda_backend

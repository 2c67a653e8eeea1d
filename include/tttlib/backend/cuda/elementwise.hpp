#pragma once
/// Elementwise kernels: one thread per element, any layout. Bytes: each operand once. Operations: the formula's.

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/cuda/walk.hpp"
#include "tttlib/backend/table.hpp"
#include "tttlib/kernels/reductions.hpp"

namespace ttt::cuda_backend {

template <class T>
struct Fill {
  T value;
  T* y;
  Walk<1> walk;
  TTT_DEVICE void operator()(std::int64_t i) const { y[walk(i)[0]] = value; }
};
template <class L, class T>
void fill(View<T> y, T value) {
  const Walk<1> walk(y.shape, {y.strides});
  for_each(L("fill", y.device), walk.count, Fill<T>{value, y.data, walk});
}

template <class T>
struct Copy {
  const T* x;
  T* y;
  Walk<2> walk;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const Offsets<2> at = walk(i);
    y[at[0]] = x[at[1]];
  }
};
template <class L, class T>
void copy(View<const T> x, View<T> y) {
  const Walk<2> walk(y.shape, {y.strides, x.strides});
  for_each(L("copy", y.device), walk.count, Copy<T>{x.data, y.data, walk});
}

template <class From, class To>
struct Cast {
  const From* x;
  To* y;
  Walk<2> walk;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const Offsets<2> at = walk(i);
    y[at[0]] = convert<To>(x[at[1]]);
  }
};
template <class L, class From, class To>
void cast(View<const From> x, View<To> y) {
  const Walk<2> walk(y.shape, {y.strides, x.strides});
  for_each(L("cast", y.device), walk.count, Cast<From, To>{x.data, y.data, walk});
}

template <class F, class T>
struct MapOne {
  F f;
  const T* x;
  T* y;
  Walk<2> walk;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const Offsets<2> at = walk(i);
    y[at[0]] = f(x[at[1]]);
  }
};
template <class L, class F, class T>
void map_unary(double p, double q, View<const T> x, View<T> y) {
  const Walk<2> walk(y.shape, {y.strides, x.strides});
  for_each(L("map", y.device), walk.count, MapOne<F, T>{F{p, q}, x.data, y.data, walk});
}

template <class F, class T>
struct MapTwo {
  F f;
  const T *a, *b;
  T* y;
  Walk<3> walk;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const Offsets<3> at = walk(i);
    y[at[0]] = f(a[at[1]], b[at[2]]);
  }
};
template <class L, class F, class T>
void map_binary(double p, double q, View<const T> a, View<const T> b, View<T> y) {
  const Walk<3> walk(y.shape, {y.strides, a.strides, b.strides});
  for_each(L("map", y.device), walk.count, MapTwo<F, T>{F{p, q}, a.data, b.data, y.data, walk});
}

template <class F, class T>
struct MapThree {
  F f;
  const T *a, *b, *c;
  T* y;
  Walk<4> walk;
  TTT_DEVICE void operator()(std::int64_t i) const {
    const Offsets<4> at = walk(i);
    y[at[0]] = f(a[at[1]], b[at[2]], c[at[3]]);
  }
};
template <class L, class F, class T>
void map_ternary(const char* op, const F& f, const View<const T>& a, const View<const T>& b, const View<const T>& c, const View<T>& y) {
  const Walk<4> walk(y.shape, {y.strides, a.strides, b.strides, c.strides});
  for_each(L(op, y.device), walk.count, MapThree<F, T>{f, a.data, b.data, c.data, y.data, walk});
}

struct Where {
  template <class T>
  TTT_DEVICE T operator()(T condition, T a, T b) const { return condition != T(0) ? a : b; }
};
template <class L, class T>
void where(View<const T> condition, View<const T> a, View<const T> b, View<T> y) {
  map_ternary<L>("where", Where{}, condition, a, b, y);
}

struct AddScaled {
  template <class T>
  TTT_DEVICE T operator()(T x, T y, T scale) const { return x + scale * y; }
};
template <class L, class T>
void add_scaled(View<const T> x, View<const T> y, View<const T> scale, View<T> z) {
  map_ternary<L>("add_scaled", AddScaled{}, x, y, scale, z);
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
  verbs.map_unary[formula::index_of<formula::AddScalar>] = map_unary<L, formula::AddScalar, std::int64_t>;
  verbs.map_unary[formula::index_of<formula::MulScalar>] = map_unary<L, formula::MulScalar, std::int64_t>;
  verbs.map_binary[formula::index_of<formula::Add>] = map_binary<L, formula::Add, std::int64_t>;
}

}  // namespace ttt::cuda_backend

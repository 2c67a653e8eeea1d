#pragma once
/// Elementwise kernels: one pass over any layout. Neighbouring axes that all operands walk alike are merged first,
/// so contiguous tensors become one long loop; broadcast operands have stride 0 and are never copied.
/// Bytes: each operand once. Vector code comes from the compiler (contiguous loops over branch-free formulas).

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "tttlib/backend/cpu/verbs.hpp"
#include "tttlib/backend/axes.hpp"
#include "tttlib/core/parallel.hpp"

TTT_INDEPENDENT_BEGIN
namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// Elements per chunk of work: large enough to pay for waking a thread.
inline constexpr std::int64_t elementwise_grain = 16384;

/// Work on a row, or a piece of one: `run(offset[K], count)`. Type-erased, so that walking is compiled once per K.
class RowWork {
 public:
  template <class Run>
  RowWork(const Run& run)  // NOLINT: implicit on purpose
      : context_(&run), call_([](const void* context, const std::int64_t* offset, std::int64_t count) {
          (*static_cast<const Run*>(context))(offset, count);
        }) {}
  void operator()(const std::int64_t* offset, std::int64_t count) const { call_(context_, offset, count); }

 private:
  const void* context_;
  void (*call_)(const void*, const std::int64_t*, std::int64_t);
};

/// K operands walked together: merged shape, and the strides of each operand along it.
template <std::size_t K>
struct Walk {
  Shape shape;
  Strides strides[K];

  Walk(const Shape& full, const Strides (&all)[K]) { backend::merge_axes(full, all, shape, strides); }

  std::int64_t inner() const { return shape[shape.size() - 1]; }
  std::int64_t outer() const {
    std::int64_t n = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
    return n;
  }
  std::int64_t inner_stride(std::size_t k) const { return strides[k][shape.size() - 1]; }

  /// Calls `row(offset[K])` for outer rows [begin, end).
  template <class Row>
  void rows(std::int64_t begin, std::int64_t end, const Row& row) const {
    const std::size_t outer_rank = shape.size() < 2 ? 0 : std::min(shape.size(), Dims::max_rank) - 1;
    std::int64_t position[Dims::max_rank] = {};
    std::int64_t offset[K] = {};
    std::int64_t rest = begin;
    for (std::size_t i = outer_rank; i-- > 0;) {
      position[i] = rest % shape[i];
      rest /= shape[i];
      for (std::size_t k = 0; k < K; ++k) offset[k] += position[i] * strides[k][i];
    }
    for (std::int64_t r = begin; r < end; ++r) {
      row(offset);
      for (std::size_t i = outer_rank; i-- > 0;) {
        for (std::size_t k = 0; k < K; ++k) offset[k] += strides[k][i];
        if (++position[i] < shape[i]) break;
        for (std::size_t k = 0; k < K; ++k) offset[k] -= shape[i] * strides[k][i];
        position[i] = 0;
      }
    }
  }

  /// Calls `run(offset[K], count)` for pieces of rows, on several threads.
  TTT_NOINLINE void parallel(const RowWork& run) const {
    const std::int64_t n = inner(), m = outer();
    if (n == 0 || m == 0) return;
    if (m == 1) {
      parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t offset[K];
        for (std::size_t k = 0; k < K; ++k) offset[k] = begin * inner_stride(k);
        run(offset, end - begin);
      });
    } else {
      parallel_for(m, elementwise_grain / n + 1, [&](std::int64_t begin, std::int64_t end) {
        rows(begin, end, [&](const std::int64_t* offset) { run(offset, n); });
      });
    }
  }
};

template <class T>
void fill(View<T> y, std::type_identity_t<T> value) {
  const Walk<1> walk(y.shape, {y.strides});
  const std::int64_t sy = walk.inner_stride(0);
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    T* out = y.data + at[0];
    for (std::int64_t i = 0; i < n; ++i) out[i * sy] = value;
  });
}

template <class T>
void copy(View<const T> x, View<T> y) {
  const Walk<2> walk(y.shape, {y.strides, x.strides});
  const std::int64_t sy = walk.inner_stride(0), sx = walk.inner_stride(1);
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    T* out = y.data + at[0];
    const T* in = x.data + at[1];
    if (sy == 1 && sx == 1) std::memcpy(static_cast<void*>(out), in, static_cast<std::size_t>(n) * sizeof(T));
    else
      for (std::int64_t i = 0; i < n; ++i) out[i * sy] = in[i * sx];
  });
}

template <class From, class To>
void cast(View<const From> x, View<To> y) {
  const Walk<2> walk(y.shape, {y.strides, x.strides});
  const std::int64_t sy = walk.inner_stride(0), sx = walk.inner_stride(1);
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) y.data[at[0] + i * sy] = convert<To>(x.data[at[1] + i * sx]);
  });
}

template <class F, class T>
TTT_NOINLINE void map(F f, const View<const T>& x, const View<T>& y) {
  const Walk<2> walk(y.shape, {y.strides, x.strides});
  const std::int64_t sy = walk.inner_stride(0), sx = walk.inner_stride(1);
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    T* out = y.data + at[0];
    const T* in = x.data + at[1];
    if (sy == 1 && sx == 1) {
      TTT_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) out[i] = f(in[i]);
    } else {
      TTT_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) out[i * sy] = f(in[i * sx]);
    }
  });
}

template <class F, class T>
TTT_NOINLINE void map(F f, const View<const T>& a, const View<const T>& b, const View<T>& y) {
  const Walk<3> walk(y.shape, {y.strides, a.strides, b.strides});
  const std::int64_t sy = walk.inner_stride(0), sa = walk.inner_stride(1), sb = walk.inner_stride(2);
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    T* out = y.data + at[0];
    const T* in_a = a.data + at[1];
    const T* in_b = b.data + at[2];
    if (sy == 1 && sa == 1 && sb == 1) {
      TTT_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) out[i] = f(in_a[i], in_b[i]);
    } else if (sy == 1 && sa == 1 && sb == 0) {
      const T value = *in_b;
      TTT_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) out[i] = f(in_a[i], value);
    } else if (sy == 1 && sa == 0 && sb == 1) {
      const T value = *in_a;
      TTT_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) out[i] = f(value, in_b[i]);
    } else {
      TTT_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) out[i * sy] = f(in_a[i * sa], in_b[i * sb]);
    }
  });
}

template <class T>
void where(View<const T> condition, View<const T> a, View<const T> b, View<T> y) {
  const Walk<4> walk(y.shape, {y.strides, condition.strides, a.strides, b.strides});
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      const bool first = condition.data[at[1] + i * walk.inner_stride(1)] != T(0);
      y.data[at[0] + i * walk.inner_stride(0)] =
          first ? a.data[at[2] + i * walk.inner_stride(2)] : b.data[at[3] + i * walk.inner_stride(3)];
    }
  });
}

template <class T>
void add_scaled(View<const T> x, View<const T> y, View<const T> scale, View<T> z) {
  const Walk<4> walk(z.shape, {z.strides, x.strides, y.strides, scale.strides});
  const std::int64_t sz = walk.inner_stride(0), sx = walk.inner_stride(1), sy = walk.inner_stride(2), ss = walk.inner_stride(3);
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    T* out = z.data + at[0];
    const T *in_x = x.data + at[1], *in_y = y.data + at[2], *in_scale = scale.data + at[3];
    if (sz == 1 && sx == 1 && sy == 1 && ss == 0) {
      const T factor = *in_scale;
      TTT_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) out[i] = in_x[i] + factor * in_y[i];
    } else {
      for (std::int64_t i = 0; i < n; ++i) out[i * sz] = in_x[i * sx] + in_scale[i * ss] * in_y[i * sy];
    }
  });
}

template <class T>
bool all_finite(View<const T> x) {
  const Walk<1> walk(x.shape, {x.strides});
  const std::int64_t sx = walk.inner_stride(0);
  std::atomic<bool> finite{true};
  walk.parallel([&](const std::int64_t* at, std::int64_t n) {
    bool ok = true;
    for (std::int64_t i = 0; i < n; ++i) ok = ok && std::isfinite(x.data[at[0] + i * sx]);
    if (!ok) finite = false;
  });
  return finite;
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend
TTT_INDEPENDENT_END

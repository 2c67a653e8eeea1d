#pragma once
/// The verbs matmul and linear as products that a BLAS takes: which operands it reads as they are, which are copied first,
/// and which leading axes become one call. Head splits, transposes and broadcast operands cost nothing; a copy is made
/// only where neither the rows nor the columns of an operand are contiguous, or where operands are rounded to bf16: a BLAS that
/// is given floats rounds them to another format. Operations: 2·m·n·k per product. Bytes of rounding: 6 per number.

#include <algorithm>
#include <array>

#include "tttlib/backend/cuda/elementwise.hpp"
#include "tttlib/backend/cuda/words.hpp"
#include "tttlib/backend/precision.hpp"

namespace ttt::cuda_backend {

/// A matrix of a product in BLAS's terms, column-major: columns `leading` numbers apart, the batch's matrices `step` apart.
template <class Data>
struct BlasMatrix {
  Data* data = nullptr;
  DType type = DType::float32;
  std::int64_t leading = 1, step = 0;
};

/// `batch` products C = op(A)·op(B) + beta·C with C [m, n] and sums of T. A and B are both of T, or both of bf16 where T is float; so
/// may C be, which is rounded once. A bias [m] of C's type is added to every column, and with it `plus`, a matrix laid out as C, unless
/// null; then beta is 0 and batch 1.
template <class T>
struct Gemm {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0, batch = 1;
  BlasMatrix<const void> a, b;
  BlasMatrix<void> c;
  T beta = T(0);
  const void *bias = nullptr, *plus = nullptr;
};

/// How a BLAS reads a matrix [rows, columns] by its strides: with neighbouring columns side by side, as its transpose
/// in BLAS's column-major terms, or with neighbouring rows side by side (`turned`); or not at all.
struct BlasLayout {
  bool possible, turned;
  std::int64_t leading;

  BlasLayout(std::int64_t rows, std::int64_t columns, std::int64_t row_step, std::int64_t column_step) {
    const std::int64_t wide = std::max<std::int64_t>(columns, 1), tall = std::max<std::int64_t>(rows, 1);
    const bool straight = (column_step == 1 || columns <= 1) && (row_step >= wide || rows <= 1);
    turned = !straight && (row_step == 1 || rows <= 1) && (column_step >= tall || columns <= 1);
    possible = straight || turned;
    leading = straight ? (rows <= 1 ? wide : row_step) : (columns <= 1 ? tall : column_step);
  }
  template <class V>
  static BlasLayout of(const V& v) {
    const std::size_t r = v.shape.size();
    return {v.shape[r - 2], v.shape[r - 1], v.strides[r - 2], v.strides[r - 1]};
  }
};

/// An operand [.., rows, columns] that a BLAS can read: itself, or a copy without its repeated leading axes.
template <class L, class T>
class BlasOperand {
 public:
  BlasOperand(const L& run, const View<const T>& v)
      : copied_(!BlasLayout::of(v).possible), scratch_(run, copied_ ? distinct(v).numel() : 0), view_(v) {
    if (!copied_) return;
    View<const T> from = distinct(v);
    view_.data = scratch_.data();
    view_.strides = contiguous_strides(from.shape);
    copy<L, T>(from, View<T>{scratch_.data(), from.shape, view_.strides, v.device});
    for (std::size_t axis = 0; axis + 2 < v.shape.size(); ++axis)
      if (from.shape[axis] != v.shape[axis]) view_.strides[axis] = 0;
  }
  const View<const T>& view() const { return view_; }

 private:
  /// The view with leading axes of stride 0 cut to length 1.
  static View<const T> distinct(View<const T> v) {
    for (std::size_t axis = 0; axis + 2 < v.shape.size(); ++axis)
      if (v.strides[axis] == 0) v.shape[axis] = std::min<std::int64_t>(v.shape[axis], 1);
    return v;
  }
  bool copied_;
  Scratch<L, T> scratch_;
  View<const T> view_;
};

/// A copy in bf16 of lines of floats: line i starts at leading·i of y. Numbers of a line are `step` apart in x.
struct RoundedLines {
  const float* x = nullptr;
  bf16* y = nullptr;
  Walk<1> lines{{0}, {{1}}};  // of x
  std::int64_t length = 0, step = 1, leading = 0, groups = 0;  // groups of four numbers in a line
  std::int64_t first_block = 0;
  bool aligned = false;  // groups of x and y start at multiples of their size

  std::int64_t count() const { return lines.count * groups; }
};
/// Rounds the operands of a product in one launch; each thread has four groups at a time.
template <int operands>
struct RoundLines {
  static constexpr int turns = 4, share = turns * block_threads;  // groups of a block
  RoundedLines all[operands];

  TTT_DEVICE void operator()(Block& block) const {
    int which = operands - 1;
    while (which > 0 && block.index() < all[which].first_block) --which;
    const RoundedLines& o = all[which];
    const std::int64_t first = (block.index() - o.first_block) * share, count = o.lines.count * o.groups;
    const bool one_line = o.lines.count == 1;
    block.each_thread([&](int t) {
      float numbers[turns][4];
      std::int64_t to[turns];
      int left[turns];  // numbers of the group
      for (int turn = 0; turn < turns; ++turn) {
        const std::int64_t group = first + turn * block_threads + t;
        left[turn] = 0;
        if (group >= count) continue;
        const std::int64_t line = one_line ? 0 : (count <= 0x7fffffff ? static_cast<std::uint32_t>(group) / static_cast<std::uint32_t>(o.groups)
                                                                      : group / o.groups);
        const std::int64_t at = 4 * (group - line * o.groups);
        const float* from = o.x + (one_line ? 0 : o.lines(line)[0]) + at * o.step;
        to[turn] = line * o.leading + at;
        left[turn] = o.length - at < 4 ? static_cast<int>(o.length - at) : 4;
        if (o.aligned && left[turn] == 4) load_numbers(from, numbers[turn]);
        else
          for (int i = 0; i < 4; ++i) numbers[turn][i] = i < left[turn] ? from[i * o.step] : 0.0f;
      }
      for (int turn = 0; turn < turns; ++turn) {
        if (left[turn] == 4) store_numbers(numbers[turn], o.y + to[turn]);
        else
          for (int i = 0; i < 3; ++i)
            if (i < left[turn]) o.y[to[turn] + i] = bf16(numbers[turn][i]);
      }
    });
  }
};

/// Operands [.., rows, columns] of products, copied and rounded to bf16 in one launch: without repeated leading axes, and with rows
/// side by side where they were, else with columns; lines are padded to 16 bytes. Views without data stay so.
template <class L, int operands>
class RoundedOperands {
 public:
  RoundedOperands(const L& run, const std::array<View<const float>, operands>& from) : RoundedOperands(run, from, Plan(from)) {}
  const View<const bf16>& operator[](int i) const { return views_[i]; }

 private:
  struct Plan {
    RoundLines<operands> program;
    std::int64_t numbers = 0, blocks = 0;
    View<const bf16> views[operands];
    std::int64_t starts[operands];  // in the memory of all copies

    explicit Plan(const std::array<View<const float>, operands>& from) {
      for (int i = 0; i < operands; ++i) {
        const View<const float>& v = from[static_cast<std::size_t>(i)];
        RoundedLines& o = program.all[i];
        starts[i] = numbers, o.first_block = blocks;
        views[i].device = v.device, views[i].shape = v.shape;
        if (!v.data) continue;
        const std::size_t rank = v.shape.size();
        const std::int64_t rows = v.shape[rank - 2], columns = v.shape[rank - 1];
        const BlasLayout layout = BlasLayout::of(v);
        const bool turned = rows > 1 && (columns == 1 || (layout.possible && layout.turned));
        o.x = v.data, o.length = turned ? rows : columns, o.step = v.strides[turned ? rank - 2 : rank - 1];
        o.groups = (o.length + 3) / 4, o.leading = (o.length + 7) / 8 * 8;
        Shape lines = v.shape;
        lines[rank - 2] = turned ? columns : rows, lines[rank - 1] = 1;
        Strides steps = v.strides, to = Strides::filled(rank, 0);
        steps[rank - 2] = v.strides[turned ? rank - 1 : rank - 2];
        std::int64_t size = lines[rank - 2] * o.leading;
        to[rank - 2] = turned ? 1 : o.leading, to[rank - 1] = turned ? o.leading : 1;
        for (std::size_t axis = rank - 2; axis-- > 0;) {
          if (v.strides[axis] == 0) lines[axis] = std::min<std::int64_t>(lines[axis], 1);
          else to[axis] = size;
          size *= lines[axis];
        }
        o.lines = Walk<1>(lines, {steps});
        o.aligned = o.step == 1 && reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0;
        for (int axis = 0; axis < o.lines.rank; ++axis) o.aligned = o.aligned && (o.lines.count == 1 || o.lines.strides[0][axis] % 4 == 0);
        if (o.lines.rank == 1 && o.step == 1 && o.leading == o.length && o.lines.strides[0][0] == o.length) {  // one long line
          o.length *= o.lines.count, o.groups *= o.lines.count;
          o.lines.count = 1;
        }
        views[i].strides = to;
        numbers += (size + 127) / 128 * 128;
        blocks += (o.count() + RoundLines<operands>::share - 1) / RoundLines<operands>::share;
      }
    }
  };
  RoundedOperands(const L& run, const std::array<View<const float>, operands>& from, Plan plan) : scratch_(run, plan.numbers) {
    for (int i = 0; i < operands; ++i) {
      views_[i] = plan.views[i];
      if (from[static_cast<std::size_t>(i)].data) views_[i].data = plan.program.all[i].y = scratch_.data() + plan.starts[i];
    }
    if (plan.blocks > 0) run.blocks(plan.blocks, block_threads, 0, plan.program);
  }
  Scratch<L, bf16> scratch_;
  View<const bf16> views_[operands];
};

/// c = bias in every row, and `plus` unless null.
template <class L, class C>
void add_up(const C* bias, const C* plus, const View<C>& c) {
  const View<const C> rows{bias, c.shape, {0, 1}, c.device};
  if (plus) map_binary<L, formula::Add, C>(0, 0, {plus, c.shape, c.strides, c.device}, rows, c);
  else copy<L, C>(rows, c);
}

/// c = a·b + bias (null: none; else c has two axes) for operands that a BLAS can read, c with neighbouring columns side by side. With a
/// bias also + `plus`, laid out as c, unless null.
template <class L, class A, class C>
void multiply(const L& run, const View<const A>& a, const View<const A>& b, const C* bias, const View<C>& c, const C* plus = nullptr) {
  const std::size_t leading = c.shape.size() - 2;
  const auto batch_of = [leading](const Dims& dims) { return Dims(dims.begin(), dims.begin() + leading); };
  Shape batch;
  Strides steps[3];
  backend::merge_axes(batch_of(c.shape), {batch_of(c.strides), batch_of(a.strides), batch_of(b.strides)}, batch, steps);
  // A row-major product is the column-major product of the transposes: Cᵀ = Bᵀ·Aᵀ.
  const BlasLayout of_a = BlasLayout::of(a), of_b = BlasLayout::of(b), of_c = BlasLayout::of(c);
  std::size_t longest = 0;  // the axis that one call works on; others are walked here
  for (std::size_t axis = 0; axis < batch.size(); ++axis)
    if (batch[axis] > batch[longest]) longest = axis;
  Gemm<Wide<C>> product;
  product.transpose_a = of_b.turned, product.transpose_b = of_a.turned;
  product.m = c.shape[leading + 1], product.n = c.shape[leading], product.k = a.shape[leading + 1];
  product.batch = batch[longest];
  product.a = {nullptr, dtype_of<A>, of_b.leading, steps[2][longest]};
  product.b = {nullptr, dtype_of<A>, of_a.leading, steps[1][longest]};
  product.c = {nullptr, dtype_of<C>, of_c.leading, steps[0][longest]};
  batch[longest] = 1;
  const Walk<3> calls(batch, steps);
  for (std::int64_t call = 0; call < calls.count; ++call) {
    const Offsets<3> at = calls(call);
    product.c.data = c.data + at[0], product.b.data = a.data + at[1], product.a.data = b.data + at[2];
    product.bias = bias, product.plus = plus;
    if (run.gemm(product)) continue;
    // No kernel adds a bias to such a product: the bias is where the product is added to.
    add_up<L, C>(bias, plus, c);
    product.bias = product.plus = nullptr, product.beta = 1;
    run.gemm(product);
  }
}

/// The same for any layout of operands and, without `plus`, of the result.
template <class L, class A, class C>
void multiply_any(const L& run, const View<const A>& a, const View<const A>& b, const C* bias, const View<C>& c, const C* plus = nullptr) {
  if (c.numel() == 0) return;
  if (a.shape.back() == 0) return bias ? add_up<L, C>(bias, plus, c) : fill<L, C>(c, C(0));
  const BlasLayout of_c = BlasLayout::of(c);
  if (!of_c.possible || of_c.turned) {
    const Scratch<L, C> result(run, c.numel());
    const View<C> plain{result.data(), c.shape, contiguous_strides(c.shape), c.device};
    multiply_any(run, a, b, bias, plain);
    return copy<L, C>(plain, c);
  }
  const BlasOperand<L, A> left(run, a), right(run, b);
  multiply(run, left.view(), right.view(), bias, c, plus);
}

/// c = a·b + bias (null: none) of matrices in bf16, in any layout, summed in float. A c in bf16 is rounded once, and its bias is too; to one
/// in float `plus` is added as above.
template <class L, class C>
void multiply_bf16(const L& run, const View<const bf16>& a, const View<const bf16>& b, const float* bias, const View<C>& c,
                   const float* plus = nullptr) {
  if constexpr (std::is_same_v<C, float>) {
    multiply_any(run, a, b, bias, c, plus);
  } else {
    const std::int64_t n = bias ? c.shape[1] : 0;
    const Scratch<L, bf16> rounded(run, n);
    if (bias) cast<L, float, bf16>({bias, {n}, {1}, c.device}, {rounded.data(), {n}, {1}, c.device});
    multiply_any(run, a, b, static_cast<const bf16*>(rounded.data()), c);
  }
}

/// c = a·b + bias in the precision that the caller has chosen.
template <class L, class T>
void multiply_chosen(const L& run, const View<const T>& a, const View<const T>& b, const T* bias, const View<T>& c) {
  if constexpr (std::is_same_v<T, float>)
    if (rounds_to_bf16<T>() && c.numel() > 0 && a.shape.back() > 0) {
      const RoundedOperands<L, 2> rounded(run, {a, b});
      return multiply_any(run, rounded[0], rounded[1], bias, c);
    }
  multiply_any(run, a, b, bias, c);
}

template <class L, class T>
void matmul(View<const T> a, View<const T> b, View<T> c) {
  multiply_chosen<L, T>(L("matmul", c.device), a, b, nullptr, c);
}
template <class L, class T>
void linear(View<const T> x, View<const T> w, const T* bias, View<T> y) {
  const View<const T> turned{w.data, {w.shape[1], w.shape[0]}, {w.strides[1], w.strides[0]}, w.device};  // [in, out]
  multiply_chosen<L, T>(L("linear", y.device), x, turned, bias, y);
}

template <class L, class T>
void add_products(Verbs<T>& verbs) {
  verbs.matmul = matmul<L, T>;
  verbs.linear = linear<L, T>;
}

}  // namespace ttt::cuda_backend

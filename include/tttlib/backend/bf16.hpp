#pragma once
/// Verbs of bf16 tensors: what the same verb of float makes of the same numbers, summed in float and rounded once.
/// `fill`, `copy`, `cast` and a GPU's matrix products read bf16 themselves. Bytes: 8 more per number of every operand and result.

#include <algorithm>

#include "tttlib/backend/precision.hpp"
#include "tttlib/backend/table.hpp"

namespace ttt::backend {

template <class From, class To>
void cast(View<const From> x, View<To> y);

/// n numbers of bf16 behind a pointer (null: none).
template <class T>
struct CountedBf16 {
  View<T> numbers;
};
/// A result that a verb adds to.
struct UpdatedBf16 {
  View<bf16> numbers;
};
/// The length of an array that a verb takes as a pointer; nobody asks for it but bf16.
template <class T>
auto counted(T* data, std::int64_t n, Device device) {
  if constexpr (std::is_same_v<std::remove_const_t<T>, bf16>) return CountedBf16<T>{{data, {n}, {1}, device}};
  else return data;
}
/// Says that a verb adds to y.
template <class T>
auto updated(const View<T>& y) {
  if constexpr (std::is_same_v<T, bf16>) return UpdatedBf16{y};
  else return y;
}

/// Numbers of bf16 in float: axes of stride 0 stay so, others lie side by side. Without data where there was none.
class WideCopy {
 public:
  /// `read`: with x's numbers; else they are for a verb to write.
  template <class T>
  WideCopy(const View<T>& x, bool read) : view_{nullptr, x.shape, x.strides, x.device} {
    if (!x.data) return;
    View<const bf16> distinct{x.data, x.shape, x.strides, x.device};
    for (std::size_t axis = 0; axis < x.shape.size(); ++axis)
      if (x.strides[axis] == 0) distinct.shape[axis] = std::min<std::int64_t>(x.shape[axis], 1);
    numbers_ = Tensor<float>(distinct.shape, x.device);
    view_.data = numbers_.data();
    for (std::size_t axis = 0; axis < x.shape.size(); ++axis)
      if (x.strides[axis] != 0) view_.strides[axis] = numbers_.strides()[axis];
    if (read) backend::cast(distinct, mutable_view(numbers_));
  }
  const View<float>& view() const { return view_; }
  void round_to(const View<bf16>& y) const {
    if (y.data) backend::cast(View<const float>(view_), y);
  }

 private:
  Tensor<float> numbers_;
  View<float> view_;
};

/// An argument of a verb in float: `get` before it, `finish` after it. What is not of bf16 passes as it is.
template <class A>
struct InFloat {
  const A& argument;
  explicit InFloat(const A& a) : argument(a) {}
  const A& get() const { return argument; }
  void finish() const {}
};
template <>
struct InFloat<View<const bf16>> {
  WideCopy wide;
  explicit InFloat(const View<const bf16>& x) : wide(x, true) {}
  View<const float> get() const { return wide.view(); }
  void finish() const {}
};
template <>
struct InFloat<View<bf16>> {
  const View<bf16>& y;
  WideCopy wide;
  explicit InFloat(const View<bf16>& result) : y(result), wide(result, false) {}
  View<float> get() const { return wide.view(); }
  void finish() const { wide.round_to(y); }
};
template <>
struct InFloat<UpdatedBf16> {
  const View<bf16>& y;
  WideCopy wide;
  explicit InFloat(const UpdatedBf16& result) : y(result.numbers), wide(result.numbers, true) {}
  View<float> get() const { return wide.view(); }
  void finish() const { wide.round_to(y); }
};
template <class T>
struct InFloat<CountedBf16<T>> {
  InFloat<View<T>> array;
  explicit InFloat(const CountedBf16<T>& a) : array(a.numbers) {}
  auto get() const { return array.get().data; }
  void finish() const { array.finish(); }
};

/// Views that come in a struct, each by itself.
template <class T>
  requires std::is_same_v<std::remove_const_t<T>, bf16>
struct InFloat<GluOperands<T>> {
  InFloat<View<T>> q, k, v, w1, w2;
  explicit InFloat(const GluOperands<T>& x) : q(x.q), k(x.k), v(x.v), w1(x.w1), w2(x.w2) {}
  auto get() const { return GluOperands<std::remove_pointer_t<decltype(q.get().data)>>{q.get(), k.get(), v.get(), w1.get(), w2.get()}; }
  void finish() const { q.finish(), k.finish(), v.finish(), w1.finish(), w2.finish(); }
};
template <class T>
  requires std::is_same_v<std::remove_const_t<T>, bf16>
struct InFloat<DwconvOperands<T>> {
  InFloat<View<T>> q, k, v, w;
  explicit InFloat(const DwconvOperands<T>& x) : q(x.q), k(x.k), v(x.v), w(x.w) {}
  auto get() const { return DwconvOperands<std::remove_pointer_t<decltype(q.get().data)>>{q.get(), k.get(), v.get(), w.get()}; }
  void finish() const { q.finish(), k.finish(), v.finish(), w.finish(); }
};

/// Calls `verb` with all arguments in float.
template <class Verb, class... A>
auto with_floats(const Verb& verb, const InFloat<A>&... in) {
  if constexpr (std::is_void_v<decltype(verb(in.get()...))>) {
    verb(in.get()...);
    (in.finish(), ...);
  } else {
    return verb(in.get()...);
  }
}
template <class Verb, class... A>
auto in_float(const Verb& verb, const A&... arguments) {
  return with_floats(verb, InFloat<A>(arguments)...);
}

/// For the scope of a product: operands that are of bf16 lose nothing where a backend rounds them to bf16, and gain its speed.
template <class T>
struct ProductScope {};
template <>
struct ProductScope<bf16> {
  MatmulPrecisionGuard guard{MatmulPrecision::bfloat16};
};

}  // namespace ttt::backend

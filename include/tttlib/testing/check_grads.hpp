#pragma once
/// Are the derivatives of a function right? Along one random direction per order, central differences of the
/// function are compared with its vjp, and where they disagree, differences over narrower steps; the next order does
/// the same to that vjp as a function of (inputs, cotangent). In double: float differences are too coarse to tell a wrong rule from rounding.

#include <ostream>
#include <type_traits>

#include "tttlib/autograd/transforms.hpp"

namespace ttt {

struct CheckGradsOptions {
  double step = 1e-4;       // of the differences (fourth order); inputs should stay further from kinks
  double tolerance = 1e-6;  // largest relative error that passes
  std::uint64_t seed = 0;   // of the directions
};

/// What `check_grads` found: if `ok`, the highest order checked and the worst error of all; else the first
/// that failed.
struct GradCheck {
  bool ok = false;
  int order = 0;
  double numeric = 0, exact = 0, relative_error = 0;

  explicit operator bool() const { return ok; }
};

std::ostream& operator<<(std::ostream& out, const GradCheck& check);

namespace detail {

/// Parameters of a callable that has one signature; generic lambdas have none.
template <class F>
struct SignatureOf : std::false_type {};
template <class R, class... Args>
struct SignatureOf<R (*)(Args...)> : std::true_type {
  static constexpr std::size_t arity = sizeof...(Args);
  static constexpr bool takes_list = (std::is_same_v<std::decay_t<Args>, Tensors<double>> || ...);
};
template <class C, class R, class... Args>
struct SignatureOf<R (C::*)(Args...)> : SignatureOf<R (*)(Args...)> {};
template <class C, class R, class... Args>
struct SignatureOf<R (C::*)(Args...) const> : SignatureOf<R (*)(Args...)> {};
template <class F>
requires requires { &F::operator(); }
struct SignatureOf<F> : SignatureOf<decltype(&F::operator())> {};

/// True for a callable whose one signature lists tensors instead of taking them as one list.
template <class F>
constexpr bool takes_tensors() {
  if constexpr (SignatureOf<F>::value) return !SignatureOf<F>::takes_list;
  else return false;
}

/// f as a function of a list: one that takes tensors one by one is given the elements.
template <class F>
Function<double> of_list(const F& f, std::size_t inputs) {
  if constexpr (takes_tensors<std::decay_t<F>>()) {
    constexpr std::size_t arity = SignatureOf<std::decay_t<F>>::arity;
    if (inputs != arity)
      fail<GradError>("check_grads", concat("the function takes ", arity, " tensors, got ", inputs));
    return
        [f](const Tensors<double>& xs) { return unpack<double>(f, xs, std::make_index_sequence<arity>{}); };
  } else {
    return f;
  }
}

/// One order of the check, and the orders above it while they agree.
GradCheck check_order(const Function<double>& f, const Tensors<double>& xs, int order, int last,
                      std::uint64_t& stream, const CheckGradsOptions& options);

}  // namespace detail

/// Checks the derivatives of f at `inputs` up to `order` along random directions. f takes the list of inputs
/// (`const Tensors<double>&`; a generic lambda always does), or as many tensors as there are inputs.
/// Throws GradError if their number is wrong or there are none.
template <class F>
GradCheck check_grads(const F& f, const Tensors<double>& inputs, int order = 2,
                      const CheckGradsOptions& options = {}) {
  if (inputs.empty()) fail<GradError>("check_grads", "needs at least one input");
  if (order < 1) fail<GradError>("check_grads", concat("order must be at least 1: order ", order));
  Tensors<double> constants;
  for (const Tensor<double>& x : inputs) constants.push_back(x.detach());
  std::uint64_t stream = 0;
  return detail::check_order(detail::of_list(f, inputs.size()), constants, 1, order, stream, options);
}

}  // namespace ttt

#if !defined(TTTLIB_COMPILED)
#include "tttlib/testing/check_grads-inl.hpp"
#endif

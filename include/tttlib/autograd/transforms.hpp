#pragma once
/// Derivatives as functions: vjp, grad, value_and_grad, hvp. They nest to any depth.
///
/// Recording rule. A transform (1) makes fresh leaves that alias its arguments, with the argument's node as
/// parent if it has one; (2) runs the function with grad mode on; (3) walks back. The walk is itself recorded
/// iff grad mode was on at the call and it meets something tracked that this call did not make: then somebody
/// outside can ask for the derivative of the derivative. Otherwise results are constants and the graph is
/// freed on the way.

#include <functional>
#include <type_traits>
#include <utility>

#include "tttlib/autograd/sweep.hpp"

namespace ttt {

template <class T>
using Function = std::function<Tensor<T>(const Tensors<T>&)>;

namespace detail {

/// Depth of transforms that run their function right now; `backward` refuses to work inside one.
inline int& open_transforms() {
  thread_local int depth = 0;
  return depth;
}

/// Around the call of a function that is being differentiated: recording is on, whatever it was outside.
class Recording {
 public:
  Recording() { ++open_transforms(); }
  ~Recording() { --open_transforms(); }

 private:
  GradModeGuard on_{true};
};

/// A fresh leaf on the values of x; gradients still reach x's own history through it.
template <class T>
Tensor<T> alias_of(const Tensor<T>& x) {
  auto node = std::make_shared<AliasNode>();
  const Operand input = x;
  connect(*node, x, &input, 1);
  Tensor<T> leaf = x;
  leaf.set_node(std::move(node));
  return leaf;
}

template <class T>
void require_cotangent(const char* op, const Tensor<T>& y, const Tensor<T>& u,
                       const char* what = "the function must return a scalar, it returned ",
                       const char* hint = "vjp(f, xs, u) takes a cotangent of that shape") {
  if (!u.defined() && y.numel() != 1)
    fail<GradError>(op, concat(what, y.shape()), hint);
  if (u.defined() && u.shape() != y.shape())
    fail<ShapeError>(op, concat("the cotangent's shape differs from the output's: cotangent ", u.shape(),
                                ", output ", y.shape()));
  if (u.defined()) require_same_device(op, y, u);
}

/// A reference to any function of a list, so that what differentiates it is compiled once and not for every lambda.
template <class T>
class ListFunction {
 public:
  template <class F>
  explicit ListFunction(const F& f)
      : f_(&f), call_([](const void* g, const Tensors<T>& xs) -> Tensor<T> { return (*static_cast<const F*>(g))(xs); }) {}
  Tensor<T> operator()(const Tensors<T>& xs) const { return call_(f_, xs); }

 private:
  const void* f_;
  Tensor<T> (*call_)(const void*, const Tensors<T>&);
};

/// Value of f and the cotangents of its arguments.
template <class T>
std::pair<Tensor<T>, Tensors<T>> pull_back(const char* op, const ListFunction<T>& f, const Tensors<T>& xs, Tensor<T> u) {
  static_assert(is_floating<T>, "only tensors of float, double and bf16 have gradients");
  struct Depth {
    Depth() { ++transform_depth(); }
    ~Depth() { --transform_depth(); }
  } const depth;
  const bool outside = grad_mode();
  const std::uint64_t start = node_counter().load(std::memory_order_relaxed);
  Tensors<T> leaves;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (!xs[i].defined()) fail<GradError>(op, concat("argument ", i, " is undefined"));
    leaves.push_back(alias_of(xs[i]));
  }
  Tensor<T> y;
  {
    const Recording recording;
    y = f(leaves);
  }
  if (!y.defined()) fail<GradError>(op, "the function returned an undefined tensor");
  require_cotangent(op, y, u);
  if (!u.defined()) u = ones_like(y);
  std::vector<SweepRoot> roots;
  if (y.is_tracked()) roots.push_back({y.node(), u});
  std::vector<Node*> targets;
  for (const Tensor<T>& leaf : leaves) targets.push_back(leaf.node().get());
  SweepOrder order(roots, start);
  const bool recorded = outside && (u.is_tracked() || order.older() > 0);
  GradModeGuard recording(recorded);
  const std::vector<TensorBase> found = sweep(roots, order, targets, /*release=*/!recorded);
  Tensors<T> cotangents;
  for (std::size_t i = 0; i < xs.size(); ++i)
    cotangents.push_back(found[i].defined() ? Tensor<T>(found[i]) : zeros_like(xs[i]));
  if (!recorded) y = y.detach();
  return {std::move(y), std::move(cotangents)};
}

template <class T, class F, std::size_t... I>
auto unpack(const F& f, const Tensors<T>& xs, std::index_sequence<I...>) {
  return f(xs[I]...);
}

/// Calls f the way the caller of a transform passed its arguments: as a list, or one by one.
template <std::size_t N, class T, class F>
auto spread(const F& f) {
  return [&f](const Tensors<T>& xs) { return unpack<T>(f, xs, std::make_index_sequence<N>{}); };
}

}  // namespace detail

/// Cotangents of f's arguments for the output cotangent u: uᵀ·∂f/∂x_i, one per argument. f takes a list of
/// tensors. Cotangents may share memory with u and with each other, as views do: `clone` before `assign`.
template <class T, class F>
Tensors<T> vjp(const F& f, const Tensors<T>& xs, const Tensor<T>& u) {
  return detail::pull_back("vjp", detail::ListFunction<T>(f), xs, u).second;
}
/// The same for a function of one tensor.
template <class T, class F>
Tensor<T> vjp(const F& f, const Tensor<T>& x, const Tensor<T>& u) {
  const auto of_list = detail::spread<1, T>(f);
  return detail::pull_back("vjp", detail::ListFunction<T>(of_list), Tensors<T>{x}, u).second[0];
}

/// Value and gradient of a scalar function, as `(value, gradient)`; arguments as for `grad`.
template <class F>
auto value_and_grad(const F& f) {  // not by value: g++ 12 then takes what f captures by reference to be left alone
  return [f = f]<class First, class... Rest>(const First& first, const Rest&... rest) {
    if constexpr (requires { typename First::value_type::value_type; }) {  // a list of tensors
      using T = typename First::value_type::value_type;
      return detail::pull_back("grad", detail::ListFunction<T>(f), first, Tensor<T>());
    } else {
      using T = typename First::value_type;
      const auto of_list = detail::spread<1 + sizeof...(Rest), T>(f);
      auto [value, gradients] =
          detail::pull_back("grad", detail::ListFunction<T>(of_list), Tensors<T>{first, rest...}, Tensor<T>());
      if constexpr (sizeof...(Rest) == 0) return std::pair<Tensor<T>, Tensor<T>>(value, gradients[0]);
      else return std::pair<Tensor<T>, Tensors<T>>(value, gradients);
    }
  };
}

/// The gradient function of a scalar function: `grad(f)(x)` is a tensor, `grad(f)(a, b)` and `grad(f)(list)`
/// are lists with one gradient per argument. Throws GradError if f does not return one number.
template <class F>
auto grad(const F& f) {
  return [f = f](const auto&... xs) { return value_and_grad(f)(xs...).second; };
}

/// Hessian-vector product ∂²f/∂x² · v of a scalar function of one tensor.
template <class T, class F>
Tensor<T> hvp(const F& f, const Tensor<T>& x, const Tensor<T>& v) {
  return vjp([&](const Tensor<T>& at) { return grad(f)(at); }, x, v);  // the Hessian is symmetric
}

}  // namespace ttt

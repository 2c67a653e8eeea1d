#pragma once
/// Elementwise ops. Operands are broadcast first, by an op of its own, so no rule here sums anything back.
/// First-order rules of the activations are one fused pass when the sweep is not recorded; the recorded form beside
/// them is made of ops and so exact to any order. Values at special points: docs/numerics.md.

#include <cmath>
#include <utility>

#include "tttlib/ops/movement.hpp"

namespace ttt {

namespace detail {

template <class F, class T>
Tensor<T> compute(F f, const Tensor<T>& x) {
  Tensor<T> y = empty_like(x);
  backend::map(f, view(x), mutable_view(y));
  return y;
}
template <class F, class T>
Tensor<T> compute(F f, const Tensor<T>& a, const Tensor<T>& b) {
  Tensor<T> y = empty_like(a);
  backend::map(f, view(a), view(b), mutable_view(y));
  return y;
}

template <class T>
std::pair<Tensor<T>, Tensor<T>> broadcast_pair(const char* op, const Tensor<T>& a, const Tensor<T>& b) {
  require_same_device(op, a, b);
  if (a.shape() == b.shape()) return {a, b};
  const Shape shape = broadcast_shapes(op, a.shape(), b.shape());
  return {broadcast_to(a, shape), broadcast_to(b, shape)};
}

/// f of two broadcast operands, never recorded: comparisons.
template <class F, class T>
Tensor<T> compare(const char* op, F f, const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = broadcast_pair(op, a.detach(), b.detach());
  return compute(f, pair.first, pair.second);
}

}  // namespace detail

// ----------------------------------------------------------------------------------------------- arithmetic
template <class T>
Tensor<T> neg(const Tensor<T>& x) {
  return record<T>("neg", detail::compute(formula::Neg{}, x), {x}, [](const Call<T>& c) { return neg(c.g); });
}
/// a + b; shapes broadcast. Throws ShapeError if they do not.
template <class T>
Tensor<T> add(const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = detail::broadcast_pair("add", a, b);
  return detail::add_same(pair.first, pair.second);
}
template <class T>
Tensor<T> add(const Tensor<T>& x, std::type_identity_t<T> value) {
  return record<T>("add_scalar", detail::compute(formula::AddScalar{static_cast<double>(value)}, x), {x},
                   [](const Call<T>& c) { return c.g; });
}
/// a − b; shapes broadcast.
template <class T>
Tensor<T> sub(const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = detail::broadcast_pair("sub", a, b);
  return record<T>("sub", detail::compute(formula::Sub{}, pair.first, pair.second), {pair.first, pair.second},
                   [](const Call<T>& c) { return c.g; }, [](const Call<T>& c) { return neg(c.g); });
}
/// a ⊙ b; shapes broadcast.
template <class T>
Tensor<T> mul(const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = detail::broadcast_pair("mul", a, b);
  const Tensor<T>&x = pair.first, &y = pair.second;
  return record<T>("mul", detail::compute(formula::Mul{}, x, y), {{x, y.is_tracked()}, {y, x.is_tracked()}},
                   [](const Call<T>& c) { return mul(c.g, c.in(1)); }, [](const Call<T>& c) { return mul(c.g, c.in(0)); });
}
template <class T>
Tensor<T> mul(const Tensor<T>& x, std::type_identity_t<T> value) {
  return record<T>("mul_scalar", detail::compute(formula::MulScalar{static_cast<double>(value)}, x), {x},
                   [value](const Call<T>& c) { return mul(c.g, value); });
}
template <class T>
Tensor<T> reciprocal(const Tensor<T>& x) {
  return record<T>("reciprocal", saved(detail::compute(formula::Reciprocal{}, x)), {x}, [](const Call<T>& c) {
    const Tensor<T> y = c.y();
    return neg(mul(c.g, mul(y, y)));
  });
}
/// 1/x, and 0 (with derivative 0) at x = 0: what the derivative of a norm needs at the origin.
template <class T>
Tensor<T> reciprocal_or_zero(const Tensor<T>& x) {
  return record<T>("reciprocal_or_zero", saved(detail::compute(formula::ReciprocalOrZero{}, x)), {x}, [](const Call<T>& c) {
    const Tensor<T> y = c.y();
    return neg(mul(c.g, mul(y, y)));
  });
}
/// a / b; shapes broadcast.
template <class T>
Tensor<T> div(const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = detail::broadcast_pair("div", a, b);
  const Tensor<T>&x = pair.first, &y = pair.second;
  return record<T>("div", detail::compute(formula::Div{}, x, y), {{x, y.is_tracked()}, saved(y)},
                   [](const Call<T>& c) { return div(c.g, c.in(1)); },
                   [](const Call<T>& c) { return neg(div(mul(c.g, c.in(0)), mul(c.in(1), c.in(1)))); });
}
template <class T>
Tensor<T> square(const Tensor<T>& x) {
  return record<T>("square", detail::compute(formula::Square{}, x), {saved(x)},
                   [](const Call<T>& c) { return mul(mul(c.g, c.in(0)), T(2)); });
}
/// x^p for a number p; with an integer p the polynomial, defined at 0.
template <class T>
Tensor<T> pow(const Tensor<T>& x, double p) {
  return record<T>("pow", detail::compute(formula::PowScalar{p}, x), {saved(x)}, [p](const Call<T>& c) {
    if (p == 0) return zeros_like(c.g);
    return mul(mul(c.g, pow(c.in(0), p - 1)), static_cast<T>(p));
  });
}
/// a^b for tensors, a > 0; shapes broadcast.
template <class T>
Tensor<T> pow(const Tensor<T>& a, const Tensor<T>& b);

// ------------------------------------------------------------------------------------------------ functions
template <class T>
Tensor<T> exp(const Tensor<T>& x) {
  return record<T>("exp", saved(detail::compute(formula::Exp{}, x)), {x}, [](const Call<T>& c) { return mul(c.g, c.y()); });
}
template <class T>
Tensor<T> log(const Tensor<T>& x) {
  return record<T>("log", detail::compute(formula::Log{}, x), {saved(x)}, [](const Call<T>& c) { return div(c.g, c.in(0)); });
}
template <class T>
Tensor<T> sqrt(const Tensor<T>& x) {
  return record<T>("sqrt", saved(detail::compute(formula::Sqrt{}, x)), {x},
                   [](const Call<T>& c) { return mul(div(c.g, c.y()), T(0.5)); });
}
template <class T>
Tensor<T> rsqrt(const Tensor<T>& x) {
  return record<T>("rsqrt", saved(detail::compute(formula::Rsqrt{}, x)), {x},
                   [](const Call<T>& c) { return mul(mul(c.g, pow(c.y(), 3)), T(-0.5)); });
}
template <class T>
Tensor<T> cos(const Tensor<T>& x);
template <class T>
Tensor<T> sin(const Tensor<T>& x) {
  return record<T>("sin", detail::compute(formula::Sin{}, x), {saved(x)}, [](const Call<T>& c) { return mul(c.g, cos(c.in(0))); });
}
template <class T>
Tensor<T> cos(const Tensor<T>& x) {
  return record<T>("cos", detail::compute(formula::Cos{}, x), {saved(x)},
                   [](const Call<T>& c) { return neg(mul(c.g, sin(c.in(0)))); });
}
template <class T>
Tensor<T> tanh(const Tensor<T>& x) {
  return record<T>("tanh", saved(detail::compute(formula::Tanh{}, x)), {x},
                   [](const Call<T>& c) { return sub(c.g, mul(c.g, square(c.y()))); });
}
template <class T>
Tensor<T> sigmoid(const Tensor<T>& x) {
  return record<T>("sigmoid", saved(detail::compute(formula::Sigmoid{}, x)), {x}, [](const Call<T>& c) {
    const Tensor<T> gy = mul(c.g, c.y());
    return sub(gy, mul(gy, c.y()));
  });
}
template <class T>
Tensor<T> erf(const Tensor<T>& x) {
  return record<T>("erf", detail::compute(formula::Erf{}, x), {saved(x)}, [](const Call<T>& c) {
    return mul(mul(c.g, exp(neg(square(c.in(0))))), T(1.12837916709551257390));  // 2/√π · e^{−x²}
  });
}
/// −1, 0 or 1; its derivative is 0 everywhere.
template <class T>
Tensor<T> sign(const Tensor<T>& x) {
  return record<T>("sign", detail::compute(formula::Sign{}, x), {x}, [](const Call<T>& c) { return zeros_like(c.g); });
}
template <class T>
Tensor<T> abs(const Tensor<T>& x) {
  return record<T>("abs", detail::compute(formula::Abs{}, x), {saved(x)},
                   [](const Call<T>& c) { return mul(c.g, sign(c.in(0).detach())); });
}

// ---------------------------------------------------------------------------------------------- activations
template <class T>
Tensor<T> relu(const Tensor<T>& x) {
  return record<T>("relu", detail::compute(formula::Relu{}, x), {saved(x)}, [](const Call<T>& c) {
    if (!grad_mode()) return detail::compute(formula::ReluPull{}, c.in(0), c.g);
    return mul(c.g, detail::compute(formula::Step{}, c.in(0).detach()));
  });
}
/// S'(x) of S = silu: σ(1 + x(1−σ)).
template <class T>
Tensor<T> silu_grad(const Tensor<T>& x) {
  return record<T>("silu_grad", detail::compute(formula::SiluGrad{}, x), {saved(x)}, [](const Call<T>& c) {
    const Tensor<T> x = c.in(0);
    if (!grad_mode()) return detail::compute(formula::SiluGradPull{}, x, c.g);
    const Tensor<T> s = sigmoid(x);
    const Tensor<T> slope = mul(s, add(neg(s), T(1)));                                 // σ(1−σ)
    return mul(mul(c.g, slope), add(mul(x, add(mul(s, T(-2)), T(1))), T(2)));          // S'' = σ(1−σ)(2 + x(1−2σ))
  });
}
/// SiLU: x·σ(x).
template <class T>
Tensor<T> silu(const Tensor<T>& x) {
  return record<T>("silu", detail::compute(formula::Silu{}, x), {saved(x)}, [](const Call<T>& c) {
    if (!grad_mode()) return detail::compute(formula::SiluPull{}, c.in(0), c.g);
    return mul(c.g, silu_grad(c.in(0)));
  });
}
/// Exact GELU: x·Φ(x).
template <class T>
Tensor<T> gelu(const Tensor<T>& x) {
  return record<T>("gelu", detail::compute(formula::Gelu{}, x), {saved(x)}, [](const Call<T>& c) {
    const Tensor<T> x = c.in(0);
    if (!grad_mode()) return detail::compute(formula::GeluPull{}, x, c.g);
    const Tensor<T> cdf = mul(add(erf(mul(x, T(formula::inv_sqrt2))), T(1)), T(0.5));
    const Tensor<T> density = mul(exp(mul(square(x), T(-0.5))), T(formula::inv_sqrt_2pi));
    return mul(c.g, add(cdf, mul(x, density)));
  });
}
/// The tanh approximation of GELU.
template <class T>
Tensor<T> gelu_tanh(const Tensor<T>& x) {
  return record<T>("gelu_tanh", detail::compute(formula::GeluTanh{}, x), {saved(x)}, [](const Call<T>& c) {
    const Tensor<T> x = c.in(0);
    if (!grad_mode()) return detail::compute(formula::GeluTanhPull{}, x, c.g);
    const Tensor<T> x2 = square(x);
    const Tensor<T> t = tanh(mul(mul(x, add(mul(x2, T(formula::gelu_cubic)), T(1))), T(formula::sqrt_2_over_pi)));
    const Tensor<T> slope = mul(add(mul(x2, T(3 * formula::gelu_cubic)), T(1)), T(formula::sqrt_2_over_pi));
    const Tensor<T> rest = mul(mul(x, add(neg(square(t)), T(1))), slope);
    return mul(mul(c.g, add(add(t, rest), T(1))), T(0.5));
  });
}

// ----------------------------------------------------------------------------------- comparisons, where, extrema
/// 1 where the comparison holds, else 0; never recorded.
template <class T>
Tensor<T> eq(const Tensor<T>& a, const Tensor<T>& b) { return detail::compare("eq", formula::Equal{}, a, b); }
template <class T>
Tensor<T> ne(const Tensor<T>& a, const Tensor<T>& b) { return detail::compare("ne", formula::NotEqual{}, a, b); }
template <class T>
Tensor<T> lt(const Tensor<T>& a, const Tensor<T>& b) { return detail::compare("lt", formula::Less{}, a, b); }
template <class T>
Tensor<T> le(const Tensor<T>& a, const Tensor<T>& b) { return detail::compare("le", formula::LessEqual{}, a, b); }
template <class T>
Tensor<T> gt(const Tensor<T>& a, const Tensor<T>& b) { return detail::compare("gt", formula::Less{}, b, a); }
template <class T>
Tensor<T> ge(const Tensor<T>& a, const Tensor<T>& b) { return detail::compare("ge", formula::LessEqual{}, b, a); }

/// a where the condition is not 0, else b; all three broadcast. The condition is a constant.
template <class T>
Tensor<T> where(const Tensor<T>& condition, const Tensor<T>& a, const Tensor<T>& b) {
  require_same_device("where", a, b);
  require_same_device("where", condition, a);
  const Shape shape = broadcast_shapes("where", condition.shape(), broadcast_shapes("where", a.shape(), b.shape()));
  const Tensor<T> mask = broadcast_to(condition.detach(), shape), x = broadcast_to(a, shape), y = broadcast_to(b, shape);
  Tensor<T> z(shape, a.device());
  backend::where(view(mask), view(x), view(y), mutable_view(z));
  return record<T>("where", z, {x, y}, [mask](const Call<T>& c) { return where(mask, c.g, zeros_like(c.g)); },
                   [mask](const Call<T>& c) { return where(mask, zeros_like(c.g), c.g); });
}
/// The larger of two, with half the gradient to each at a tie; shapes broadcast.
template <class T>
Tensor<T> maximum(const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = detail::broadcast_pair("maximum", a, b);
  return record<T>(
      "maximum", detail::compute(formula::Maximum{}, pair.first, pair.second), {saved(pair.first), saved(pair.second)},
      [](const Call<T>& c) { return mul(c.g, mul(add(gt(c.in(0), c.in(1)), ge(c.in(0), c.in(1))), T(0.5))); },
      [](const Call<T>& c) { return mul(c.g, mul(add(gt(c.in(1), c.in(0)), ge(c.in(1), c.in(0))), T(0.5))); });
}
/// The smaller of two, with half the gradient to each at a tie; shapes broadcast.
template <class T>
Tensor<T> minimum(const Tensor<T>& a, const Tensor<T>& b) {
  return neg(maximum(neg(a), neg(b)));
}
/// x limited to [low, high]; the derivative is 1 on both bounds.
template <class T>
Tensor<T> clamp(const Tensor<T>& x, std::type_identity_t<T> low, std::type_identity_t<T> high) {
  const double p = static_cast<double>(low), q = static_cast<double>(high);
  return record<T>("clamp", detail::compute(formula::Clamp{p, q}, x), {saved(x)}, [p, q](const Call<T>& c) {
    return mul(c.g, detail::compute(formula::InRange{p, q}, c.in(0).detach()));
  });
}
template <class T>
Tensor<T> pow(const Tensor<T>& a, const Tensor<T>& b) {
  return exp(mul(b, log(a)));
}

// ------------------------------------------------------------------------------------------------- operators
template <class T> Tensor<T> operator-(const Tensor<T>& x) { return neg(x); }
template <class T> Tensor<T> operator+(const Tensor<T>& a, const Tensor<T>& b) { return add(a, b); }
template <class T> Tensor<T> operator-(const Tensor<T>& a, const Tensor<T>& b) { return sub(a, b); }
template <class T> Tensor<T> operator*(const Tensor<T>& a, const Tensor<T>& b) { return mul(a, b); }
template <class T> Tensor<T> operator/(const Tensor<T>& a, const Tensor<T>& b) { return div(a, b); }
template <class T> Tensor<T> operator+(const Tensor<T>& x, std::type_identity_t<T> v) { return add(x, v); }
template <class T> Tensor<T> operator-(const Tensor<T>& x, std::type_identity_t<T> v) { return add(x, -v); }
template <class T> Tensor<T> operator*(const Tensor<T>& x, std::type_identity_t<T> v) { return mul(x, v); }
template <class T> Tensor<T> operator/(const Tensor<T>& x, std::type_identity_t<T> v) { return mul(x, T(1) / v); }
template <class T> Tensor<T> operator+(std::type_identity_t<T> v, const Tensor<T>& x) { return add(x, v); }
template <class T> Tensor<T> operator-(std::type_identity_t<T> v, const Tensor<T>& x) { return add(neg(x), v); }
template <class T> Tensor<T> operator*(std::type_identity_t<T> v, const Tensor<T>& x) { return mul(x, v); }
template <class T> Tensor<T> operator/(std::type_identity_t<T> v, const Tensor<T>& x) { return mul(reciprocal(x), v); }

}  // namespace ttt

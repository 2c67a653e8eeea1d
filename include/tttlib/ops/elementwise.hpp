#pragma once
/// Elementwise ops. Operands are broadcast first, by an op of its own, so no rule here sums anything back.
/// First-order rules of the activations are one fused pass when the sweep is not recorded; the recorded form beside
/// them is made of ops and so exact to any order. Values at special points: docs/numerics.md.

#include <cmath>
#include <limits>
#include <utility>

#include "tttlib/ops/movement.hpp"

namespace ttt {

namespace detail {

/// Whether the backends have a formula for an element type: all in float, double and bf16, integer arithmetic in int64.
template <class F, class T>
inline constexpr bool has_kernel = is_floating<T>;
#define TTT_INTEGER_FORMULAS(X) \
  X(Neg) X(Abs) X(Add) X(Sub) X(Mul) X(Maximum) X(Minimum) X(Equal) X(NotEqual) X(Less) X(LessEqual)
#define TTT_HAS_KERNEL(Name) \
  template <>                \
  inline constexpr bool has_kernel<formula::Name, std::int64_t> = true;
TTT_INTEGER_FORMULAS(TTT_HAS_KERNEL)
#undef TTT_HAS_KERNEL
#undef TTT_INTEGER_FORMULAS

template <class F, class T>
Tensor<T> compute(F f, const Tensor<T>& x) {
  static_assert(has_kernel<F, T>, "this op works on tensors of float, double and bf16: cast<float>(x) first");
  Tensor<T> y = empty_like(x);
  backend::map(f, view(x), mutable_view(y));
  return y;
}
template <class F, class T>
Tensor<T> compute(const char* op, F f, const Tensor<T>& x) {
  require_defined(op, x);
  return compute(f, x);
}
template <class F, class T>
Tensor<T> compute(F f, const Tensor<T>& a, const Tensor<T>& b) {
  static_assert(has_kernel<F, T>, "this op works on tensors of float, double and bf16: cast<float>(x) first");
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
/// −x.
template <class T>
Tensor<T> neg(const Tensor<T>& x) {
  return record<T>("neg", detail::compute("neg", formula::Neg{}, x), {x}, [](const Call<T>& c) { return neg(c.g); });
}
/// a + b; shapes broadcast. Throws ShapeError if they do not.
template <class T>
Tensor<T> add(const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = detail::broadcast_pair("add", a, b);
  return detail::add_same(pair.first, pair.second);
}
template <class T>
Tensor<T> add(const Tensor<T>& x, Wide<T> value) {
  if constexpr (!is_floating<T>) return add(x, full<T>({}, value, x.device()));  // formulas carry doubles, which lack an int64's last bits
  else return record<T>("add_scalar", detail::compute("add", formula::AddScalar{static_cast<double>(value)}, x), {x},
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
Tensor<T> mul(const Tensor<T>& x, Wide<T> value) {
  if constexpr (!is_floating<T>) return mul(x, full<T>({}, value, x.device()));
  else return record<T>("mul_scalar", detail::compute("mul", formula::MulScalar{static_cast<double>(value)}, x), {x},
                   [value](const Call<T>& c) { return mul(c.g, value); });
}
/// 1/x.
template <class T>
Tensor<T> reciprocal(const Tensor<T>& x) {
  return record<T>("reciprocal", saved(detail::compute("reciprocal", formula::Reciprocal{}, x)), {x}, [](const Call<T>& c) {
    const Tensor<T> y = c.y();
    return neg(mul(c.g, mul(y, y)));
  });
}
/// 1/x, and 0 (with derivative 0) at x = 0: what the derivative of a norm needs at the origin.
template <class T>
Tensor<T> reciprocal_or_zero(const Tensor<T>& x) {
  return record<T>("reciprocal_or_zero", saved(detail::compute("reciprocal_or_zero", formula::ReciprocalOrZero{}, x)), {x}, [](const Call<T>& c) {
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
Tensor<T> div(const Tensor<T>& x, Wide<T> value) {
  return record<T>("div_scalar", detail::compute("div", formula::DivScalar{static_cast<double>(value)}, x), {x},
                   [value](const Call<T>& c) { return div(c.g, value); });
}
/// x².
template <class T>
Tensor<T> square(const Tensor<T>& x) {
  return record<T>("square", detail::compute("square", formula::Square{}, x), {saved(x)},
                   [](const Call<T>& c) { return mul(mul(c.g, c.in(0)), 2); });
}
/// x^p for a number p; with an integer p the polynomial, defined at 0.
template <class T>
Tensor<T> pow(const Tensor<T>& x, double p) {
  return record<T>("pow", detail::compute("pow", formula::PowScalar{p}, x), {saved(x)}, [p](const Call<T>& c) {
    if (p == 0) return zeros_like(c.g);
    return mul(mul(c.g, pow(c.in(0), p - 1)), static_cast<Wide<T>>(p));
  });
}
/// a^b for tensors; shapes broadcast. b's gradient needs a ≥ 0; special points as in docs/numerics.md.
template <class T>
Tensor<T> pow(const Tensor<T>& a, const Tensor<T>& b);

// ------------------------------------------------------------------------------------------------ functions
/// e^x.
template <class T>
Tensor<T> exp(const Tensor<T>& x) {
  return record<T>("exp", saved(detail::compute("exp", formula::Exp{}, x)), {x}, [](const Call<T>& c) { return mul(c.g, c.y()); });
}
/// The natural logarithm: −∞ at 0, where its derivative 1/x is +∞; NaN below.
template <class T>
Tensor<T> log(const Tensor<T>& x) {
  return record<T>("log", detail::compute("log", formula::Log{}, x), {saved(x)}, [](const Call<T>& c) { return div(c.g, c.in(0)); });
}
/// log(1 + x), with all its digits near 0.
template <class T>
Tensor<T> log1p(const Tensor<T>& x) {
  return record<T>("log1p", detail::compute("log1p", formula::Log1p{}, x), {saved(x)}, [](const Call<T>& c) { return div(c.g, add(c.in(0), 1)); });
}
/// √x; its derivative at 0 is +∞.
template <class T>
Tensor<T> sqrt(const Tensor<T>& x) {
  return record<T>("sqrt", saved(detail::compute("sqrt", formula::Sqrt{}, x)), {x},
                   [](const Call<T>& c) { return mul(div(c.g, c.y()), 0.5); });
}
/// 1/√x: +∞ at 0, where its derivative is −∞.
template <class T>
Tensor<T> rsqrt(const Tensor<T>& x) {
  return record<T>("rsqrt", saved(detail::compute("rsqrt", formula::Rsqrt{}, x)), {x},
                   [](const Call<T>& c) { return mul(mul(c.g, pow(c.y(), 3)), -0.5); });
}
/// cos x, x in radians.
template <class T>
Tensor<T> cos(const Tensor<T>& x);
/// sin x, x in radians.
template <class T>
Tensor<T> sin(const Tensor<T>& x) {
  return record<T>("sin", detail::compute("sin", formula::Sin{}, x), {saved(x)}, [](const Call<T>& c) { return mul(c.g, cos(c.in(0))); });
}
template <class T>
Tensor<T> cos(const Tensor<T>& x) {
  return record<T>("cos", detail::compute("cos", formula::Cos{}, x), {saved(x)},
                   [](const Call<T>& c) { return neg(mul(c.g, sin(c.in(0)))); });
}
/// (e^x − e^−x)/(e^x + e^−x); saturates at ±1.
template <class T>
Tensor<T> tanh(const Tensor<T>& x) {
  return record<T>("tanh", saved(detail::compute("tanh", formula::Tanh{}, x)), {x},
                   [](const Call<T>& c) { return sub(c.g, mul(c.g, square(c.y()))); });
}
/// σ(x) = 1/(1 + e^−x); saturates at 0 and 1.
template <class T>
Tensor<T> sigmoid(const Tensor<T>& x) {
  return record<T>("sigmoid", saved(detail::compute("sigmoid", formula::Sigmoid{}, x)), {x}, [](const Call<T>& c) {
    const Tensor<T> gy = mul(c.g, c.y());
    return sub(gy, mul(gy, c.y()));
  });
}
/// 2/√π ∫₀ˣ e^{−t²} dt.
template <class T>
Tensor<T> erf(const Tensor<T>& x) {
  return record<T>("erf", detail::compute("erf", formula::Erf{}, x), {saved(x)}, [](const Call<T>& c) {
    return mul(mul(c.g, exp(neg(square(c.in(0))))), Wide<T>(1.12837916709551257390));  // 2/√π · e^{−x²}
  });
}
/// −1, 0 or 1; its derivative is 0 everywhere.
template <class T>
Tensor<T> sign(const Tensor<T>& x) {
  return record<T>("sign", detail::compute("sign", formula::Sign{}, x), {x}, [](const Call<T>& c) { return zeros_like(c.g); });
}
/// |x|; its derivative at 0 is 0.
template <class T>
Tensor<T> abs(const Tensor<T>& x) {
  if constexpr (!is_floating<T>) return detail::compute("abs", formula::Abs{}, x);
  else return record<T>("abs", detail::compute("abs", formula::Abs{}, x), {saved(x)},
                   [](const Call<T>& c) { return mul(c.g, sign(c.in(0).detach())); });
}

// ---------------------------------------------------------------------------------------------- activations
/// max(x, 0); its derivative at 0 is 0.
template <class T>
Tensor<T> relu(const Tensor<T>& x) {
  return record<T>("relu", detail::compute("relu", formula::Relu{}, x), {saved(x)}, [](const Call<T>& c) {
    if (!grad_mode()) return detail::compute(formula::ReluPull{}, c.in(0), c.g);
    return mul(c.g, detail::compute(formula::Step{}, c.in(0).detach()));
  });
}
/// S'(x) of S = silu: σ(1 + x(1−σ)).
template <class T>
Tensor<T> silu_grad(const Tensor<T>& input) {
  return record<T>("silu_grad", detail::compute("silu_grad", formula::SiluGrad{}, input), {saved(input)}, [](const Call<T>& c) {
    const Tensor<T> x = c.in(0);
    if (!grad_mode()) return detail::compute(formula::SiluGradPull{}, x, c.g);
    const Tensor<T> s = sigmoid(x);
    const Tensor<T> slope = mul(s, add(neg(s), 1));                            // σ(1−σ)
    return mul(mul(c.g, slope), add(mul(x, add(mul(s, -2), 1)), 2));           // S'' = σ(1−σ)(2 + x(1−2σ))
  });
}
/// SiLU: x·σ(x).
template <class T>
Tensor<T> silu(const Tensor<T>& x) {
  return record<T>("silu", detail::compute("silu", formula::Silu{}, x), {saved(x)}, [](const Call<T>& c) {
    if (!grad_mode()) return detail::compute(formula::SiluPull{}, c.in(0), c.g);
    return mul(c.g, silu_grad(c.in(0)));
  });
}
/// Exact GELU: x·Φ(x).
template <class T>
Tensor<T> gelu(const Tensor<T>& input) {
  return record<T>("gelu", detail::compute("gelu", formula::Gelu{}, input), {saved(input)}, [](const Call<T>& c) {
    const Tensor<T> x = c.in(0);
    if (!grad_mode()) return detail::compute(formula::GeluPull{}, x, c.g);
    const Tensor<T> cdf = mul(add(erf(mul(x, Wide<T>(formula::inv_sqrt2))), 1), 0.5);
    const Tensor<T> density = mul(exp(mul(square(x), -0.5)), Wide<T>(formula::inv_sqrt_2pi));
    return mul(c.g, add(cdf, mul(x, density)));
  });
}
/// The tanh approximation of GELU.
template <class T>
Tensor<T> gelu_tanh(const Tensor<T>& input) {
  return record<T>("gelu_tanh", detail::compute("gelu_tanh", formula::GeluTanh{}, input), {saved(input)}, [](const Call<T>& c) {
    const Tensor<T> x = c.in(0);
    if (!grad_mode()) return detail::compute(formula::GeluTanhPull{}, x, c.g);
    const Tensor<T> x2 = square(x);
    const Tensor<T> t = tanh(mul(mul(x, add(mul(x2, Wide<T>(formula::gelu_cubic)), 1)), Wide<T>(formula::sqrt_2_over_pi)));
    const Tensor<T> slope = mul(add(mul(x2, Wide<T>(3 * formula::gelu_cubic)), 1), Wide<T>(formula::sqrt_2_over_pi));
    const Tensor<T> rest = mul(mul(x, add(neg(square(t)), 1)), slope);
    return mul(mul(c.g, add(add(t, rest), 1)), 0.5);
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
/// The same with a number.
template <class T>
Tensor<T> eq(const Tensor<T>& a, Wide<T> b) { return eq(a, full<T>({}, b, a.device())); }
template <class T>
Tensor<T> ne(const Tensor<T>& a, Wide<T> b) { return ne(a, full<T>({}, b, a.device())); }
template <class T>
Tensor<T> lt(const Tensor<T>& a, Wide<T> b) { return lt(a, full<T>({}, b, a.device())); }
template <class T>
Tensor<T> le(const Tensor<T>& a, Wide<T> b) { return le(a, full<T>({}, b, a.device())); }
template <class T>
Tensor<T> gt(const Tensor<T>& a, Wide<T> b) { return gt(a, full<T>({}, b, a.device())); }
template <class T>
Tensor<T> ge(const Tensor<T>& a, Wide<T> b) { return ge(a, full<T>({}, b, a.device())); }

/// a where the condition is not 0, else b; all three broadcast. The condition is a constant.
template <class T>
Tensor<T> where(const Tensor<T>& condition, const Tensor<T>& a, const Tensor<T>& b) {
  require_same_device("where", a, b);
  require_same_device("where", condition, a);
  const Shape shape = broadcast_shapes("where", condition.shape(), broadcast_shapes("where", a.shape(), b.shape()));
  const Tensor<T> mask = broadcast_to(condition.detach(), shape), x = broadcast_to(a, shape), y = broadcast_to(b, shape);
  Tensor<T> z(shape, a.device());
  backend::where(view(mask), view(x), view(y), mutable_view(z));
  const detail::Constant<T> kept(mask);
  return record<T>("where", z, {x, y}, [kept](const Call<T>& c) { return where(kept.get("where", "condition"), c.g, zeros_like(c.g)); },
                   [kept](const Call<T>& c) { return where(kept.get("where", "condition"), zeros_like(c.g), c.g); });
}
template <class T>
Tensor<T> where(const Tensor<T>& condition, const Tensor<T>& a, Wide<T> b) {
  return where(condition, a, full<T>({}, b, a.device()));
}
template <class T>
Tensor<T> where(const Tensor<T>& condition, Wide<T> a, const Tensor<T>& b) {
  return where(condition, full<T>({}, a, b.device()), b);
}
template <class T>
Tensor<T> where(const Tensor<T>& condition, Wide<T> a, Wide<T> b) {
  return where(condition, full<T>({}, a, condition.device()), full<T>({}, b, condition.device()));
}
/// x + scale·y in one pass; y and scale broadcast to x's shape. The scale is a constant.
template <class T>
Tensor<T> add_scaled(const Tensor<T>& x, const Tensor<T>& y, const Tensor<T>& scale) {
  require_same_device("add_scaled", x, y);
  require_same_device("add_scaled", x, scale);
  const Tensor<T> branch = broadcast_to(y, x.shape()), factor = broadcast_to(scale.detach(), x.shape());
  Tensor<T> z(x.shape(), x.device());
  backend::add_scaled(view(x), view(branch), view(factor), mutable_view(z));
  const detail::Constant<T> kept(factor);
  return record<T>("add_scaled", z, {x, branch}, [](const Call<T>& c) { return c.g; },
                   [kept](const Call<T>& c) { return mul(c.g, kept.get("add_scaled", "scale")); });
}
/// The larger of two, with half the gradient to each at a tie; shapes broadcast.
template <class T>
Tensor<T> maximum(const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = detail::broadcast_pair("maximum", a, b);
  if constexpr (!is_floating<T>) return detail::compute(formula::Maximum{}, pair.first, pair.second);
  else return record<T>(
      "maximum", detail::compute(formula::Maximum{}, pair.first, pair.second), {saved(pair.first), saved(pair.second)},
      [](const Call<T>& c) { return mul(c.g, mul(add(gt(c.in(0), c.in(1)), ge(c.in(0), c.in(1))), 0.5)); },
      [](const Call<T>& c) { return mul(c.g, mul(add(gt(c.in(1), c.in(0)), ge(c.in(1), c.in(0))), 0.5)); });
}
/// The smaller of two, with half the gradient to each at a tie; shapes broadcast.
template <class T>
Tensor<T> minimum(const Tensor<T>& a, const Tensor<T>& b) {
  if constexpr (!is_floating<T>) return detail::compare("minimum", formula::Minimum{}, a, b);
  else return neg(maximum(neg(a), neg(b)));
}
template <class T>
Tensor<T> maximum(const Tensor<T>& a, Wide<T> b) { return maximum(a, full<T>({}, b, a.device())); }
template <class T>
Tensor<T> minimum(const Tensor<T>& a, Wide<T> b) { return minimum(a, full<T>({}, b, a.device())); }
/// x limited to [low, high], and high where low is above it; the derivative is 1 on both bounds.
template <class T>
Tensor<T> clamp(const Tensor<T>& x, Wide<T> low, Wide<T> high) {
  if constexpr (!is_floating<T>) {
    return minimum(maximum(x, low), high);
  } else {
    const double p = static_cast<double>(low), q = static_cast<double>(high);
    return record<T>("clamp", detail::compute("clamp", formula::Clamp{p, q}, x), {saved(x)}, [p, q](const Call<T>& c) {
      return mul(c.g, detail::compute(formula::InRange{p, q}, c.in(0).detach()));
    });
  }
}
/// x limited on one side; the derivative is 1 on the bound.
template <class T>
Tensor<T> clamp_min(const Tensor<T>& x, Wide<T> low) {
  if constexpr (!is_floating<T>) return maximum(x, low);
  else return clamp(x, low, std::numeric_limits<Wide<T>>::infinity());
}
template <class T>
Tensor<T> clamp_max(const Tensor<T>& x, Wide<T> high) {
  if constexpr (!is_floating<T>) return minimum(x, high);
  else return clamp(x, -std::numeric_limits<Wide<T>>::infinity(), high);
}
template <class T>
Tensor<T> pow(const Tensor<T>& a, const Tensor<T>& b) {
  const auto pair = detail::broadcast_pair("pow", a, b);
  return record<T>(
      "pow_tensor", detail::compute(formula::Pow{}, pair.first, pair.second), {saved(pair.first), saved(pair.second)},
      [](const Call<T>& c) {  // b·a^(b−1); at 0^0 the exponent is moved away from −1, where b = 0 cancels it
        const Tensor<T> x = c.in(0), y = c.in(1), zero = zeros_like(c.g);
        const Tensor<T> corner = mul(eq(x, zero), eq(y, zero));
        return mul(c.g, mul(y, pow(x, where(corner, ones_like(c.g), sub(y, ones_like(c.g))))));
      },
      [](const Call<T>& c) {  // a^b·log a; 0 at a = 0
        const Tensor<T> x = c.in(0);
        return mul(c.g, mul(pow(x, c.in(1)), log(where(eq(x, zeros_like(c.g)), ones_like(c.g), x))));
      });
}

// ------------------------------------------------------------------------------------------------- operators
template <class T> Tensor<T> operator-(const Tensor<T>& x) { return neg(x); }
template <class T> Tensor<T> operator+(const Tensor<T>& a, const Tensor<T>& b) { return add(a, b); }
template <class T> Tensor<T> operator-(const Tensor<T>& a, const Tensor<T>& b) { return sub(a, b); }
template <class T> Tensor<T> operator*(const Tensor<T>& a, const Tensor<T>& b) { return mul(a, b); }
template <class T> Tensor<T> operator/(const Tensor<T>& a, const Tensor<T>& b) { return div(a, b); }
template <class T> Tensor<T> operator+(const Tensor<T>& x, Wide<T> v) { return add(x, v); }
template <class T> Tensor<T> operator-(const Tensor<T>& x, Wide<T> v) { return add(x, -v); }
template <class T> Tensor<T> operator*(const Tensor<T>& x, Wide<T> v) { return mul(x, v); }
template <class T> Tensor<T> operator/(const Tensor<T>& x, Wide<T> v) { return div(x, v); }
template <class T> Tensor<T> operator+(Wide<T> v, const Tensor<T>& x) { return add(x, v); }
template <class T> Tensor<T> operator-(Wide<T> v, const Tensor<T>& x) { return add(neg(x), v); }
template <class T> Tensor<T> operator*(Wide<T> v, const Tensor<T>& x) { return mul(x, v); }
template <class T> Tensor<T> operator/(Wide<T> v, const Tensor<T>& x) { return mul(reciprocal(x), v); }
template <class T> Tensor<T> operator==(const Tensor<T>& a, const Tensor<T>& b) { return eq(a, b); }
template <class T> Tensor<T> operator!=(const Tensor<T>& a, const Tensor<T>& b) { return ne(a, b); }
template <class T> Tensor<T> operator==(const Tensor<T>& a, Wide<T> v) { return eq(a, v); }
template <class T> Tensor<T> operator!=(const Tensor<T>& a, Wide<T> v) { return ne(a, v); }
template <class T> Tensor<T> operator<(const Tensor<T>& a, const Tensor<T>& b) { return lt(a, b); }
template <class T> Tensor<T> operator>(const Tensor<T>& a, const Tensor<T>& b) { return gt(a, b); }
template <class T> Tensor<T> operator<=(const Tensor<T>& a, const Tensor<T>& b) { return le(a, b); }
template <class T> Tensor<T> operator>=(const Tensor<T>& a, const Tensor<T>& b) { return ge(a, b); }
template <class T> Tensor<T> operator<(const Tensor<T>& a, Wide<T> v) { return lt(a, v); }
template <class T> Tensor<T> operator>(const Tensor<T>& a, Wide<T> v) { return gt(a, v); }
template <class T> Tensor<T> operator<=(const Tensor<T>& a, Wide<T> v) { return le(a, v); }
template <class T> Tensor<T> operator>=(const Tensor<T>& a, Wide<T> v) { return ge(a, v); }

}  // namespace ttt

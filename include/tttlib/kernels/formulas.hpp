#pragma once
/// Scalar formulas of the elementwise ops, each written once for every device.
/// A formula is a small struct with up to two numbers as members (`p`, `q`), so that a backend can carry it as
/// (index in the list, p, q).

#include <cmath>

#include "tttlib/kernels/math.hpp"

namespace ttt::formula {

inline constexpr double inv_sqrt2 = 0.70710678118654752440;       // 1/√2
inline constexpr double inv_sqrt_2pi = 0.39894228040143267794;    // 1/√(2π)
inline constexpr double sqrt_2_over_pi = 0.79788456080286535588;  // √(2/π)
inline constexpr double gelu_cubic = 0.044715;                    // Hendrycks & Gimpel 2016, the tanh form

#define TTT_FORMULA_1(Name, expression)              \
  struct Name {                                      \
    double p = 0, q = 0;                             \
    template <class T>                               \
    TTT_HD T operator()(T x) const {                 \
      return static_cast<T>(expression);             \
    }                                                \
  };
#define TTT_FORMULA_2(Name, expression)              \
  struct Name {                                      \
    double p = 0, q = 0;                             \
    template <class T>                               \
    TTT_HD T operator()(T x, T y) const {            \
      return static_cast<T>(expression);             \
    }                                                \
  };

// --- one operand; special points as in docs/numerics.md
TTT_FORMULA_1(Neg, -x)
TTT_FORMULA_1(Exp, math::exp(x))
TTT_FORMULA_1(Log, std::log(x))
TTT_FORMULA_1(Log1p, math::log1p(x))
TTT_FORMULA_1(Sin, std::sin(x))
TTT_FORMULA_1(Cos, std::cos(x))
TTT_FORMULA_1(Tanh, math::tanh(x))
TTT_FORMULA_1(Sigmoid, math::sigmoid(x))
TTT_FORMULA_1(Erf, math::erf(x))
TTT_FORMULA_1(Sqrt, std::sqrt(x))
TTT_FORMULA_1(Rsqrt, T(1) / std::sqrt(x))
TTT_FORMULA_1(Reciprocal, T(1) / x)
TTT_FORMULA_1(ReciprocalOrZero, x == T(0) ? T(0) : T(1) / x)
TTT_FORMULA_1(Square, x* x)
TTT_FORMULA_1(Abs, math::abs(x))
TTT_FORMULA_1(Sign, x > T(0) ? T(1) : (x < T(0) ? T(-1) : T(0)))
TTT_FORMULA_1(Relu, x <= T(0) ? T(0) : x)
TTT_FORMULA_1(Step, x > T(0) ? T(1) : T(0))
TTT_FORMULA_1(Silu, x* math::sigmoid(x))
TTT_FORMULA_1(Gelu, x* math::Normal<T>(x).cdf)
TTT_FORMULA_1(GeluTanh,
              T(0.5) * x * (T(1) + math::tanh(T(sqrt_2_over_pi) * (x + T(gelu_cubic) * x * x * x))))
TTT_FORMULA_1(AddScalar, x + T(p))
TTT_FORMULA_1(MulScalar, x* T(p))
TTT_FORMULA_1(DivScalar, x / T(p))
TTT_FORMULA_1(PowScalar, std::pow(x, T(p)))
TTT_FORMULA_1(Clamp, (x < T(p) ? T(p) : x) > T(q) ? T(q) : (x < T(p) ? T(p) : x))
TTT_FORMULA_1(InRange, x >= T(p) && x <= T(q) ? T(1) : T(0))

/// S = SiLU with its first two derivatives at one point, from one exponential: xσ, σ(1 + x(1−σ)), σ(1−σ)(2 + x(1−2σ)).
template <class T>
struct SiluJet {
  T value, first, second;
  TTT_HD explicit SiluJet(T x) : SiluJet(x, math::sigmoid(x)) {}
  /// With s = σ(x).
  TTT_HD SiluJet(T x, T s) {
    const T t = T(1) - s;
    value = x * s;
    first = s * (T(1) + x * t);
    second = s * t * (T(2) + x * (t - s));
  }
};
/// S'(x)
struct SiluGrad {
  double p = 0, q = 0;
  template <class T>
  TTT_HD T operator()(T x) const { return SiluJet<T>(x).first; }
};

/// GELU with its derivative at one point: xΦ, Φ + xφ, Φ and φ of the standard normal.
template <class T>
struct GeluJet {
  T value, first;
  TTT_HD explicit GeluJet(T x) {
    const math::Normal<T> normal(x);
    value = x * normal.cdf;
    first = normal.cdf + x * T(inv_sqrt_2pi) * normal.density;
  }
};

// --- two operands
TTT_FORMULA_2(Add, x + y)
TTT_FORMULA_2(Sub, x - y)
TTT_FORMULA_2(Mul, x* y)
TTT_FORMULA_2(Div, x / y)
TTT_FORMULA_2(Pow, std::pow(x, y))
TTT_FORMULA_2(Maximum, x > y || x != x ? x : y)
TTT_FORMULA_2(Minimum, x < y || x != x ? x : y)
TTT_FORMULA_2(Equal, x == y ? T(1) : T(0))
TTT_FORMULA_2(NotEqual, x != y ? T(1) : T(0))
TTT_FORMULA_2(Less, x < y ? T(1) : T(0))
TTT_FORMULA_2(LessEqual, x <= y ? T(1) : T(0))

// --- first-order rules in one pass: y = cotangent, x = the op's input
TTT_FORMULA_2(ReluPull, x > T(0) ? y : T(0))
/// ḡ · S'(x), with the very bits of the product that a recorded sweep computes
struct SiluPull {
  double p = 0, q = 0;
  template <class T>
  TTT_HD T operator()(T x, T y) const { return y * SiluGrad{}(x); }
};
/// ḡ · S''(x)
struct SiluGradPull {
  double p = 0, q = 0;
  template <class T>
  TTT_HD T operator()(T x, T y) const { return y * SiluJet<T>(x).second; }
};
/// ḡ · (Φ(x) + xφ(x))
struct GeluPull {
  double p = 0, q = 0;
  template <class T>
  TTT_HD T operator()(T x, T y) const { return y * GeluJet<T>(x).first; }
};
/// ḡ · d/dx of the tanh form
struct GeluTanhPull {
  double p = 0, q = 0;
  template <class T>
  TTT_HD T operator()(T x, T y) const {
    const T t = math::tanh(T(sqrt_2_over_pi) * (x + T(gelu_cubic) * x * x * x));
    const T slope = T(sqrt_2_over_pi) * (T(1) + T(3 * gelu_cubic) * x * x);
    return y * T(0.5) * (T(1) + t + x * (T(1) - t * t) * slope);
  }
};

#undef TTT_FORMULA_1
#undef TTT_FORMULA_2

/// The lists a backend instantiates, and the order of its tables.
#define TTT_UNARY_FORMULAS(X)                                                                                \
  X(Neg) X(Exp) X(Log) X(Log1p) X(Sin) X(Cos) X(Tanh) X(Sigmoid) X(Erf) X(Sqrt) X(Rsqrt) X(Reciprocal)             \
  X(ReciprocalOrZero) X(Square)                                                                             \
  X(Abs) X(Sign) X(Relu) X(Step) X(Silu) X(SiluGrad) X(Gelu) X(GeluTanh) X(AddScalar) X(MulScalar)           \
  X(DivScalar) X(PowScalar) X(Clamp) X(InRange)
#define TTT_BINARY_FORMULAS(X)                                                                               \
  X(Add) X(Sub) X(Mul) X(Div) X(Pow) X(Maximum) X(Minimum) X(Equal) X(NotEqual) X(Less) X(LessEqual) X(ReluPull)    \
  X(SiluPull) X(SiluGradPull) X(GeluPull) X(GeluTanhPull)

#define TTT_ENUMERATE(Name) Name,
enum class Unary : int { TTT_UNARY_FORMULAS(TTT_ENUMERATE) count };
enum class Binary : int { TTT_BINARY_FORMULAS(TTT_ENUMERATE) count };
#undef TTT_ENUMERATE

/// Position of a formula in its list, e.g. `index_of<Exp>`.
template <class F>
inline constexpr int index_of = -1;
#define TTT_INDEX(Name) \
  template <>           \
  inline constexpr int index_of<Name> = static_cast<int>(Unary::Name);
TTT_UNARY_FORMULAS(TTT_INDEX)
#undef TTT_INDEX
#define TTT_INDEX(Name) \
  template <>           \
  inline constexpr int index_of<Name> = static_cast<int>(Binary::Name);
TTT_BINARY_FORMULAS(TTT_INDEX)
#undef TTT_INDEX

}  // namespace ttt::formula

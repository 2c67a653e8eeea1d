#pragma once
/// exp, tanh, log1p, sigmoid, erf and the normal distribution for float without branches, so that compilers turn loops over them into vector code.
/// The polynomials are least-squares fits on Chebyshev nodes; worst relative errors (float against double) stand
/// beside each. Double uses the standard library: it is for checks, where the last bit counts more than speed.

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "tttlib/core/config.hpp"

namespace ttt::math {

TTT_HD double exp(double x) { return ::exp(x); }
TTT_HD double tanh(double x) { return ::tanh(x); }
TTT_HD double erf(double x) { return ::erf(x); }
TTT_HD double abs(double x) { return ::fabs(x); }
TTT_HD float abs(float x) { return ::fabsf(x); }
TTT_HD std::int64_t abs(std::int64_t x) { return x < 0 ? -x : x; }

/// 2^n for n in [-126, 127].
TTT_HD float power_of_two(std::int32_t n) {
  const std::int32_t bits = (n + 127) << 23;
  return __builtin_bit_cast(float, bits);
}

/// e^x as 2^n · e^r with |r| ≤ ln2/2; below −87.3 the result is 0. Error 1.2e-7.
TTT_HD float exp(float x) {
#if defined(__CUDA_ARCH__)
  return ::expf(x);
#else
  const float clamped = x < -87.3f ? -87.3f : (x > 88.8f ? 88.8f : x);
  const float n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;  // adding 1.5·2^23 rounds to an integer
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.989928726e-04f;
  p = p * r + 1.393365154e-03f;
  p = p * r + 8.333298466e-03f;
  p = p * r + 4.166646490e-02f;
  p = p * r + 1.666666672e-01f;
  p = p * r + 5.000000013e-01f;
  p = 1.0f + (r + r * r * p);
  const float y = p * power_of_two(static_cast<std::int32_t>(n) - 1) * 2.0f;  // n may be 128
  return x < -87.3f ? 0.0f : y;
#endif
}

/// tanh: a polynomial near zero, 1 − 2/(e^{2x}+1) elsewhere. Error 1.5e-7.
TTT_HD float tanh(float x) {
#if defined(__CUDA_ARCH__)
  return ::tanhf(x);
#else
  const float a = abs(x), z = x * x;
  float p = -5.946235945e-03f;
  p = p * z + 2.089109070e-02f;
  p = p * z - 5.382805357e-02f;
  p = p * z + 1.333261703e-01f;
  p = p * z - 3.333332742e-01f;
  const float near = x + x * z * p;
  const float far = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
  return a < 0.625f ? near : (x < 0.0f ? -far : far);
#endif
}

TTT_HD double log1p(double x) { return ::log1p(x); }
/// log(1 + x): u = 1 + x rounded is 2^n · m with m in [√½, √2), log m the polynomial of m − 1 of Cephes' logf; what rounding took counts as itself
/// over u. Error 8.3e-8.
TTT_HD float log1p(float x) {
#if defined(__CUDA_ARCH__)
  return ::log1pf(x);
#else
  const float u = 1.0f + x, lost = (x - (u - 1.0f)) / u;
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, u);
  const std::int32_t n = static_cast<std::int32_t>(bits - 0x3f3504f3U) >> 23;
  const float f = __builtin_bit_cast(float, bits - (static_cast<std::uint32_t>(n) << 23)) - 1.0f, e = static_cast<float>(n);
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float tail = (e * -2.12194440e-4f + lost) + f * f * (f * p - 0.5f);
  const float y = e * 0.693359375f + (f + tail);
  const float inf = __builtin_inff();
  return x == 0.0f ? x : u > 0.0f ? (u < inf ? y : u) : (u < 0.0f ? __builtin_nanf("") : (u == 0.0f ? -inf : u));
#endif
}

/// erf: x·P(x²) below 1, 1 − e^{Q(|x|)} above. Error 1.7e-7.
TTT_HD float erf(float x) {
#if defined(__CUDA_ARCH__)
  return ::erff(x);
#else
  const float a = abs(x), z = x * x;
  float p = 7.882497320e-05f;
  p = p * z - 8.018855050e-04f;
  p = p * z + 5.189311949e-03f;
  p = p * z - 2.685432880e-02f;
  p = p * z + 1.128359746e-01f;
  p = p * z - 3.761262690e-01f;
  p = p * z + 1.128379166e+00f;
  const float b = a > 4.0f ? 4.0f : a;
  float q = -4.986735805e-08f;
  q = q * b + 2.725840386e-06f;
  q = q * b - 5.634695604e-05f;
  q = q * b + 6.519367109e-04f;
  q = q * b - 4.943775922e-03f;
  q = q * b + 2.681811467e-02f;
  q = q * b - 1.106310171e-01f;
  q = q * b - 6.313521458e-01f;
  q = q * b - 1.130462406e+00f;
  q = q * b + 3.674469884e-04f;
  const float far = 1.0f - exp(q);
  return a < 1.0f ? x * p : (x < 0.0f ? -far : (x >= 1.0f ? far : x));  // the last arm keeps NaN
#endif
}

/// Φ(x), the normal distribution's, and e^{−x²/2}, which its far tail ends in: ½·erfc(|x|/√2) = e^{−x²/2}·P(|x|), P a
/// polynomial on [0, 6]. Errors of float, as a share of the tail: 2.3e-7 up to 2, 1.1e-6 up to 6.
struct NormalDouble {
  double cdf, density;  // density: without its 1/√(2π)
  TTT_HD explicit NormalDouble(double x) : cdf(0.5 * ::erfc(-0.70710678118654752440 * x)), density(::exp(-0.5 * x * x)) {}
};
struct NormalFloat {
  float cdf, density;
  TTT_HD explicit NormalFloat(float x) : density(exp(-0.5f * x * x)) {
    const float a = abs(x), u = (a > 6.0f ? 6.0f : a) * 0.333333333f - 1.0f;
    float p = -3.526933790e-04f;
    p = p * u + 8.277950696e-04f;
    p = p * u - 2.483405400e-04f;
    p = p * u - 7.452029019e-05f;
    p = p * u - 1.800171885e-03f;
    p = p * u + 3.863758115e-03f;
    p = p * u - 5.088663655e-03f;
    p = p * u + 7.919170234e-03f;
    p = p * u - 1.332913602e-02f;
    p = p * u + 2.089084290e-02f;
    p = p * u - 3.120824069e-02f;
    p = p * u + 4.504124407e-02f;
    p = p * u - 6.238173592e-02f;
    p = p * u + 8.240740826e-02f;
    p = p * u - 1.032013487e-01f;
    p = p * u + 1.215139448e-01f;
    const float tail = density * p;
    cdf = x < 0.0f ? tail : 1.0f - tail;
  }
};
template <class T>
using Normal = std::conditional_t<std::is_same_v<T, float>, NormalFloat, NormalDouble>;

/// 1 / (1 + e^{−x}); exact limits at ±∞.
template <class T>
TTT_HD T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

/// e^x and σ(x) for results that are rounded to bf16: on a GPU by its own exponential and reciprocal. Error 2e-6 up to |x| = 20.
TTT_HD float rough_exp(float x) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 1.44269504f));
  return power;
#else
  return exp(x);
#endif
}
TTT_HD float rough_sigmoid(float x) {
#if defined(__CUDA_ARCH__)
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + rough_exp(-x)));
  return inverse;
#else
  return sigmoid(x);
#endif
}

}  // namespace ttt::math

#pragma once
/// Initialisers. Fans of a weight [out, in, …]: in·(kernel size) and out·(kernel size).

#include <cmath>

#include "tttlib/ops/create.hpp"

namespace ttt::init {

struct Fans {
  double in = 1, out = 1;
};
inline Fans fans_of(const Shape& shape) {
  if (shape.size() < 2) fail<ShapeError>("init", concat("fans need at least two axes: shape ", shape));
  double window = 1;
  for (std::size_t i = 2; i < shape.size(); ++i) window *= static_cast<double>(shape[i]);
  return {static_cast<double>(shape[1]) * window, static_cast<double>(shape[0]) * window};
}

/// A bound or deviation; 0 where a fan of 0 would make it infinite.
inline double finite_or_zero(double spread) { return std::isfinite(spread) ? spread : 0; }

/// Uniform in ±√(6 / ((1 + a²)·fan_in)) (He et al. 2015); a = √5 is the usual default of Linear and Conv2d.
template <class T>
Tensor<T> kaiming_uniform(const Shape& shape, double a = std::sqrt(5.0)) {
  const double bound = finite_or_zero(std::sqrt(6.0 / ((1 + a * a) * fans_of(shape).in)));
  return uniform<T>(shape, -bound, bound);
}
/// Normal with deviation √(2/fan_in).
template <class T>
Tensor<T> kaiming_normal(const Shape& shape) {
  const double std = finite_or_zero(std::sqrt(2.0 / fans_of(shape).in));
  return detail::random<T>(shape, cpu(), [=](auto seed, auto stream, auto v) { backend::normal(seed, stream, 0, std, v); });
}
/// Uniform in ±√(6 / (fan_in + fan_out)) (Glorot & Bengio 2010).
template <class T>
Tensor<T> xavier_uniform(const Shape& shape) {
  const Fans fans = fans_of(shape);
  const double bound = finite_or_zero(std::sqrt(6.0 / (fans.in + fans.out)));
  return uniform<T>(shape, -bound, bound);
}
/// Normal with deviation √(2 / (fan_in + fan_out)).
template <class T>
Tensor<T> xavier_normal(const Shape& shape) {
  const Fans fans = fans_of(shape);
  const double std = finite_or_zero(std::sqrt(2.0 / (fans.in + fans.out)));
  return detail::random<T>(shape, cpu(), [=](auto seed, auto stream, auto v) { backend::normal(seed, stream, 0, std, v); });
}
/// Uniform in ±1/√fan_in: the default of a bias beside a weight of that shape.
template <class T>
Tensor<T> bias_uniform(const Shape& weight_shape, std::int64_t n) {
  const double bound = finite_or_zero(1 / std::sqrt(fans_of(weight_shape).in));
  return uniform<T>({n}, -bound, bound);
}

}  // namespace ttt::init

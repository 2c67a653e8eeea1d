#pragma once
/// Random directions, central differences, and the comparison order by order.

#include <algorithm>
#include <cmath>

#include "tttlib/core/random.hpp"
#include "tttlib/ops/reduce.hpp"
#include "tttlib/testing/check_grads.hpp"

namespace ttt {

TTTLIB_INLINE std::ostream& operator<<(std::ostream& out, const GradCheck& check) {
  if (check.ok)
    return out << "gradients agree to order " << check.order << ": relative error " << check.relative_error;
  return out << "gradients are wrong at order " << check.order << ": differences give " << check.numeric
             << ", the rules give " << check.exact << ", relative error " << check.relative_error;
}

namespace detail {

/// Standard normal numbers that leave the default generator alone.
inline Tensor<double> direction_like(const Tensor<double>& x, std::uint64_t seed, std::uint64_t& stream) {
  Tensor<double> d(x.shape(), x.device());
  backend::normal(seed, stream++, 0, 1, mutable_view(d));
  return d;
}

inline double dot(const Tensor<double>& a, const Tensor<double>& b) {
  return sum(mul(a.detach(), b.detach())).item();
}

TTTLIB_INLINE GradCheck check_order(const Function<double>& f, const Tensors<double>& xs, int order, int last,
                             std::uint64_t& stream, const CheckGradsOptions& options) {
  const std::uint64_t draws = default_generator().next_stream;
  const auto evaluate =
      [&](const Tensors<double>& at) {  // random ops inside f draw the same numbers every time
        default_generator().next_stream = draws;
        return f(at);
      };
  const Tensor<double> y = evaluate(xs), u = direction_like(y, options.seed, stream);
  Tensors<double> v;
  for (const Tensor<double>& x : xs) v.push_back(direction_like(x, options.seed, stream));
  const auto along = [&](double t) {
    Tensors<double> at;
    for (std::size_t i = 0; i < xs.size(); ++i) at.push_back(add(xs[i], mul(v[i], t)));
    return dot(u, evaluate(at));
  };
  const auto difference = [&](double h) { return (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h); };
  GradCheck check{true, order};
  check.numeric = difference(options.step);
  const Tensors<double> cotangents = vjp(evaluate, xs, u);
  for (std::size_t i = 0; i < xs.size(); ++i) check.exact += dot(v[i], cotangents[i]);
  // Differences carry the rounding of the values themselves, so a thousandth of their size is the least
  // scale.
  const double values = dot(abs(u), abs(y.detach()));
  const auto judge = [&] {
    const double scale = std::max({std::abs(check.numeric), std::abs(check.exact), 1e-3 * values});
    check.relative_error = check.numeric == check.exact ? 0 : std::abs(check.numeric - check.exact) / scale;
    check.ok = check.relative_error <= options.tolerance;  // false for NaN
  };
  judge();
  if (!check.ok) {  // the step may be too wide for f: among narrower ones, two that agree best with each other, whatever the rules say
    double before = check.numeric, least = HUGE_VAL;
    for (double h = options.step / 10; h > options.step / 2e3; h /= 10) {
      const double narrower = difference(h), apart = std::abs(narrower - before);
      if (apart < least) least = apart, check.numeric = narrower;
      before = narrower;
    }
    judge();
  }
  if (!check.ok || order == last) return check;
  Tensors<double> with_cotangent = xs;
  with_cotangent.push_back(u);
  const Function<double> next = [&](const Tensors<double>& z) {
    const Tensors<double> at(z.begin(), z.end() - 1), d = vjp(evaluate, at, z.back());
    Tensor<double> total = sum(mul(v[0], d[0]));
    for (std::size_t i = 1; i < d.size(); ++i) total = add(total, sum(mul(v[i], d[i])));
    return total;
  };
  GradCheck above = check_order(next, with_cotangent, order + 1, last, stream, options);
  if (above.ok) above.relative_error = std::max(above.relative_error, check.relative_error);
  return above;
}

}  // namespace detail
}  // namespace ttt

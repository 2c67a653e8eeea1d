#pragma once
/// Random fills and the AdamW update: one pass each. Element i (row-major, contiguous) takes number i of its stream.
/// Bytes: a fill writes once; an update reads four and writes three numbers per element.

#include "tttlib/backend/adamw.hpp"
#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/kernels/draws.hpp"

namespace ttt::cuda_backend {

template <class Draw, class T>
struct FillFrom {
  Draw draw;
  T* y;
  TTT_DEVICE void operator()(std::int64_t i) const { y[i] = draw(static_cast<std::uint64_t>(i)); }
};
template <class L, class T>
void uniform(std::uint64_t seed, std::uint64_t stream, double low, double high, View<T> y) {
  for_each(L("uniform", y.device), y.numel(), FillFrom<draws::Uniform<T>, T>{{seed, stream, low, high}, y.data});
}
template <class L, class T>
void normal(std::uint64_t seed, std::uint64_t stream, double mean, double std, View<T> y) {
  for_each(L("normal", y.device), y.numel(), FillFrom<draws::Normal<T>, T>{{seed, stream, mean, std}, y.data});
}
template <class L, class T>
void truncated_normal(std::uint64_t seed, std::uint64_t stream, double std, double bound, View<T> y) {
  for_each(L("truncated_normal", y.device), y.numel(), FillFrom<draws::TruncatedNormal<T>, T>{{seed, stream, std, bound}, y.data});
}

template <class T>
struct AdamW {
  backend::AdamWUpdate<T> update;
  T* parameter;
  const T* grad;
  T *mean, *variance;
  TTT_DEVICE void operator()(std::int64_t i) const { update(parameter[i], grad[i], mean[i], variance[i]); }
};
template <class L, class T>
void adamw(View<T> parameter, View<const T> grad, View<T> mean, View<T> variance, const AdamWStep& numbers) {
  for_each(L("adamw", parameter.device), parameter.numel(),
           AdamW<T>{backend::AdamWUpdate<T>(numbers), parameter.data, grad.data, mean.data, variance.data});
}

template <class L, class T>
void add_updates(Verbs<T>& verbs) {
  verbs.uniform = uniform<L, T>;
  verbs.normal = normal<L, T>;
  verbs.truncated_normal = truncated_normal<L, T>;
  verbs.adamw = adamw<L, T>;
}

}  // namespace ttt::cuda_backend

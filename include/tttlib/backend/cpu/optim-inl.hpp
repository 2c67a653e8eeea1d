#pragma once
/// The AdamW update of one parameter in one pass. Bytes: four reads and three writes per element.

#include "tttlib/backend/adamw.hpp"
#include "tttlib/backend/cpu/elementwise-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

template <class T>
void adamw(View<T> parameter, View<const T> grad, View<T> mean, View<T> variance, const AdamWStep& numbers) {
  const backend::AdamWUpdate<T> update(numbers);
  parallel_for(parameter.numel(), elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    T* __restrict p = parameter.data;
    T* __restrict m = mean.data;
    T* __restrict v = variance.data;
    const T* __restrict g = grad.data;
    for (std::int64_t i = begin; i < end; ++i) update(p[i], g[i], m[i], v[i]);
  });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

#pragma once
/// The AdamW update of one parameter in one pass. Bytes: four reads and three writes per element.

#include "tttlib/backend/adamw.hpp"
#include "tttlib/backend/cpu/elementwise-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

template <class T>
void adamw(View<T> parameter, View<const T> grad, View<T> mean, View<T> variance, const AdamWStep& numbers) {
  // By value: through a reference, its numbers could be what the loop writes, and it would not become vector code.
  parallel_for(parameter.numel(), elementwise_grain,
               [p = parameter.data, g = grad.data, m = mean.data, v = variance.data,
                update = backend::AdamWUpdate<T>(numbers)](std::int64_t begin, std::int64_t end) {
                 TTT_INDEPENDENT
                 for (std::int64_t i = begin; i < end; ++i) update(p[i], g[i], m[i], v[i]);
               });
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

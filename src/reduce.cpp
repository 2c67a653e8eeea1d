// Reductions, softmax, cross-entropy, layer norm, random fills, AdamW and norms over many tensors of the CPU backend, compiled once.
#include "tttlib/backend/cpu/norm-inl.hpp"
#include "tttlib/backend/cpu/optim-inl.hpp"
#include "tttlib/backend/cpu/random-inl.hpp"
#include "tttlib/backend/cpu/reduce-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

#define TTT_REDUCTIONS(T)                                                                               \
  template void reduce<T>(Reduction, View<const T>, View<T>);                                           \
  template void arg_reduce<T>(Reduction, View<const T>, std::size_t, View<std::int64_t>);               \
  template void cumsum<T>(View<const T>, std::size_t, bool, View<T>);                                   \
  template void softmax<T>(View<const T>, bool, View<T>);                                               \
  template void softmax_pull<T>(View<const T>, View<const T>, bool, View<T>);                           \
  template void cross_entropy<T>(View<const T>, View<const std::int64_t>, double, T*, View<T>);         \
  template void cross_entropy_pull<T>(View<const T>, View<const std::int64_t>, double, const T*, View<const T>, View<T>); \
  template void layer_norm<T>(View<const T>, const T*, const T*, double, View<T>);                      \
  template void layer_norm_pull<T>(View<const T>, const T*, View<const T>, double, View<T>, T*, T*);    \
  template void uniform<T>(std::uint64_t, std::uint64_t, double, double, View<T>);                      \
  template void normal<T>(std::uint64_t, std::uint64_t, double, double, View<T>);                       \
  template void truncated_normal<T>(std::uint64_t, std::uint64_t, double, double, View<T>);             \
  template void adamw<T>(const std::vector<AdamWParameter<T>>&, const AdamWStep&);                        \
  template void global_norm<T>(const std::vector<ConstArray<T>>&, double, double*);
TTT_REDUCTIONS(float)
TTT_REDUCTIONS(double)
template void reduce<std::int64_t>(Reduction, View<const std::int64_t>, View<std::int64_t>);
template void arg_reduce<std::int64_t>(Reduction, View<const std::int64_t>, std::size_t, View<std::int64_t>);
template void cumsum<std::int64_t>(View<const std::int64_t>, std::size_t, bool, View<std::int64_t>);

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

// Matrix products of the CPU backend, compiled once.
#include "tttlib/backend/cpu/matmul-inl.hpp"
#include "tttlib/backend/cpu/mlp-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

#define TTT_PRODUCTS(T)                                                                                 \
  template void matmul<T>(View<const T>, View<const T>, View<T>);                                       \
  template void linear<T>(View<const T>, View<const T>, const T*, View<T>);                             \
  template void mlp<T>(View<const T>, View<const T>, const T*, View<const T>, const T*, const AnyArray&, View<T>); \
  template void mlp_pull<T>(View<const T>, View<const T>, View<const T>, const AnyArray&, View<const T>, View<T>, View<T>, T*, View<T>, T*);
TTT_PRODUCTS(float)
TTT_PRODUCTS(double)

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

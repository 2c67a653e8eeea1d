// Convolutions of the CPU backend, compiled once.
#include "tttlib/backend/cpu/conv-inl.hpp"
#include "tttlib/backend/cpu/depthwise-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

#define TTT_CONVOLUTIONS(T)                                                                          \
  template void conv<T>(View<const T>, View<const T>, const ConvGeometry&, View<T>);                 \
  template void conv_input_grad<T>(View<const T>, View<const T>, const ConvGeometry&, View<T>);      \
  template void conv_weight_grad<T>(View<const T>, View<const T>, const ConvGeometry&, View<T>);     \
  template void depthwise<T>(View<const T>, View<const T>, const ConvGeometry&, View<T>);            \
  template void depthwise_input_grad<T>(View<const T>, View<const T>, const ConvGeometry&, View<T>); \
  template void depthwise_weight_grad<T>(View<const T>, View<const T>, const ConvGeometry&, View<T>);
TTT_CONVOLUTIONS(float)
TTT_CONVOLUTIONS(double)

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

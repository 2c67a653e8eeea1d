// The fused TTT heads and attention of the CPU backend, compiled once.
#include "tttlib/backend/cpu/attention-inl.hpp"
#include "tttlib/backend/cpu/ttt-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

#define TTT_HEADS(T)                                                                                                        \
  template void attention<T>(View<const T>, View<const T>, View<const T>, T*, View<T>);                                     \
  template void attention_pull<T>(View<const T>, View<const T>, View<const T>, View<const T>, const T*, View<const T>,      \
                                  View<T>, View<T>, View<T>);                                                               \
  template void ttt_glu<T>(const GluOperands<const T>&, const TttStep&, T*, View<T>);                                       \
  template void ttt_glu_pull<T>(const GluOperands<const T>&, const TttStep&, const T*, View<const T>, const GluOperands<T>&); \
  template void ttt_dwconv<T>(const DwconvOperands<const T>&, const TttStep&, T*, View<T>);                                 \
  template void ttt_dwconv_pull<T>(const DwconvOperands<const T>&, const TttStep&, const T*, View<const T>, const DwconvOperands<T>&);
TTT_HEADS(float)
TTT_HEADS(double)

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

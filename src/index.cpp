// Gather and scatter of the CPU backend, compiled once.
#include "tttlib/backend/cpu/index-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

#define TTT_INDEXING(T)                                                                   \
  template void gather<T>(View<const T>, View<const std::int64_t>, std::size_t, View<T>); \
  template void scatter_add<T>(View<const T>, View<const std::int64_t>, std::size_t, View<T>);
TTT_INDEXING(float)
TTT_INDEXING(double)
template void scatter_add<std::int64_t>(View<const std::int64_t>, View<const std::int64_t>, std::size_t,
                                        View<std::int64_t>);
template void gather<std::int64_t>(View<const std::int64_t>, View<const std::int64_t>, std::size_t,
                                   View<std::int64_t>);

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

// Elementwise verbs of the CPU backend, compiled once for the element types that compute.
#include "tttlib/backend/cpu/elementwise-inl.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

#define TTT_UNARY(Name)                                                                  \
  template void map<formula::Name, float>(formula::Name, const View<const float>&, const View<float>&);   \
  template void map<formula::Name, double>(formula::Name, const View<const double>&, const View<double>&);
TTT_UNARY_FORMULAS(TTT_UNARY)

#define TTT_BINARY(Name)                                                                                    \
  template void map<formula::Name, float>(formula::Name, const View<const float>&, const View<const float>&, const View<float>&);   \
  template void map<formula::Name, double>(formula::Name, const View<const double>&, const View<const double>&, const View<double>&);
TTT_BINARY_FORMULAS(TTT_BINARY)

#define TTT_COPIES(T)                         \
  template void fill<T>(View<T>, T);          \
  template void copy<T>(View<const T>, View<T>);
TTT_COPIES(float)
TTT_COPIES(double)
TTT_COPIES(bf16)
TTT_COPIES(std::int64_t)

#define TTT_CASTS(From, To) template void cast<From, To>(View<const From>, View<To>);
TTT_CASTS(float, double)
TTT_CASTS(float, bf16)
TTT_CASTS(float, std::int64_t)
TTT_CASTS(double, float)
TTT_CASTS(double, bf16)
TTT_CASTS(double, std::int64_t)
TTT_CASTS(bf16, float)
TTT_CASTS(bf16, double)
TTT_CASTS(bf16, std::int64_t)
TTT_CASTS(std::int64_t, float)
TTT_CASTS(std::int64_t, double)
TTT_CASTS(std::int64_t, bf16)

using Integers = View<const std::int64_t>;
template void map(formula::Neg, const Integers&, const View<std::int64_t>&);
template void map(formula::Abs, const Integers&, const View<std::int64_t>&);
#define TTT_INTEGER_BINARY(Name) template void map(formula::Name, const Integers&, const Integers&, const View<std::int64_t>&);
TTT_INTEGER_BINARY(Add)
TTT_INTEGER_BINARY(Sub)
TTT_INTEGER_BINARY(Mul)
TTT_INTEGER_BINARY(Maximum)
TTT_INTEGER_BINARY(Minimum)
TTT_INTEGER_BINARY(Equal)
TTT_INTEGER_BINARY(NotEqual)
TTT_INTEGER_BINARY(Less)
TTT_INTEGER_BINARY(LessEqual)
template void where<std::int64_t>(Integers, Integers, Integers, View<std::int64_t>);

#define TTT_OTHERS(T)                                                              \
  template void where<T>(View<const T>, View<const T>, View<const T>, View<T>);    \
  template void add_scaled<T>(View<const T>, View<const T>, View<const T>, View<T>); \
  template bool all_finite<T>(View<const T>);
TTT_OTHERS(float)
TTT_OTHERS(double)

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

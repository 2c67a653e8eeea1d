// The headers that CUDA code shares with the CPU: core and the backend's interface. nvcc has to take them as
// they are, and a kernel has to be able to call the scalar formulas and the random numbers.
#include <cstdint>

#include "tttlib/backend/backend.hpp"
#include "tttlib/core/config.hpp"
#include "tttlib/core/device.hpp"
#include "tttlib/core/dtype.hpp"
#include "tttlib/core/error.hpp"
#include "tttlib/core/parallel.hpp"
#include "tttlib/core/random.hpp"
#include "tttlib/core/shape.hpp"
#include "tttlib/core/storage.hpp"
#include "tttlib/core/tensor.hpp"

/// y = f(x), one element a thread.
template <class F, class T>
__global__ void map(F f, const T* x, T* y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = f(x[i]);
}

/// y = f(a, b), one element a thread.
template <class F, class T>
__global__ void map(F f, const T* a, const T* b, T* y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = f(a[i], b[i]);
}

#define TTT_CHECK(Name)                                                        \
  template __global__ void map(ttt::formula::Name, const float*, float*, int); \
  template __global__ void map(ttt::formula::Name, const double*, double*, int);
TTT_UNARY_FORMULAS(TTT_CHECK)
#undef TTT_CHECK
#define TTT_CHECK(Name)                                                                      \
  template __global__ void map(ttt::formula::Name, const float*, const float*, float*, int); \
  template __global__ void map(ttt::formula::Name, const double*, const double*, double*, int);
TTT_BINARY_FORMULAS(TTT_CHECK)
#undef TTT_CHECK

__global__ void draw(std::uint64_t seed, std::uint64_t stream, float* uniform, double* normal, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  uniform[i] = ttt::philox_uniform<float>(seed, stream, static_cast<std::uint64_t>(i));
  normal[i] = ttt::philox_normal(seed, stream, static_cast<std::uint64_t>(i));
}

__global__ void round_to_bf16(const float* x, ttt::bf16* y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = ttt::convert<ttt::bf16>(x[i]);
}

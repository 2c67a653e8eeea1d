// Elementwise kernels.
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/elementwise.hpp"

namespace ttt::cuda_backend {
template void add_elementwise<GpuLauncher>(Verbs<float>&);
template void add_elementwise<GpuLauncher>(Verbs<double>&);
template void add_integer_elementwise<GpuLauncher>(Verbs<std::int64_t>&);
template void add_copies<GpuLauncher>(Verbs<bf16>&);
}

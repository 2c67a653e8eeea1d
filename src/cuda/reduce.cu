// Reductions.
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/reduce.hpp"

namespace ttt::cuda_backend {
template void add_reductions<GpuLauncher>(Verbs<float>&);
template void add_reductions<GpuLauncher>(Verbs<double>&);
template void add_sums<GpuLauncher>(Verbs<std::int64_t>&);
}

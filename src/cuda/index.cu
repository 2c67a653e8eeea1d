// Gather and scatter.
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/index.hpp"

namespace ttt::cuda_backend {
template void add_indexing<GpuLauncher>(Verbs<float>&);
template void add_indexing<GpuLauncher>(Verbs<double>&);
template void add_indexing<GpuLauncher>(Verbs<std::int64_t>&);
}

// Attention.
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/attention_cores.hpp"

namespace ttt::cuda_backend {
template void add_attention<GpuLauncher>(Verbs<float>&);
template void add_attention<GpuLauncher>(Verbs<double>&);
}

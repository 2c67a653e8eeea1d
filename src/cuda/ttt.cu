// Fused TTT heads.
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/ttt.hpp"

namespace ttt::cuda_backend {
template void add_ttt_heads<GpuLauncher>(Verbs<float>&);
template void add_ttt_heads<GpuLauncher>(Verbs<double>&);
}

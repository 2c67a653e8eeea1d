// Softmax and layer norm.
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/norm.hpp"

namespace ttt::cuda_backend {
template void add_norms<GpuLauncher>(Verbs<float>&);
template void add_norms<GpuLauncher>(Verbs<double>&);
}

// Random fills and AdamW.
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/update.hpp"

namespace ttt::cuda_backend {
template void add_updates<GpuLauncher>(Verbs<float>&);
template void add_updates<GpuLauncher>(Verbs<double>&);
}

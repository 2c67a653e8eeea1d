// Convolutions.
#include "tttlib/backend/cuda/cublas.cuh"
#include "tttlib/backend/cuda/conv.hpp"

namespace ttt::cuda_backend {
template void add_convolutions<GpuLauncher>(Verbs<float>&);
template void add_convolutions<GpuLauncher>(Verbs<double>&);
}

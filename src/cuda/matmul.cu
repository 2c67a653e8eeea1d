// Products.
#include "tttlib/backend/cuda/cublas.cuh"

namespace ttt::cuda_backend {
template void add_products<GpuLauncher>(Verbs<float>&);
template void add_products<GpuLauncher>(Verbs<double>&);
}

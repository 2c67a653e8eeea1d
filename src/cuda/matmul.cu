// Products, and the MLP made of them.
#include "tttlib/backend/cuda/cublas.cuh"
#include "tttlib/backend/cuda/mlp.hpp"

namespace ttt::cuda_backend {
template void add_products<GpuLauncher>(Verbs<float>&);
template void add_products<GpuLauncher>(Verbs<double>&);
template void add_products<GpuLauncher>(Verbs<bf16>&);
template void add_mlps<GpuLauncher>(Verbs<float>&);
template void add_mlps<GpuLauncher>(Verbs<double>&);
}

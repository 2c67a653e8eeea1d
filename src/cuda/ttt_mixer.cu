// Whole TTT blocks, between whose projections everything is bf16.
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/ttt_mixer.hpp"

namespace ttt::cuda_backend {
template void add_ttt_mixers<GpuLauncher>(Verbs<float>&);
}

// The CUDA backend registers itself when a program starts. The name is what the linker is told to look for, so that
// it takes this file out of the library (CMakeLists.txt).
#include "tttlib/backend/cuda/registration.cuh"

extern "C" {
extern int tttlib_cuda_backend;
int tttlib_cuda_backend = (ttt::cuda_backend::toolkit_folder() = TTTLIB_CUDA_LIBRARY_FOLDER, ttt::cuda_backend::register_cuda_backend());
}

#pragma once
/// The cuBLAS handle of a GPU.

#include <cublas_v2.h>

#include "tttlib/backend/cuda/gpu.cuh"

namespace ttt::cuda_backend {

inline void check(cublasStatus_t status, const char* op, int index) {
  if (status != CUBLAS_STATUS_SUCCESS) fail<Error>(op, concat("cuBLAS failed on cuda:", index, ": ", cublasGetStatusString(status)));
}

/// Made at its first use, on the GPU's stream, with a workspace of ours: its own would be asked for while a graph is captured. The
/// caller holds blas_mutex or is alone.
inline cublasHandle_t blas_handle(Gpu& gpu, const char* op) {
  constexpr std::size_t workspace = std::size_t(32) << 20;  // what cuBLAS takes on the largest GPUs
  if (!gpu.blas) {
    check(cublasCreate(&gpu.blas), op, gpu.index);
    check(cublasSetStream(gpu.blas, gpu.stream), op, gpu.index);
    check(cublasSetMathMode(gpu.blas, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)), op,
          gpu.index);  // parts of sums are floats where the result is bf16
    check(cublasSetWorkspace(gpu.blas, gpu.allocator.allocate(workspace), workspace), op, gpu.index);
  }
  return gpu.blas;
}

}  // namespace ttt::cuda_backend

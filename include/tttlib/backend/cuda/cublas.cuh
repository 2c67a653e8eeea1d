#pragma once
/// Products by cuBLAS, in full precision of float or double (no TF32).

#include <cublas_v2.h>

#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/matmul.hpp"

namespace ttt::cuda_backend {

inline void check(cublasStatus_t status, const char* op, int index) {
  if (status != CUBLAS_STATUS_SUCCESS) fail<Error>(op, concat("cuBLAS failed on cuda:", index, ": ", cublasGetStatusString(status)));
}

inline cublasStatus_t gemm(cublasHandle_t h, cublasOperation_t a, cublasOperation_t b, const Gemm<float>& g) {
  const float one = 1;
  return cublasSgemmStridedBatched_64(h, a, b, g.m, g.n, g.k, &one, g.a, g.lda, g.stride_a, g.b, g.ldb, g.stride_b, &g.beta, g.c, g.ldc,
                                      g.stride_c, g.batch);
}
inline cublasStatus_t gemm(cublasHandle_t h, cublasOperation_t a, cublasOperation_t b, const Gemm<double>& g) {
  const double one = 1;
  return cublasDgemmStridedBatched_64(h, a, b, g.m, g.n, g.k, &one, g.a, g.lda, g.stride_a, g.b, g.ldb, g.stride_b, &g.beta, g.c, g.ldc,
                                      g.stride_c, g.batch);
}

template <class T>
void run_gemm(Gpu& gpu, const char* op, const Gemm<T>& product) {
  const std::lock_guard lock(gpu.blas_mutex);  // a handle serves one thread at a time
  if (!gpu.blas) {
    check(cublasCreate(&gpu.blas), op, gpu.index);
    check(cublasSetStream(gpu.blas, gpu.stream), op, gpu.index);
  }
  check(gemm(gpu.blas, product.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, product.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, product), op, gpu.index);
}

}  // namespace ttt::cuda_backend

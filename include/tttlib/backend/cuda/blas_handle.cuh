#pragma once
/// cuBLAS and cuBLASLt, loaded by the first product on a GPU, and the handle of a GPU.

#include <cublasLt.h>
#include <cublas_v2.h>

#include "tttlib/backend/cuda/dynamic_library.hpp"
#include "tttlib/backend/cuda/gpu.cuh"

namespace ttt::cuda_backend {

/// The functions of cuBLASLt that are called here.
struct CublasLt {
  explicit CublasLt(const char* op) : library(op, "cuBLASLt", {concat("libcublasLt.so.", CUBLAS_VER_MAJOR)}) {}
  DynamicLibrary library;
  decltype(&cublasLtMatmul) matmul = library["cublasLtMatmul"];
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = library["cublasLtMatmulAlgoGetHeuristic"];
  decltype(&cublasLtMatmulDescCreate) create_product = library["cublasLtMatmulDescCreate"];
  decltype(&cublasLtMatmulDescSetAttribute) set_product = library["cublasLtMatmulDescSetAttribute"];
  decltype(&cublasLtMatmulDescDestroy) destroy_product = library["cublasLtMatmulDescDestroy"];
  decltype(&cublasLtMatrixLayoutCreate) create_layout = library["cublasLtMatrixLayoutCreate"];
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = library["cublasLtMatrixLayoutDestroy"];
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = library["cublasLtMatmulPreferenceCreate"];
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = library["cublasLtMatmulPreferenceSetAttribute"];
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = library["cublasLtMatmulPreferenceDestroy"];
};

/// Those of cuBLAS, which needs cuBLASLt: that one is loaded first, so that both are found where one is.
struct Cublas {
  explicit Cublas(const char* op) : lt(op), library(op, "cuBLAS", {concat("libcublas.so.", CUBLAS_VER_MAJOR)}) {}
  CublasLt lt;
  DynamicLibrary library;
  decltype(&cublasCreate_v2) create = library["cublasCreate_v2"];
  decltype(&cublasSetStream_v2) set_stream = library["cublasSetStream_v2"];
  decltype(&cublasSetMathMode) set_math_mode = library["cublasSetMathMode"];
  decltype(&cublasSetWorkspace_v2) set_workspace = library["cublasSetWorkspace_v2"];
  decltype(&cublasGemmStridedBatchedEx_64) gemm = library["cublasGemmStridedBatchedEx_64"];
  decltype(&cublasGetStatusString) status_string = library["cublasGetStatusString"];
};

/// Loaded at the first call. Throws DeviceError if they are not installed.
inline const Cublas& cublas(const char* op) {
  static const Cublas* functions = new Cublas(op);
  return *functions;
}

inline void check(cublasStatus_t status, const char* op, int index) {
  if (status != CUBLAS_STATUS_SUCCESS) fail<Error>(op, concat("cuBLAS failed on cuda:", index, ": ", cublas(op).status_string(status)));
}

/// Made at its first use, on the GPU's stream, with a workspace of ours: its own would be asked for while a graph is captured. The
/// caller holds blas_mutex or is alone.
inline cublasHandle_t blas_handle(Gpu& gpu, const char* op) {
  constexpr std::size_t workspace = std::size_t(32) << 20;  // what cuBLAS takes on the largest GPUs
  if (!gpu.blas) {
    const Cublas& blas = cublas(op);
    check(blas.create(&gpu.blas), op, gpu.index);
    check(blas.set_stream(gpu.blas, gpu.stream), op, gpu.index);
    check(blas.set_math_mode(gpu.blas, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)), op,
          gpu.index);  // parts of sums are floats where the result is bf16
    check(blas.set_workspace(gpu.blas, gpu.allocator.allocate(workspace), workspace), op, gpu.index);
  }
  return gpu.blas;
}

}  // namespace ttt::cuda_backend

#pragma once
/// Products by cuBLAS: float and double in full precision (no TF32), floats rounded to bf16 on tensor cores; products of floats with
/// a bias by cuBLASLt.

#include <cublasLt.h>

#include <array>
#include <map>

#include "tttlib/backend/cuda/blas_handle.cuh"
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/matmul.hpp"

namespace ttt::cuda_backend {

inline cublasOperation_t operation(bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; }

inline cublasStatus_t gemm(cublasHandle_t h, const Gemm<float>& g) {
  const float one = 1;
  if (g.bf16)
    return cublasGemmStridedBatchedEx_64(h, operation(g.transpose_a), operation(g.transpose_b), g.m, g.n, g.k, &one, g.a, CUDA_R_32F, g.lda,
                                         g.stride_a, g.b, CUDA_R_32F, g.ldb, g.stride_b, &g.beta, g.c, CUDA_R_32F, g.ldc, g.stride_c, g.batch,
                                         CUBLAS_COMPUTE_32F_FAST_16BF, CUBLAS_GEMM_DEFAULT);
  return cublasSgemmStridedBatched_64(h, operation(g.transpose_a), operation(g.transpose_b), g.m, g.n, g.k, &one, g.a, g.lda, g.stride_a, g.b, g.ldb,
                                      g.stride_b, &g.beta, g.c, g.ldc, g.stride_c, g.batch);
}
inline cublasStatus_t gemm(cublasHandle_t h, const Gemm<double>& g) {
  const double one = 1;
  return cublasDgemmStridedBatched_64(h, operation(g.transpose_a), operation(g.transpose_b), g.m, g.n, g.k, &one, g.a, g.lda, g.stride_a, g.b, g.ldb,
                                      g.stride_b, &g.beta, g.c, g.ldc, g.stride_c, g.batch);
}

/// The descriptions that cuBLASLt wants of C = op(A)·op(B) + bias, for as long as it lives.
class LtProduct {
 public:
  explicit LtProduct(const Gemm<float>& g) {
    const cublasOperation_t a = operation(g.transpose_a), b = operation(g.transpose_b);
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    made_ = cublasLtMatmulDescCreate(&product, g.bf16 ? CUBLAS_COMPUTE_32F_FAST_16BF : CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
            set(CUBLASLT_MATMUL_DESC_TRANSA, a) && set(CUBLASLT_MATMUL_DESC_TRANSB, b) && set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue) &&
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias) && layout(of_a, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, g.lda) &&
            layout(of_b, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, g.ldb) && layout(of_c, g.m, g.n, g.ldc);
  }
  ~LtProduct() {
    for (cublasLtMatrixLayout_t made : {of_a, of_b, of_c})
      if (made) cublasLtMatrixLayoutDestroy(made);
    if (product) cublasLtMatmulDescDestroy(product);
  }
  LtProduct(const LtProduct&) = delete;
  LtProduct& operator=(const LtProduct&) = delete;
  explicit operator bool() const { return made_; }

  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t of_a = nullptr, of_b = nullptr, of_c = nullptr;

 private:
  template <class V>
  bool set(cublasLtMatmulDescAttributes_t attribute, const V& value) {
    return cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
  }
  static bool layout(cublasLtMatrixLayout_t& to, std::int64_t rows, std::int64_t columns, std::int64_t leading) {
    return cublasLtMatrixLayoutCreate(&to, CUDA_R_32F, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), leading) ==
           CUBLAS_STATUS_SUCCESS;
  }
  bool made_ = false;
};

/// How cuBLASLt does one shape of product; `found` is false where it cannot.
struct LtChoice {
  bool found = false;
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
};
/// cuBLASLt's advice takes tens of microseconds, so it is asked once per shape and alignment.
inline const LtChoice& lt_choice(cublasLtHandle_t handle, int index, const Gemm<float>& g, const LtProduct& described) {
  using Key = std::array<std::int64_t, 14>;
  static thread_local std::map<Key, LtChoice> known;
  const auto alignment = [](const void* p) {
    std::int64_t bytes = 256;
    while (reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(bytes) != 0) bytes /= 2;
    return bytes;
  };
  const Key key{index, g.transpose_a, g.transpose_b, g.bf16, g.m, g.n, g.k, g.lda, g.ldb, g.ldc,
                alignment(g.a), alignment(g.b), alignment(g.c), alignment(g.bias)};
  const auto [at, is_new] = known.try_emplace(key);
  LtChoice& choice = at->second;
  cublasLtMatmulPreference_t preference = nullptr;
  if (!is_new || cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS) return choice;
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
  };
  const auto bytes = [&](std::size_t i) { return static_cast<std::uint32_t>(key[i]); };
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  if (prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::size_t(32) << 20) && prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, bytes(10)) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, bytes(11)) && prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, bytes(12)) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, bytes(12)) &&
      cublasLtMatmulAlgoGetHeuristic(handle, described.product, described.of_a, described.of_b, described.of_c, described.of_c, preference, 1, &best,
                                     &count) == CUBLAS_STATUS_SUCCESS &&
      count > 0 && best.state == CUBLAS_STATUS_SUCCESS)
    choice = {true, best.algo, best.workspaceSize};
  cublasLtMatmulPreferenceDestroy(preference);
  return choice;
}

/// The product with its bias, if cuBLASLt can; it has no bias for double.
inline bool gemm_with_bias(Gpu&, const char*, const Gemm<double>&) { return false; }
inline bool gemm_with_bias(Gpu& gpu, const char* op, const Gemm<float>& g) {
  const auto handle = reinterpret_cast<cublasLtHandle_t>(gpu.blas);  // as cuBLAS allows
  const LtProduct described(g);
  if (!described) return false;
  const LtChoice& choice = lt_choice(handle, gpu.index, g, described);
  if (!choice.found) return false;
  const float one = 1, zero = 0;
  void* workspace = choice.workspace > 0 ? gpu.allocator.allocate(choice.workspace) : nullptr;
  const cublasStatus_t status = cublasLtMatmul(handle, described.product, &one, g.a, described.of_a, g.b, described.of_b, &zero, g.c, described.of_c,
                                               g.c, described.of_c, &choice.algorithm, workspace, choice.workspace, gpu.stream);
  if (workspace) gpu.allocator.deallocate(workspace, choice.workspace);
  check(status, op, gpu.index);
  return true;
}

template <class T>
bool run_gemm(Gpu& gpu, const char* op, const Gemm<T>& product) {
  const std::lock_guard lock(gpu.blas_mutex);  // a handle serves one thread at a time
  const cublasHandle_t handle = blas_handle(gpu, op);
  if (product.bias) return gemm_with_bias(gpu, op, product);
  check(gemm(handle, product), op, gpu.index);
  return true;
}

}  // namespace ttt::cuda_backend

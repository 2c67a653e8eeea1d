#pragma once
/// Products by cuBLAS: float and double in full precision (no TF32), bf16 on tensor cores with sums in float; products of float or
/// bf16 with a bias by cuBLASLt, where the bias has the result's type.

#include <algorithm>
#include <array>
#include <map>

#include "tttlib/backend/cuda/blas_handle.cuh"
#include "tttlib/backend/cuda/launcher.cuh"
#include "tttlib/backend/cuda/matmul.hpp"

namespace ttt::cuda_backend {

inline cublasOperation_t operation(bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; }

inline cudaDataType_t blas_type(DType type) {
  return type == DType::bfloat16 ? CUDA_R_16BF : type == DType::float64 ? CUDA_R_64F : CUDA_R_32F;
}

template <class T>
cublasStatus_t gemm(const Cublas& blas, cublasHandle_t h, const Gemm<T>& g) {
  const T one = 1;
  const cublasComputeType_t sums = std::is_same_v<T, double> ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
  return blas.gemm(h, operation(g.transpose_a), operation(g.transpose_b), g.m, g.n, g.k, &one, g.a.data, blas_type(g.a.type), g.a.leading, g.a.step,
                   g.b.data, blas_type(g.b.type), g.b.leading, g.b.step, &g.beta, g.c.data, blas_type(g.c.type), g.c.leading, g.c.step, g.batch, sums,
                   CUBLAS_GEMM_DEFAULT);
}

/// The descriptions that cuBLASLt wants of C = op(A)·op(B) + bias + plus, for as long as it lives.
class LtProduct {
 public:
  LtProduct(const CublasLt& lt, const Gemm<float>& g) : lt_(lt) {
    const cublasOperation_t a = operation(g.transpose_a), b = operation(g.transpose_b);
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t bias = blas_type(g.c.type);
    made_ = lt_.create_product(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS && set(CUBLASLT_MATMUL_DESC_TRANSA, a) &&
            set(CUBLASLT_MATMUL_DESC_TRANSB, b) && set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue) && set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias) &&
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias) && layout(of_a, g.a, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k) &&
            layout(of_b, g.b, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n) && layout(of_c, g.c, g.m, g.n);
  }
  ~LtProduct() {
    for (cublasLtMatrixLayout_t made : {of_a, of_b, of_c})
      if (made) lt_.destroy_layout(made);
    if (product) lt_.destroy_product(product);
  }
  LtProduct(const LtProduct&) = delete;
  LtProduct& operator=(const LtProduct&) = delete;
  explicit operator bool() const { return made_; }

  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t of_a = nullptr, of_b = nullptr, of_c = nullptr;

 private:
  template <class V>
  bool set(cublasLtMatmulDescAttributes_t attribute, const V& value) {
    return lt_.set_product(product, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
  }
  template <class Data>
  bool layout(cublasLtMatrixLayout_t& to, const BlasMatrix<Data>& matrix, std::int64_t rows, std::int64_t columns) {
    return lt_.create_layout(&to, blas_type(matrix.type), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), matrix.leading) ==
           CUBLAS_STATUS_SUCCESS;
  }
  const CublasLt& lt_;
  bool made_ = false;
};

/// How cuBLASLt does one shape of product; `found` is false where it cannot.
struct LtChoice {
  bool found = false;
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
};
/// cuBLASLt's advice takes tens of microseconds, so it is asked once per shape and alignment. Where a sum is cut into parts, they are
/// floats: not rounded to the result's type.
inline const LtChoice& lt_choice(const CublasLt& lt, cublasLtHandle_t handle, int index, const Gemm<float>& g, const LtProduct& described) {
  using Key = std::array<std::int64_t, 14>;
  static thread_local std::map<Key, LtChoice> known;
  const auto alignment = [](const void* p) {
    std::int64_t bytes = 256;
    while (reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(bytes) != 0) bytes /= 2;
    return bytes;
  };
  // Kernels may read the bias in words as wide as those of c.
  const std::int64_t of_a = alignment(g.a.data), of_b = alignment(g.b.data);
  const std::int64_t of_c = std::min({alignment(g.c.data), alignment(g.bias), alignment(g.plus)});
  const Key key{index, g.transpose_a, g.transpose_b, static_cast<std::int64_t>(g.a.type), static_cast<std::int64_t>(g.c.type), g.m, g.n, g.k,
                g.a.leading, g.b.leading, g.c.leading, of_a, of_b, of_c};
  const auto [at, is_new] = known.try_emplace(key);
  LtChoice& choice = at->second;
  cublasLtMatmulPreference_t preference = nullptr;
  if (!is_new || lt.create_preference(&preference) != CUBLAS_STATUS_SUCCESS) return choice;
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    return lt.set_preference(preference, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
  };
  const auto bytes = [](std::int64_t alignment) { return static_cast<std::uint32_t>(alignment); };
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  if (prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::size_t(32) << 20) && prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, bytes(of_a)) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, bytes(of_b)) && prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, bytes(of_c)) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, bytes(of_c)) &&
      prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)) &&
      lt.heuristic(handle, described.product, described.of_a, described.of_b, described.of_c, described.of_c, preference, 1, &best, &count) ==
          CUBLAS_STATUS_SUCCESS &&
      count > 0 && best.state == CUBLAS_STATUS_SUCCESS)
    choice = {true, best.algo, best.workspaceSize};
  lt.destroy_preference(preference);
  return choice;
}

/// The product with its bias, if cuBLASLt can; it has no bias for double.
inline bool gemm_with_bias(Gpu&, const char*, const Gemm<double>&) { return false; }
inline bool gemm_with_bias(Gpu& gpu, const char* op, const Gemm<float>& g) {
  const auto handle = reinterpret_cast<cublasLtHandle_t>(gpu.blas);  // as cuBLAS allows
  const CublasLt& lt = cublas(op).lt;
  const LtProduct described(lt, g);
  if (!described) return false;
  const LtChoice& choice = lt_choice(lt, handle, gpu.index, g, described);
  if (!choice.found) return false;
  const float one = 1, beta = g.plus ? 1 : 0;
  void* workspace = choice.workspace > 0 ? gpu.allocator.allocate(choice.workspace) : nullptr;
  const cublasStatus_t status = lt.matmul(handle, described.product, &one, g.a.data, described.of_a, g.b.data, described.of_b, &beta,
                                          g.plus ? g.plus : g.c.data, described.of_c, g.c.data, described.of_c, &choice.algorithm, workspace,
                                          choice.workspace, gpu.stream);
  if (workspace) gpu.allocator.deallocate(workspace, choice.workspace);
  check(status, op, gpu.index);
  return true;
}

template <class T>
bool run_gemm(Gpu& gpu, const char* op, const Gemm<T>& product) {
  const std::lock_guard lock(gpu.blas_mutex);  // a handle serves one thread at a time
  const cublasHandle_t handle = blas_handle(gpu, op);
  if (product.bias) return gemm_with_bias(gpu, op, product);
  check(gemm(cublas(op), handle, product), op, gpu.index);
  return true;
}

}  // namespace ttt::cuda_backend

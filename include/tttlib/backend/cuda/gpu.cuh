#pragma once
/// GPUs as this library uses them: one stream and one caching allocator each. Work on a GPU happens in the order in which
/// it was asked for, so freed memory may be given to the next tensor at once.
/// TTTLIB_CUDA_DEBUG=1 waits after every kernel, so that the op that failed is the one that throws.

#include <cuda_runtime_api.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include "tttlib/backend/cuda.hpp"
#include "tttlib/backend/cuda/graph_memory.hpp"

struct cublasContext;  // of cublas_v2.h, which only products include

namespace ttt::cuda_backend {

inline bool debug_mode() {
  static const bool on = [] {
    const char* text = std::getenv("TTTLIB_CUDA_DEBUG");
    return text && *text && std::string(text) != "0";
  }();
  return on;
}

/// Throws Error, naming the op that noticed, unless a call of the CUDA runtime went well.
inline void check(cudaError_t status, const char* op, int index) {
  if (status == cudaSuccess) return;
  fail<Error>(op, concat("CUDA failed on cuda:", index, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"),
              debug_mode() ? "" : "the kernel at fault may be an earlier one; TTTLIB_CUDA_DEBUG=1 waits for each");
}

/// Memory of one GPU, cut from segments of 2 MiB and more.
struct GpuMemory {
  static constexpr std::size_t alignment = 256, large = 0, page = std::size_t(2) << 20;
  int index = 0;
  void* block(std::size_t) const { return nullptr; }  // `large` is 0: every block is cut from a segment
  void* segment(std::size_t bytes) const {
    void* memory = nullptr;
    if (cudaSetDevice(index) == cudaSuccess && cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
    (void)cudaGetLastError();  // this failure is told by the allocator
    return nullptr;
  }
  void release(void* memory) const {
    (void)cudaSetDevice(index);
    (void)cudaFree(memory);  // waits for the GPU; fails only where an earlier kernel did, which the next check tells
  }
  std::string name() const { return "cuda:" + std::to_string(index); }
  const char* hint() const { return "smaller batches, or recomputed blocks"; }
};

/// What a GPU needs once.
struct Gpu {
  explicit Gpu(int i) : index(i), allocator(GpuMemory{i}) {
    check(cudaSetDevice(index), "cuda", index);
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cuda", index);
  }
  const int index;
  cudaStream_t stream = nullptr;
  GraphMemory<GpuMemory> allocator;
  cublasContext* blas = nullptr;  // made by the first product or graph
  std::mutex blas_mutex;
};

/// The GPU of an index, made at its first use and never destroyed: tensors may outlive static objects. Throws
/// DeviceError where there is none.
inline Gpu& gpu(int index) {
  constexpr int most = 64;
  static std::array<std::unique_ptr<Gpu>, most>* all = new std::array<std::unique_ptr<Gpu>, most>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (index >= 0 && index < most)
    if (Gpu* found = (*all)[static_cast<std::size_t>(index)].get()) return *found;
  require_device("cuda", cuda(index));
  std::unique_ptr<Gpu>& made = (*all)[static_cast<std::size_t>(index)];
  made = std::make_unique<Gpu>(index);
  return *made;
}

}  // namespace ttt::cuda_backend

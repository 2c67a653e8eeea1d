#pragma once
/// How the CUDA backend makes itself known when a program that is linked with it starts. Nothing here needs a GPU, nor
/// nvcc: the kernels are elsewhere.

#include <string>
#include <utility>

#include "tttlib/backend/cuda/graph.cuh"
#include "tttlib/backend/cuda/verbs.hpp"
#include "tttlib/core/storage.hpp"

namespace ttt::cuda_backend {

class GpuLauncher;  // launcher.cuh; its kernels are compiled family by family

/// Number of GPUs, and what the driver says if there is none.
inline const std::pair<int, std::string>& found_devices() {
  static const std::pair<int, std::string> found = [] {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    return status == cudaSuccess ? std::pair<int, std::string>(count, "the driver found none")
                                 : std::pair<int, std::string>(0, cudaGetErrorString(status));
  }();
  return found;
}

/// Copies between the host and GPUs, or between GPUs; done when it returns.
inline void copy_between_devices(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) {
  if (bytes == 0) return;
  refuse_in_capture("to");
  const Gpu& worker = gpu(to_device.is_cpu() ? from_device.index : to_device.index);
  if (!from_device.is_cpu() && !to_device.is_cpu()) {
    const Gpu& source = gpu(from_device.index);
    check(cudaStreamSynchronize(source.stream), "to", source.index);
  }
  check(cudaSetDevice(worker.index), "to", worker.index);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, worker.stream), "to", worker.index);
  check(cudaStreamSynchronize(worker.stream), "to", worker.index);
}

inline int register_cuda_backend() {
  cuda_allocator().allocate = [](std::size_t bytes, int index) { return gpu(index).allocator.allocate(bytes); };
  cuda_allocator().deallocate = [](void* block, std::size_t bytes, int index) { gpu(index).allocator.deallocate(block, bytes); };
  device_copy().copy = copy_between_devices;
  CudaRuntime& runtime = cuda_runtime();
  runtime.device_count = [] { return found_devices().first; };
  runtime.why_unavailable = [] { return found_devices().second; };
  runtime.synchronize = [](int index) { check(cudaStreamSynchronize(gpu(index).stream), "cuda_synchronize", index); };
  runtime.memory = [](int index) {
    const auto& allocator = gpu(index).allocator;
    return CudaMemory{allocator.bytes_in_use(), allocator.peak_bytes(), allocator.bytes_cached(), allocator.limit()};
  };
  runtime.set_memory_limit = [](int index, std::size_t bytes) { gpu(index).allocator.set_limit(bytes); };
  runtime.release_cached = [](int index) { gpu(index).allocator.release_cached(); };
  register_graphs(runtime);
  register_cuda_verbs<GpuLauncher>();
  return 1;
}

}  // namespace ttt::cuda_backend

#pragma once
/// How the CUDA backend makes itself known when a program that is linked with it starts. Nothing here needs a GPU, nor
/// nvcc: the kernels are elsewhere.

#include <string>
#include <utility>

#include "tttlib/backend/cuda/graph.cuh"
#include "tttlib/backend/cuda/nccl.cuh"
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

/// Copies from the host while kernels run; done when it returns. The memory copied into may have been freed by somebody
/// whose kernels are still to run: the copy waits for those asked for so far, and for none that are asked for meanwhile.
inline void upload(void* to, Device device, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  refuse_in_capture("upload");
  Gpu& worker = gpu(device.index);
  check(cudaSetDevice(worker.index), "upload", worker.index);
  Event freed("upload", worker.index), arrived("upload", worker.index);
  {
    const std::lock_guard lock(worker.upload_mutex);
    freed.record(worker.stream);
  }
  freed.hold_up(worker.uploads);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, worker.uploads), "upload", worker.index);
  arrived.record(worker.uploads);
  arrived.wait();
}

inline std::string name_of_device(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cuda", index);
  return properties.name;
}

inline int register_cuda_backend() {
  cuda_allocator().allocate = [](std::size_t bytes, int index) { return gpu(index).allocator.allocate(bytes); };
  cuda_allocator().deallocate = [](void* block, std::size_t bytes, int index) { gpu(index).allocator.deallocate(block, bytes); };
  pinned_allocator().allocate = [](std::size_t bytes, int) { return pinned_memory().allocate(bytes); };
  pinned_allocator().deallocate = [](void* block, std::size_t bytes, int) { pinned_memory().deallocate(block, bytes); };
  device_copy().copy = copy_between_devices;
  device_copy().upload = upload;
  CudaRuntime& runtime = cuda_runtime();
  runtime.device_count = [] { return found_devices().first; };
  runtime.why_unavailable = [] { return found_devices().second; };
  runtime.name = name_of_device;
  runtime.launches = [](int index) { return gpu(index).launches.load(std::memory_order_relaxed); };
  runtime.synchronize = [](int index) { check(cudaStreamSynchronize(gpu(index).stream), "cuda_synchronize", index); };
  runtime.memory = [](int index) {
    const auto& allocator = gpu(index).allocator;
    return CudaMemory{allocator.bytes_in_use(), allocator.peak_bytes(), allocator.bytes_cached(), allocator.limit()};
  };
  runtime.reset_peak = [](int index) { gpu(index).allocator.reset_peak(); };
  runtime.set_memory_limit = [](int index, std::size_t bytes) { gpu(index).allocator.set_limit(bytes); };
  runtime.release_cached = [](int index) { gpu(index).allocator.release_cached(); };
  register_graphs(runtime);
  runtime.make_communicator = make_nccl_communicator;
  register_cuda_verbs<GpuLauncher>();
  return 1;
}

}  // namespace ttt::cuda_backend

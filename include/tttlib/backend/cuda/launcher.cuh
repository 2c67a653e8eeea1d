#pragma once
/// The launcher of block programs on GPUs (backend/cuda/block.hpp).

#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/cuda/gpu.cuh"

namespace ttt::cuda_backend {

template <class Program>
__global__ void run_program(const __grid_constant__ Program program) {
  Block block;
  program(block);
}

/// The same for a program that says how many of its blocks a processor should hold at once: the compiler then uses no more registers.
template <class Program>
__global__ void __launch_bounds__(Program::threads, Program::resident_blocks) run_sized_program(const __grid_constant__ Program program) {
  Block block;
  program(block);
}
template <class Program>
constexpr auto kernel_of() {
  if constexpr (requires { Program::resident_blocks; }) return run_sized_program<Program>;
  else return run_program<Program>;
}

template <class T>
struct Gemm;
/// Runs a product on the GPU's stream (cublas.cuh); false if it has a bias and no kernel can add that.
template <class T>
bool run_gemm(Gpu& gpu, const char* op, const Gemm<T>& product);

/// Starts block programs on a GPU; see backend/cuda/block.hpp.
class GpuLauncher {
 public:
  GpuLauncher(const char* op, Device device) : op_(op), gpu_(gpu(device.index)) { check(cudaSetDevice(gpu_.index), op_, gpu_.index); }

  template <class Program>
  void blocks(std::int64_t count, int threads, std::int64_t shared_bytes, const Program& program) const {
    if (count > 0x7fffffff) fail<ShapeError>(op_, concat("too large for one kernel: ", count, " blocks"), "smaller batches");
    constexpr auto kernel = kernel_of<Program>();
    if (shared_bytes > 48 * 1024)  // beyond that a kernel has to ask
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)), op_, gpu_.index);
    const dim3 grid(static_cast<unsigned>(count)), block(static_cast<unsigned>(threads));
    gpu_.launches.fetch_add(1, std::memory_order_relaxed);
    kernel<<<grid, block, static_cast<std::size_t>(shared_bytes), gpu_.stream>>>(program);
    check(cudaGetLastError(), op_, gpu_.index);
    if (debug_mode() && !cuda_capture()) check(cudaStreamSynchronize(gpu_.stream), op_, gpu_.index);
  }
  void* allocate(std::size_t bytes) const { return gpu_.allocator.allocate(bytes); }
  void deallocate(void* block, std::size_t bytes) const { gpu_.allocator.deallocate(block, bytes); }
  void read(void* to_host, const void* from, std::size_t bytes) const {
    refuse_in_capture(op_);
    check(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, gpu_.stream), op_, gpu_.index);
    check(cudaStreamSynchronize(gpu_.stream), op_, gpu_.index);
  }
  template <class T>
  bool gemm(const Gemm<T>& product) const {
    gpu_.launches.fetch_add(1, std::memory_order_relaxed);
    const bool done = run_gemm(gpu_, op_, product);
    if (debug_mode() && !cuda_capture()) check(cudaStreamSynchronize(gpu_.stream), op_, gpu_.index);
    return done;
  }

 private:
  const char* op_;
  Gpu& gpu_;
};

}  // namespace ttt::cuda_backend

#pragma once
/// GPUs as this library uses them: one stream of kernels and one caching allocator each. Work on a GPU happens in the order in
/// which it was asked for, so freed memory may be given to the next tensor at once. Batches from the host come by a second
/// stream, which waits for whatever may still use the memory they are put into.
/// TTTLIB_CUDA_DEBUG=1 waits after every kernel, so that the op that failed is the one that throws.

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
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

/// What a status of the CUDA runtime means for the program.
enum class Fault {
  call,    // this call failed; the GPU works on
  kernel,  // a kernel did what it must not; CUDA lets this process do nothing more with the GPU
  lost     // the GPU or its driver is gone for this process, through no fault of a kernel
};
inline Fault fault_of(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
      return Fault::kernel;
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoDevice:
    case cudaErrorCudartUnloading:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDeviceUninitialized:
    case cudaErrorUnknown:
      return Fault::lost;
    default:
      return Fault::call;
  }
}

/// Throws, naming the op that noticed, unless a call of the CUDA runtime went well: DeviceError where the GPU is lost, else
/// Error.
inline void check(cudaError_t status, const char* op, int index) {
  if (status == cudaSuccess) return;
  const std::string said = concat(cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
  const Fault fault = fault_of(status);
  if (fault == Fault::lost)
    fail<DeviceError>(op, concat("cuda:", index, " is lost to this program: ", said),
                      "start it again from its last checkpoint; nvidia-smi shows the state of the GPU");
  const char* hint = debug_mode() ? "" : "the kernel at fault may be an earlier one; TTTLIB_CUDA_DEBUG=1 waits for each";
  fail<Error>(op, concat("CUDA failed on cuda:", index, ": ", said, fault == Fault::kernel ? "; this program can use that GPU no more" : ""), hint);
}

/// Memory of one GPU, cut from segments of 2 MiB and more. Nothing goes back before it is needed: giving back waits for the GPU.
struct GpuMemory {
  static constexpr std::size_t alignment = 256, large = 0, page = std::size_t(2) << 20, slack = std::size_t(-1);
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

/// Page-locked memory of the host, from which GPUs copy while the processor does something else.
struct PinnedMemory {
  static constexpr std::size_t alignment = 64, large = 0, page = std::size_t(2) << 20, slack = std::size_t(-1);
  void* block(std::size_t) const { return nullptr; }  // `large` is 0, as above
  void* segment(std::size_t bytes) const {
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, bytes, cudaHostAllocPortable) == cudaSuccess) return memory;
    (void)cudaGetLastError();
    return nullptr;
  }
  void release(void* memory) const { (void)cudaFreeHost(memory); }
  const char* name() const { return "page-locked memory"; }
  const char* hint() const { return "smaller batches, or fewer threads that make them"; }
};
inline CachingAllocator<PinnedMemory>& pinned_memory() {
  static auto* allocator = new CachingAllocator<PinnedMemory>;  // never destroyed: storages may outlive static objects
  return *allocator;
}

/// A mark in a stream of one GPU, which becomes the current one, that others can wait for.
class Event {
 public:
  Event(const char* op, int index) : op_(op), index_(index) {
    check(cudaSetDevice(index_), op_, index_);
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), op_, index_);
  }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), op_, index_); }
  void hold_up(cudaStream_t stream) const { check(cudaStreamWaitEvent(stream, event_, 0), op_, index_); }
  void wait() const { check(cudaEventSynchronize(event_), op_, index_); }

 private:
  const char* op_;
  int index_;
  cudaEvent_t event_ = nullptr;
};

/// What a GPU needs once.
struct Gpu {
  explicit Gpu(int i) : index(i), allocator(GpuMemory{i}) {
    check(cudaSetDevice(index), "cuda", index);
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cuda", index);
    check(cudaStreamCreateWithFlags(&uploads, cudaStreamNonBlocking), "cuda", index);
  }
  const int index;
  cudaStream_t stream = nullptr;   // of kernels
  cudaStream_t uploads = nullptr;  // of batches from the host
  std::mutex upload_mutex;         // held while a graph is captured: an upload marks the stream of kernels
  std::atomic<std::int64_t> launches{0};
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

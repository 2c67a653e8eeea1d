#pragma once
/// What a program may ask about GPUs, whether it was linked with tttlib::cuda or not.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tttlib/core/device.hpp"
#include "tttlib/core/error.hpp"

namespace ttt {

/// Memory of one GPU, in bytes: held by tensors now, the most there ever was, kept for reuse, and the most to hold.
struct CudaMemory {
  std::size_t in_use = 0, peak = 0, cached = 0, limit = 0;
};

class Communicator;  // backend/communicator.hpp

/// What the CUDA backend can do beyond verbs; filled in by tttlib::cuda when a program starts.
struct CudaRuntime {
  int (*device_count)() = nullptr;
  std::string (*why_unavailable)() = nullptr;
  std::string (*name)(int index) = nullptr;
  std::int64_t (*launches)(int index) = nullptr;
  void (*synchronize)(int index) = nullptr;
  CudaMemory (*memory)(int index) = nullptr;
  void (*reset_peak)(int index) = nullptr;
  void (*set_memory_limit)(int index, std::size_t bytes) = nullptr;
  void (*release_cached)(int index) = nullptr;
  /// Graphs: from `begin_capture` to `end_capture` what is asked of the GPU is recorded, not run; `replay` runs it.
  void* (*begin_capture)(int index) = nullptr;
  void (*end_capture)(void* graph) = nullptr;
  void (*replay)(void* graph) = nullptr;
  void (*destroy_graph)(void* graph) = nullptr;
  std::unique_ptr<Communicator> (*make_communicator)(const std::vector<Device>& gpus) = nullptr;
};
inline CudaRuntime& cuda_runtime() {
  static CudaRuntime runtime;
  return runtime;
}

/// What a graph that is being captured on this thread needs to know of (backend/cuda_graph.hpp): numbers that change from replay
/// to replay are read from the device's memory, and written there by a function that each replay calls first.
struct CudaCapture {
  const std::int64_t* stream_offset = nullptr;  // on the device: added to the stream of random numbers of every draw
  std::vector<std::function<void()>> before_replay;
};
/// The capture of this thread; null: there is none.
inline CudaCapture*& cuda_capture() {
  thread_local CudaCapture* capture = nullptr;
  return capture;
}
/// Memory that is asked for in this scope is not the graph's: what is written there before a replay stays until it is read.
class OutsideOfGraph {
 public:
  OutsideOfGraph() : capture_(std::exchange(cuda_capture(), nullptr)) {}
  ~OutsideOfGraph() { cuda_capture() = capture_; }
  OutsideOfGraph(const OutsideOfGraph&) = delete;
  OutsideOfGraph& operator=(const OutsideOfGraph&) = delete;

 private:
  CudaCapture* capture_;
};
/// Throws Error while a graph is captured: `op` waits for the GPU, and nothing runs there then.
inline void refuse_in_capture(const char* op) {
  if (cuda_capture()) fail<Error>(op, "the host waits for a GPU while a graph is captured", "read results after a replay, copy inputs before it");
}

/// How many GPUs this program can use: 0 without the backend, a driver or a GPU.
inline int cuda_device_count() { return cuda_runtime().device_count ? cuda_runtime().device_count() : 0; }
inline bool cuda_available() { return cuda_device_count() > 0; }

/// Throws DeviceError, saying why, unless `device` is the CPU or a GPU that this program can use.
inline void require_device(const char* op, Device device) {
  if (device.is_cpu()) return;
  const CudaRuntime& runtime = cuda_runtime();
  if (!runtime.device_count)
    fail<DeviceError>(op, "this program has no CUDA backend", "link tttlib::cuda, configured with -DTTTLIB_CUDA=ON");
  const int count = runtime.device_count();
  if (count == 0) fail<DeviceError>(op, concat("no GPU to use as ", device, ": ", runtime.why_unavailable()), "run it on the CPU, or see what nvidia-smi says");
  if (device.index < 0 || device.index >= count)
    fail<DeviceError>(op, concat("no such GPU: ", device, " of ", count, count == 1 ? " GPU" : " GPUs"), "indices count from 0");
}

/// "cpu", or a GPU with the name its maker gave it: "cuda:0 (NVIDIA H100 80GB HBM3)".
inline std::string describe(Device device) {
  require_device("describe", device);
  return device.is_cpu() ? "cpu" : concat(device, " (", cuda_runtime().name(device.index), ")");
}

/// Waits until everything asked of a GPU so far is done. Throws Error if something of it failed.
inline void cuda_synchronize(int index = 0) {
  require_device("cuda_synchronize", cuda(index));
  refuse_in_capture("cuda_synchronize");
  cuda_runtime().synchronize(index);
}
/// Waits until a device has done everything it was asked for; the CPU always has. Clocks tell the truth only after it.
inline void synchronize(Device device) {
  if (!device.is_cpu()) cuda_synchronize(device.index);
}
/// Kernels and products started on a GPU so far: each costs the host a few microseconds, however little it does.
inline std::int64_t cuda_launches(int index = 0) {
  require_device("cuda_launches", cuda(index));
  return cuda_runtime().launches(index);
}
inline CudaMemory cuda_memory(int index = 0) {
  require_device("cuda_memory", cuda(index));
  return cuda_runtime().memory(index);
}
/// The peak begins anew, at what is in use.
inline void reset_cuda_peak(int index = 0) {
  require_device("reset_cuda_peak", cuda(index));
  cuda_runtime().reset_peak(index);
}
/// The most memory to hold on a GPU, in use and cached together; a tensor that needs more is out of memory.
inline void set_cuda_memory_limit(std::size_t bytes, int index = 0) {
  require_device("set_cuda_memory_limit", cuda(index));
  cuda_runtime().set_memory_limit(index, bytes);
}
/// Gives memory that waits for reuse back to the driver.
inline void release_cuda_memory(int index = 0) {
  require_device("release_cuda_memory", cuda(index));
  cuda_runtime().release_cached(index);
}

}  // namespace ttt

// The emulated GPU's tables, compiled once, and its registration when the test program starts.
#include "emulation.hpp"

#include "tttlib/backend/communicator.hpp"
#include "tttlib/backend/cuda/attention_cores.hpp"
#include "tttlib/backend/cuda/conv.hpp"
#include "tttlib/backend/cuda/elementwise.hpp"
#include "tttlib/backend/cuda/index.hpp"
#include "tttlib/backend/cuda/mlp.hpp"
#include "tttlib/backend/cuda/norm.hpp"
#include "tttlib/backend/cuda/reduce.hpp"
#include "tttlib/backend/cuda/ttt.hpp"
#include "tttlib/backend/cuda/ttt_mixer.hpp"
#include "tttlib/backend/cuda/update.hpp"
#include "tttlib/backend/cuda/verbs.hpp"
#include "tttlib/core/storage.hpp"

namespace emulation {

namespace {
/// What NCCL does for real GPUs.
class EmulatedSums : public LocalCommunicator {
  using LocalCommunicator::LocalCommunicator;
  void add_shares(int rank) override {
    const Access access;
    LocalCommunicator::add_shares(rank);
  }
};
}  // namespace

void register_device() {
  cuda_allocator().allocate = [](std::size_t bytes, int index) {
    require_device("cuda", cuda(index));
    return Launcher("allocate", cuda(index)).allocate(bytes);
  };
  cuda_allocator().deallocate = [](void* block, std::size_t bytes, int) { allocator().deallocate(block, bytes); };
  device_copy().copy = [](void* to, Device, const void* from, Device, std::size_t bytes) {
    if (bytes > 0) refuse_in_capture("to");
    const Access access;
    if (bytes > 0) std::memcpy(to, from, bytes);
  };
  device_copy().upload = [](void* to, Device device, const void* from, std::size_t bytes) { device_copy().copy(to, device, from, cpu(), bytes); };
  pinned_allocator().allocate = [](std::size_t bytes, int) {
    pinned_bytes() += static_cast<std::int64_t>(bytes);
    return std::malloc(bytes);
  };
  pinned_allocator().deallocate = [](void* block, std::size_t bytes, int) {
    pinned_bytes() -= static_cast<std::int64_t>(bytes);
    std::free(block);
  };
  CudaRuntime& runtime = cuda_runtime();
  runtime.device_count = [] { return 2; };  // in one memory
  runtime.why_unavailable = [] { return std::string("the emulation has two"); };
  runtime.name = [](int) { return std::string("emulated by the CPU"); };
  runtime.launches = [](int) { return launches().load(); };
  runtime.synchronize = [](int) {};
  runtime.memory = [](int) {
    return CudaMemory{allocator().bytes_in_use(), allocator().peak_bytes(), allocator().bytes_cached(), allocator().limit()};
  };
  runtime.reset_peak = [](int) { allocator().reset_peak(); };
  runtime.set_memory_limit = [](int, std::size_t bytes) { allocator().set_limit(bytes); };
  runtime.release_cached = [](int) { allocator().release_cached(); };
  runtime.begin_capture = [](int) -> void* {
    captured() = new Graph;
    allocator().capture(&captured()->memory);
    return captured();
  };
  runtime.end_capture = [](void*) {
    captured() = nullptr;
    allocator().capture(nullptr);
  };
  runtime.replay = [](void* graph) {
    for (const auto& launch : static_cast<Graph*>(graph)->launches) launch();
  };
  runtime.destroy_graph = [](void* graph) {
    if (graph == captured()) cuda_runtime().end_capture(graph);
    allocator().release(static_cast<Graph*>(graph)->memory);
    delete static_cast<Graph*>(graph);
  };
  runtime.make_communicator = [](const std::vector<Device>& gpus) -> std::unique_ptr<Communicator> { return std::make_unique<EmulatedSums>(gpus); };
  cuda_backend::register_cuda_verbs<Launcher>();
}

namespace {
const bool registered = (register_device(), true);
}  // namespace

}  // namespace emulation

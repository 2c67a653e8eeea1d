#pragma once
/// Sums over GPUs by NCCL, loaded when several GPUs are first used. They run in a stream of their own, beside the kernels of the backward pass.

#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tttlib/backend/communicator.hpp"
#include "tttlib/backend/cuda/dynamic_library.hpp"
#include "tttlib/backend/cuda/gpu.cuh"

namespace ttt::cuda_backend {

#if __has_include(<nccl.h>)

/// The functions of NCCL that are called here.
struct Nccl {
  explicit Nccl(const char* op) : library(op, "NCCL", {concat("libnccl.so.", NCCL_MAJOR)}) {}
  DynamicLibrary library;
  decltype(&ncclCommInitAll) create_all = library["ncclCommInitAll"];
  decltype(&ncclAllReduce) all_reduce = library["ncclAllReduce"];
  decltype(&ncclGroupStart) begin_group = library["ncclGroupStart"];
  decltype(&ncclGroupEnd) end_group = library["ncclGroupEnd"];
  decltype(&ncclCommAbort) abort = library["ncclCommAbort"];
  decltype(&ncclCommDestroy) destroy = library["ncclCommDestroy"];
  decltype(&ncclGetErrorString) error_string = library["ncclGetErrorString"];
};
/// Loaded at the first call. Throws DeviceError if it is not installed.
inline const Nccl& nccl(const char* op) {
  static const Nccl* functions = new Nccl(op);
  return *functions;
}

inline void check(ncclResult_t status, const char* op, int index) {
  if (status != ncclSuccess) fail<Error>(op, concat("NCCL failed on cuda:", index, ": ", nccl(op).error_string(status)));
}

/// One rank on each of several GPUs. The tensors of a call are summed in place, as one group.
class NcclCommunicator : public Communicator {
 public:
  explicit NcclCommunicator(const std::vector<Device>& devices) : Communicator(devices), nccl_(nccl(op)) {
    std::vector<int> indices;
    for (const Device device : devices) indices.push_back(device.index);
    std::vector<ncclComm_t> made(devices.size());
    check(nccl_.create_all(made.data(), ranks(), indices.data()), op, indices[0]);
    for (std::size_t i = 0; i < made.size(); ++i) lanes_.push_back(std::make_unique<Lane>(gpu(indices[i]), made[i]));
    connect(1);
    connect((std::int64_t(25) << 20) / static_cast<std::int64_t>(sizeof(float)));
  }
  ~NcclCommunicator() override {
    for (const auto& lane : lanes_) {
      if (ncclComm_t communicator = std::exchange(lane->communicator, nullptr)) {
        (void)cudaSetDevice(lane->gpu.index);
        (void)cudaStreamSynchronize(lane->stream);
        (void)nccl_.destroy(communicator);
      }
      (void)cudaStreamDestroy(lane->stream);
    }
  }

 protected:
  void sum(int rank, const std::vector<TensorBase>& tensors) override {
    refuse_in_capture(op);
    Lane& lane = *lanes_[static_cast<std::size_t>(rank)];
    const std::lock_guard lock(lane.mutex);
    if (!lane.communicator) return;  // another rank gave up: finish says so
    check(cudaSetDevice(lane.gpu.index), op, lane.gpu.index);
    lane.computed.record(lane.gpu.stream);
    lane.computed.hold_up(lane.stream);
    as_group(lane.gpu.index, [&](const auto& add_up) {
      for (const TensorBase& x : tensors) add_up(lane, x);
    });
  }
  void wait(int rank) override {
    Lane& lane = *lanes_[static_cast<std::size_t>(rank)];
    check(cudaSetDevice(lane.gpu.index), op, lane.gpu.index);
    lane.summed.record(lane.stream);
    lane.summed.hold_up(lane.gpu.stream);
  }
  void abort() override {
    for (const auto& lane : lanes_) {
      const std::lock_guard lock(lane->mutex);  // a communicator serves one thread at a time
      if (ncclComm_t communicator = std::exchange(lane->communicator, nullptr)) (void)nccl_.abort(communicator);
    }
  }

 private:
  static constexpr const char* op = "all_reduce";
  /// Starts together whatever sums of (lane, tensor) `ask` asks for.
  template <class Ask>
  void as_group(int index, const Ask& ask) {
    check(nccl_.begin_group(), op, index);
    ncclResult_t status = ncclSuccess;
    ask([&](const auto& lane, const TensorBase& x) {
      void* numbers = static_cast<char*>(x.storage()->data()) + static_cast<std::size_t>(x.offset()) * size_of(x.dtype());
      const ncclDataType_t type = x.dtype() == DType::float64 ? ncclDouble : ncclFloat;
      const ncclResult_t asked =
          nccl_.all_reduce(numbers, numbers, static_cast<std::size_t>(x.numel()), type, ncclSum, lane.communicator, lane.stream);
      if (status == ncclSuccess) status = asked;
    });
    const ncclResult_t ended = nccl_.end_group();
    check(status == ncclSuccess ? ended : status, op, index);
  }
  /// A sum of n numbers, whatever they are. The first sums connect the GPUs, for which each waits for the others: here one thread asks for all.
  void connect(std::int64_t n) {
    std::vector<Tensor<float>> any;
    for (const auto& lane : lanes_) {
      any.emplace_back(Shape{n}, cuda(lane->gpu.index));
      cuda_synchronize(lane->gpu.index);  // who had that memory before may still be read
    }
    as_group(lanes_[0]->gpu.index, [&](const auto& add_up) {
      for (std::size_t i = 0; i < lanes_.size(); ++i) add_up(*lanes_[i], any[i]);
    });
    for (const auto& lane : lanes_) {
      check(cudaSetDevice(lane->gpu.index), op, lane->gpu.index);
      check(cudaStreamSynchronize(lane->stream), op, lane->gpu.index);
    }
  }
  /// What one rank has.
  struct Lane {
    Lane(Gpu& of, ncclComm_t made) : gpu(of), communicator(made), computed(op, of.index), summed(op, of.index) {
      check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), op, gpu.index);
    }
    Gpu& gpu;
    std::mutex mutex;         // of the communicator
    ncclComm_t communicator;  // null: aborted
    cudaStream_t stream = nullptr;
    Event computed, summed;  // in the streams of kernels and of sums
  };
  const Nccl& nccl_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

inline std::unique_ptr<Communicator> make_nccl_communicator(const std::vector<Device>& devices) {
  return std::make_unique<NcclCommunicator>(devices);
}

#else

inline std::unique_ptr<Communicator> make_nccl_communicator(const std::vector<Device>&) {
  fail<DeviceError>("all_reduce", "tttlib::cuda was built without NCCL, which sums over GPUs", "build it where nccl.h is, or use one GPU");
}

#endif

}  // namespace ttt::cuda_backend

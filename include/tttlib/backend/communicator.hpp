#pragma once
/// Sums over the ranks of a training on several devices of this machine: one process, a thread for every rank.

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tttlib/backend/cuda.hpp"
#include "tttlib/core/tensor.hpp"

namespace ttt {

/// What ranks add up together. Every rank makes the same calls in the same order, from its own thread.
class Communicator {
 public:
  explicit Communicator(std::vector<Device> devices) : devices_(std::move(devices)), calls_(devices_.size()) {}
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int ranks() const { return static_cast<int>(devices_.size()); }
  Device device(int rank) const { return devices_[static_cast<std::size_t>(rank)]; }

  /// Starts to replace tensors of a rank by their sums over all ranks; may return before that is done. Throws Error if the ranks'
  /// tensors differ in number or size or if another rank gave up, DTypeError and DeviceError for a tensor that cannot be summed.
  void start_sum(int rank, const std::vector<TensorBase>& tensors) {
    for (const TensorBase& x : tensors) {
      require_defined("all_reduce", x);
      if (x.dtype() != DType::float32 && x.dtype() != DType::float64)
        fail<DTypeError>("all_reduce", concat("only float and double are summed over ranks: ", x.dtype()));
      if (x.device() != device(rank))
        fail<DeviceError>("all_reduce", concat("rank ", rank, " computes on ", device(rank), ": tensor ", x.shape(), " on ", x.device()));
      if (!x.is_contiguous()) fail<Error>("all_reduce", concat("the tensor is not contiguous: ", x.shape()), "use contiguous()");
    }
    agree(rank, tensors);
    if (!tensors.empty()) sum(rank, tensors);
  }
  /// What is asked of the rank's device from here on sees the sums that were started. Throws Error if another rank gave up.
  void finish(int rank) {
    wait(rank);
    const std::lock_guard lock(mutex_);
    require_all();
  }
  /// Returns when the devices of all ranks have done what they were asked for. Throws Error if another rank gave up.
  void settle(int rank) {
    synchronize(device(rank));
    meet();
  }
  /// A rank that cannot go on says why: the others, waiting or not, get an Error that names it, here and from now on.
  void give_up(int rank, const std::string& why) {
    {
      const std::lock_guard lock(mutex_);
      if (!failure_.empty()) return;
      failure_ = concat("rank ", rank, " on ", device(rank), " failed: ", why);
    }
    changed_.notify_all();
    abort();
  }

 protected:
  virtual void sum(int rank, const std::vector<TensorBase>& tensors) = 0;
  /// The rank's device waits for the sums that were started.
  virtual void wait(int) {}
  /// Ends what waits for a rank that will not come.
  virtual void abort() {}

  /// Returns when all ranks are here. Throws Error if one gave up.
  void meet() {
    std::unique_lock lock(mutex_);
    require_all();
    const std::uint64_t meeting = meetings_;
    if (++arrived_ == ranks()) {
      arrived_ = 0;
      ++meetings_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return meetings_ != meeting || !failure_.empty(); });
    if (meetings_ == meeting) require_all();
  }

 private:
  void require_all() const {
    if (!failure_.empty()) fail<Error>("all_reduce", failure_);
  }
  /// Sums of different tensors would wait for each other for ever, or add what does not belong together.
  void agree(int rank, const std::vector<TensorBase>& tensors) {
    std::vector<std::int64_t> sizes;
    for (const TensorBase& x : tensors) sizes.push_back(x.dtype() == DType::float64 ? -x.numel() : x.numel());
    const std::lock_guard lock(mutex_);
    require_all();
    const std::uint64_t call = calls_[static_cast<std::size_t>(rank)]++;
    const auto [at, is_first] = pending_.try_emplace(call, Pending{rank, sizes, 0});
    Pending& first = at->second;
    if (first.sizes != sizes)
      fail<Error>("all_reduce", concat("ranks sum different tensors: ", sizes.size(), " on rank ", rank, ", ", first.sizes.size(), " on rank ",
                                       first.rank, sizes.size() == first.sizes.size() ? ", of other sizes" : ""),
                  "every rank has to use the same parameters in every step");
    if (++first.arrived == ranks()) pending_.erase(at);
  }

  struct Pending {
    int rank;
    std::vector<std::int64_t> sizes;  // negative: of double
    int arrived;
  };
  const std::vector<Device> devices_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string failure_;                       // of the first rank that gave up
  std::vector<std::uint64_t> calls_;          // of each rank
  std::map<std::uint64_t, Pending> pending_;  // calls that not all ranks have made
  int arrived_ = 0;
  std::uint64_t meetings_ = 0;
};

/// Ranks in memory that all of them can reach: every rank adds its share of the numbers, always in the order of ranks, and gives all of
/// them the sum.
class LocalCommunicator : public Communicator {
 public:
  explicit LocalCommunicator(std::vector<Device> devices) : Communicator(std::move(devices)), parts_(static_cast<std::size_t>(ranks())) {}

 protected:
  void sum(int rank, const std::vector<TensorBase>& tensors) override {
    parts_[static_cast<std::size_t>(rank)] = &tensors;
    meet();
    add_shares(rank);
    meet();
  }
  virtual void add_shares(int rank) {
    const std::vector<TensorBase>& tensors = *parts_[0];
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].dtype() == DType::float64) add_share<double>(rank, i);
      else add_share<float>(rank, i);
    }
  }

 private:
  /// Numbers [begin, end) of tensor `i`.
  template <class T>
  void add_share(int rank, std::size_t i) {
    std::vector<T*> all;
    for (const std::vector<TensorBase>* part : parts_) all.push_back(Tensor<T>((*part)[i]).data());
    const std::int64_t n = (*parts_[0])[i].numel();
    for (std::int64_t at = n * rank / ranks(); at < n * (rank + 1) / ranks(); ++at) {
      T total = all[0][at];
      for (std::size_t r = 1; r < all.size(); ++r) total += all[r][at];
      for (T* each : all) each[at] = total;
    }
  }

  std::vector<const std::vector<TensorBase>*> parts_;  // [ranks]
};

/// A communicator of the CPU, or of different GPUs by NCCL. Throws DeviceError if the devices do not go together, or if NCCL is not there.
inline std::unique_ptr<Communicator> make_communicator(const std::vector<Device>& devices) {
  if (devices.empty()) fail<DeviceError>("make_communicator", "no device to compute on");
  std::vector<int> indices;
  for (const Device device : devices) {
    require_device("make_communicator", device);
    if (device.is_cpu() != devices[0].is_cpu())
      fail<DeviceError>("make_communicator", concat("ranks on processors and GPUs together: ", devices[0], " and ", device),
                        "take one kind of device");
    if (device.is_cpu()) continue;
    for (const int index : indices)
      if (index == device.index) fail<DeviceError>("make_communicator", concat("two ranks on one GPU: ", device), "name each GPU once");
    indices.push_back(device.index);
  }
  if (devices[0].is_cpu()) return std::make_unique<LocalCommunicator>(devices);
  return cuda_runtime().make_communicator(devices);
}

}  // namespace ttt

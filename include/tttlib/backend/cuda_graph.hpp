#pragma once
/// A step on a GPU that is recorded once and then run again with one launch.

#include <functional>
#include <utility>

#include "tttlib/backend/backend.hpp"
#include "tttlib/backend/cuda.hpp"
#include "tttlib/core/random.hpp"

namespace ttt {

/// What a function asks of a GPU, captured once and replayed: a training step of fixed shapes, say.
///
///     graph.capture([&] { model->zero_grad(); loss = loss_of((*model)(images), labels); loss.backward(); optimizer.step(); });
///     for (…) { assign(images, batch); optimizer.set_lr(schedule(i)); graph.replay(); }
///
/// A replay does what another call of the function would have done, as far as this may change: what is in the tensors that it
/// reads; random numbers, which go on where the default generator is; AdamW's rate and count of steps. All else stays as it was in
/// the capture: shapes, other numbers, the seed, what happens on the CPU. Tensors that the function makes are overwritten by the next replay.
/// The function may not wait for the GPU, no other thread may use that GPU meanwhile, and what the function uses by reference
/// has to outlive the graph.
class CudaGraph {
 public:
  /// Throws DeviceError if there is no such GPU, or if the device is the CPU.
  explicit CudaGraph(int index = 0) : CudaGraph(cuda(index)) {}
  explicit CudaGraph(Device device) : index_(device.index) {
    if (device.is_cpu()) fail<DeviceError>("CudaGraph", "only a GPU runs graphs: device cpu", "move what runs to cuda(0)");
    require_device("CudaGraph", device);
  }
  ~CudaGraph() { release(); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  /// Records `f` without running anything on the GPU, in place of what was captured before. Throws what f throws, or Error if that
  /// cannot be captured.
  void capture(std::function<void()> f) {
    if (cuda_capture()) fail<Error>("CudaGraph", "a graph is being captured on this thread already", "capture one after the other");
    release();
    stream_offset_ = Tensor<std::int64_t>(Shape{1}, cuda(index_));
    capture_.stream_offset = stream_offset_.data();
    first_stream_ = default_generator().next_stream;
    graph_ = cuda_runtime().begin_capture(index_);
    cuda_capture() = &capture_;
    try {
      f();
    } catch (...) {
      restore();
      release();
      throw;
    }
    restore();
    cuda_runtime().end_capture(graph_);
    work_ = std::move(f);
  }

  /// Runs what was captured, once more; returns before the GPU is done. Throws Error before a capture.
  void replay() {
    refuse_in_capture("CudaGraph");
    if (!work_) fail<Error>("CudaGraph", "nothing to replay", "capture first");
    for (const auto& prepare : capture_.before_replay) prepare();
    std::atomic<std::uint64_t>& next = default_generator().next_stream;
    backend::fill(mutable_view(stream_offset_), static_cast<std::int64_t>(next - first_stream_));
    next += draws_;
    cuda_runtime().replay(graph_);
  }

 private:
  /// The capture ends; it drew no numbers.
  void restore() {
    cuda_capture() = nullptr;
    draws_ = default_generator().next_stream - first_stream_;
    default_generator().next_stream = first_stream_;
  }
  void release() {
    work_ = nullptr;
    capture_ = {};
    if (graph_) cuda_runtime().destroy_graph(std::exchange(graph_, nullptr));
  }

  int index_;
  void* graph_ = nullptr;
  CudaCapture capture_;
  std::function<void()> work_;            // holds the tensors that the graph uses
  Tensor<std::int64_t> stream_offset_;    // [1] on the GPU: by how much streams have moved on since the capture
  std::uint64_t first_stream_ = 0, draws_ = 0;
};

}  // namespace ttt

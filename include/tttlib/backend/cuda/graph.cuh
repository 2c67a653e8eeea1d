#pragma once
/// Capture and replay of CUDA graphs (backend/cuda_graph.hpp). Nothing here needs nvcc.

#include "tttlib/backend/cuda/blas_handle.cuh"

namespace ttt::cuda_backend {

struct CapturedGraph {
  explicit CapturedGraph(Gpu& device) : gpu(device), no_uploads(device.upload_mutex) {}
  Gpu& gpu;
  GraphMemory<GpuMemory>::Held memory;
  cudaGraphExec_t executable = nullptr;
  bool capturing = true;
  std::unique_lock<std::mutex> no_uploads;  // until the capture ends: loaders wait that long
};

/// The graph of what the stream was asked for since the capture began.
inline cudaGraph_t end_of_capture(CapturedGraph& graph, cudaError_t& status) {
  cudaGraph_t recorded = nullptr;
  status = cudaStreamEndCapture(graph.gpu.stream, &recorded);
  graph.gpu.allocator.capture(nullptr);
  graph.capturing = false;
  graph.no_uploads.unlock();
  return recorded;
}

inline void register_graphs(CudaRuntime& runtime) {
  runtime.begin_capture = [](int index) -> void* {
    Gpu& device = gpu(index);
    check(cudaSetDevice(index), "CudaGraph", index);
    blas_handle(device, "CudaGraph");  // cannot be made during a capture
    auto graph = std::make_unique<CapturedGraph>(device);
    // Relaxed: memory for the graph may be asked for while it is captured. That nobody waits, refuse_in_capture sees to.
    check(cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeRelaxed), "CudaGraph", index);
    device.allocator.capture(&graph->memory);
    return graph.release();
  };
  runtime.end_capture = [](void* captured) {
    CapturedGraph& graph = *static_cast<CapturedGraph*>(captured);
    cudaError_t status = cudaSuccess;
    const cudaGraph_t recorded = end_of_capture(graph, status);
    check(status, "CudaGraph", graph.gpu.index);
    status = cudaGraphInstantiateWithFlags(&graph.executable, recorded, 0);
    (void)cudaGraphDestroy(recorded);
    check(status, "CudaGraph", graph.gpu.index);
  };
  runtime.replay = [](void* captured) {
    CapturedGraph& graph = *static_cast<CapturedGraph*>(captured);
    check(cudaSetDevice(graph.gpu.index), "CudaGraph", graph.gpu.index);
    graph.gpu.launches.fetch_add(1, std::memory_order_relaxed);  // for the host it is one
    check(cudaGraphLaunch(graph.executable, graph.gpu.stream), "CudaGraph", graph.gpu.index);
    if (debug_mode()) check(cudaStreamSynchronize(graph.gpu.stream), "CudaGraph", graph.gpu.index);
  };
  runtime.destroy_graph = [](void* captured) {
    const std::unique_ptr<CapturedGraph> graph(static_cast<CapturedGraph*>(captured));
    if (graph->capturing) {  // what was captured failed
      cudaError_t status = cudaSuccess;
      if (const cudaGraph_t recorded = end_of_capture(*graph, status)) (void)cudaGraphDestroy(recorded);
      (void)cudaGetLastError();
    }
    if (graph->executable) (void)cudaGraphExecDestroy(graph->executable);
    graph->gpu.allocator.release(graph->memory);
  };
}

}  // namespace ttt::cuda_backend

#pragma once
/// Memory of a device on which graphs are captured: a replay writes where the capture did, so what a graph uses stays its own.

#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "tttlib/backend/cuda.hpp"
#include "tttlib/core/caching_allocator.hpp"

namespace ttt::cuda_backend {

/// A caching allocator, and what captured graphs hold of its memory. Blocks that a capturing thread asks for are the graph's own: freed
/// ones are handed out again inside of it, and go back to the allocator when it goes. Blocks of others that are freed in a capture,
/// which the graph may have read, stay as long.
template <class Memory>
class GraphMemory : public CachingAllocator<Memory> {
  using Allocator = CachingAllocator<Memory>;

 public:
  using Allocator::Allocator;

  void* allocate(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (!capturing_ || !cuda_capture()) return Allocator::allocate(bytes);
    auto waiting = capturing_->waiting.lower_bound(bytes);
    if (waiting != capturing_->waiting.end() && waiting->first <= 2 * bytes + 4096) {
      void* block = waiting->second;
      capturing_->waiting.erase(waiting);
      return block;
    }
    void* block = Allocator::allocate(bytes);
    owned_[block] = {capturing_, bytes};
    return block;
  }
  void deallocate(void* block, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = owned_.find(block);
    if (found != owned_.end() && found->second.graph) {
      found->second.graph->waiting.emplace(found->second.bytes, block);
      return;
    }
    if (found != owned_.end()) bytes = found->second.bytes, owned_.erase(found);
    if (capturing_) capturing_->freed.emplace_back(block, bytes);
    else Allocator::deallocate(block, bytes);
  }

  /// What one graph holds.
  struct Held {
    std::multimap<std::size_t, void*> waiting;              // its own blocks that no tensor has, by size
    std::vector<std::pair<void*, std::size_t>> freed;       // of others
  };
  /// The capture of a graph begins; null: it ends.
  void capture(Held* graph) {
    const std::lock_guard lock(mutex_);
    capturing_ = graph;
  }
  /// The graph goes. Tensors that are still in its memory keep it, and give it back to the allocator.
  void release(Held& graph) {
    const std::lock_guard lock(mutex_);
    for (const auto& [bytes, block] : graph.waiting) {
      owned_.erase(block);
      Allocator::deallocate(block, bytes);
    }
    for (const auto& [block, bytes] : graph.freed) Allocator::deallocate(block, bytes);
    for (auto& [block, owned] : owned_)
      if (owned.graph == &graph) owned.graph = nullptr;
  }

 private:
  struct Owned {
    Held* graph = nullptr;
    std::size_t bytes = 0;
  };
  std::mutex mutex_;
  Held* capturing_ = nullptr;
  std::map<void*, Owned> owned_;  // blocks of graphs, and of graphs that are gone: null
};

}  // namespace ttt::cuda_backend

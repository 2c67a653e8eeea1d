#pragma once
/// The caching allocator of host memory: page faults on fresh activations cost more than the arithmetic on them.

#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "tttlib/core/error.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define TTTLIB_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TTTLIB_ADDRESS_SANITIZER 1
#endif
#endif

namespace ttt {

/// Keeps freed memory for the next request. Small blocks wait in lists by size. Large ones are cut from segments, the
/// smallest free piece that is large enough first, and grow together again with their free neighbours, so that a step
/// whose tensors have other sizes than the last one still finds memory that has been touched. Blocks are 64-byte aligned.
class HostAllocator {
 public:
  static HostAllocator& instance() {
    static HostAllocator* allocator = new HostAllocator;  // never destroyed: storages may outlive static objects
    return *allocator;
  }

  void* allocate(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    void* block = size < large ? small_block(size) : large_block(size);
    if (!block) fail<Error>("Tensor", concat("out of memory: ", bytes, " bytes asked for, ", in_use_, " in use"));
    in_use_ += size;
    if (in_use_ > peak_) peak_ = in_use_;
    return block;
  }

  void deallocate(void* block, std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    in_use_ -= size;
    cached_ += size;
    if (size >= large) return give_back(static_cast<char*>(block));
    if (outgrown()) std::free(block), cached_ -= size;
    else small_[size].push_back(block);
  }

  /// Returns every cached block to the system, except pieces of segments that are in use.
  void release_cached() {
    const std::lock_guard lock(mutex_);
    release();
  }

  /// Bytes held by live storages now, and the most there ever were.
  std::size_t bytes_in_use() const { return std::lock_guard(mutex_), in_use_; }
  std::size_t peak_bytes() const { return std::lock_guard(mutex_), peak_; }
  /// Bytes of freed blocks that wait for their next use.
  std::size_t bytes_cached() const { return std::lock_guard(mutex_), cached_; }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = in_use_;
  }

 private:
  static constexpr std::size_t alignment = 64, huge_page = std::size_t(2) << 20, slack = std::size_t(16) << 20;
#if defined(TTTLIB_ADDRESS_SANITIZER)
  static constexpr std::size_t large = std::size_t(-1);  // a sanitizer watches the borders of heap blocks only
#else
  static constexpr std::size_t large = std::size_t(64) << 10;
#endif

  /// A part of a segment; its neighbours in `pieces_` lie beside it unless a segment begins there.
  struct Piece {
    std::size_t size = 0;
    bool free = false, first = false;  // of its segment
  };
  using Pieces = std::map<char*, Piece>;

  /// Rounds up to 64 bytes, above 1 KiB to an eighth of the next lower power of two, and large blocks to 4 KiB.
  static std::size_t rounded(std::size_t bytes) {
    std::size_t step = alignment;
    while (step * 16 < bytes && step < 4096) step *= 2;
    return bytes == 0 ? alignment : (bytes + step - 1) / step * step;
  }
  /// True if memory is kept beyond the largest amount ever in use at once.
  bool outgrown() const { return cached_ + in_use_ > peak_ + slack; }

  void* small_block(std::size_t size) {
    std::vector<void*>& waiting = small_[size];
    if (!waiting.empty()) {
      void* block = waiting.back();
      waiting.pop_back();
      cached_ -= size;
      return block;
    }
    void* block = std::aligned_alloc(alignment, size);
    return block ? block : (release(), std::aligned_alloc(alignment, size));
  }

  void* large_block(std::size_t size) {
    auto found = free_.lower_bound({size, nullptr});
    if (found == free_.end()) {
      if (!new_segment(size)) return nullptr;
      found = free_.lower_bound({size, nullptr});
    }
    const auto [whole, at] = *found;
    free_.erase(found);
    Piece& piece = pieces_[at];
    piece.size = size;
    piece.free = false;
    if (whole > size) add_free(at + size, {whole - size, true, false});
    cached_ -= size;
    return at;
  }

  void add_free(char* at, const Piece& piece) {
    pieces_[at] = piece;
    free_.emplace(piece.size, at);
  }

  /// Segments grow with what the program has needed so far.
  bool new_segment(std::size_t size) {
    std::size_t bytes = peak_ / 8;
    if (bytes > (std::size_t(64) << 20)) bytes = std::size_t(64) << 20;
    if (bytes < size) bytes = size;
    bytes = (bytes + huge_page - 1) / huge_page * huge_page;
    void* segment = bytes < size ? nullptr : std::aligned_alloc(huge_page, bytes);
    if (!segment && bytes >= size) release(), segment = std::aligned_alloc(huge_page, bytes);
    if (!segment) return false;
#if defined(__linux__)
    madvise(segment, bytes, MADV_HUGEPAGE);  // fewer page faults; a refusal costs nothing
#endif
    add_free(static_cast<char*>(segment), {bytes, true, true});
    cached_ += bytes;
    return true;
  }

  /// Joins the piece at `at` with its free neighbours; a segment that is free as a whole goes back if too much is kept.
  void give_back(char* at) {
    auto piece = pieces_.find(at);
    if (const auto next = std::next(piece); next != pieces_.end() && next->second.free && !next->second.first) join(piece, next);
    if (!piece->second.first)
      if (const auto before = std::prev(piece); before->second.free) {
        free_.erase({before->second.size, before->first});
        before->second.size += piece->second.size;
        pieces_.erase(piece);
        piece = before;
      }
    piece->second.free = true;
    free_.emplace(piece->second.size, piece->first);
    if (outgrown() && is_segment(piece)) drop(piece);
  }
  /// Adds the free piece behind to this one.
  void join(Pieces::iterator piece, Pieces::iterator next) {
    free_.erase({next->second.size, next->first});
    piece->second.size += next->second.size;
    pieces_.erase(next);
  }
  bool is_segment(Pieces::iterator piece) const {
    const auto next = std::next(piece);
    return piece->second.first && (next == pieces_.end() || next->second.first);
  }
  void drop(Pieces::iterator piece) {
    cached_ -= piece->second.size;
    free_.erase({piece->second.size, piece->first});
    std::free(piece->first);
    pieces_.erase(piece);
  }

  void release() {
    for (auto& [size, blocks] : small_) {
      for (void* block : blocks) std::free(block);
      cached_ -= size * blocks.size();
    }
    small_.clear();
    for (auto piece = pieces_.begin(); piece != pieces_.end();) {
      const auto at = piece++;
      if (at->second.free && is_segment(at)) drop(at);
    }
  }

  mutable std::mutex mutex_;
  std::map<std::size_t, std::vector<void*>> small_;    // waiting blocks by size
  Pieces pieces_;                                      // of all segments, by address
  std::set<std::pair<std::size_t, char*>> free_;       // those that are free, by size
  std::size_t in_use_ = 0, peak_ = 0, cached_ = 0;
};

}  // namespace ttt

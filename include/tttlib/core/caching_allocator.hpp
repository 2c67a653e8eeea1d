#pragma once
/// The policy of caching memory, whatever device it is on: what is freed waits for the next request.

#include <cstddef>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "tttlib/core/error.hpp"

namespace ttt {

/// Keeps freed memory for the next request. Small blocks wait in lists by size. Large ones are cut from segments, the
/// smallest free piece that is large enough first, and grow together again with their free neighbours, so that a step
/// whose tensors have other sizes than the last one still finds memory that has been touched.
///
/// `Memory` says where blocks come from: `alignment` of every block, `large`, the size from which blocks are cut from
/// segments, `page`, what the size of a segment is a multiple of, `slack`, what may wait beyond the most that was ever in use; `void* block(bytes)` and `void* segment(bytes)`, null
/// where there is none, and `void release(void*)` for both; `name()` and `hint()` for the message when it runs out.
template <class Memory>
class CachingAllocator {
 public:
  explicit CachingAllocator(Memory memory = {}) : memory_(std::move(memory)) {}

  void* allocate(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    if (bytes > no_limit / 2) out_of_memory(bytes);  // what is rounded up from it might not be counted
    void* block = is_large(size) ? large_block(size) : small_block(size);
    if (!block) out_of_memory(bytes);
    in_use_ += size;
    if (in_use_ > peak_) peak_ = in_use_;
    return block;
  }

  void deallocate(void* block, std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    in_use_ -= size;
    cached_ += size;
    if (is_large(size)) return give_back(static_cast<char*>(block));
    if (outgrown()) memory_.release(block), cached_ -= size;
    else small_[size].push_back(block);
  }

  /// Returns every cached block to where it came from, except pieces of segments that are in use.
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
  /// The most bytes to hold, in use and cached together; a request beyond them is out of memory.
  std::size_t limit() const { return std::lock_guard(mutex_), limit_; }
  void set_limit(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
    if (in_use_ + cached_ > limit_) release();
  }

 private:
  static constexpr std::size_t no_limit = std::size_t(-1);

  /// A part of a segment; its neighbours in `pieces_` lie beside it unless a segment begins there.
  struct Piece {
    std::size_t size = 0;
    bool free = false, first = false;  // of its segment
  };
  using Pieces = std::map<char*, Piece>;

  /// Rounds up to the alignment, larger blocks to an eighth of the next lower power of two, the largest to 4 KiB.
  static std::size_t rounded(std::size_t bytes) {
    std::size_t step = Memory::alignment;
    while (step * 16 < bytes && step < 4096) step *= 2;
    return bytes == 0 ? Memory::alignment : (bytes + step - 1) / step * step;
  }
  static bool is_large(std::size_t size) {
    if constexpr (Memory::large == 0) return true;
    else return size >= Memory::large;
  }
  /// True if memory is kept beyond the largest amount ever in use at once.
  bool outgrown() const { return cached_ + in_use_ > peak_ && cached_ + in_use_ - peak_ > Memory::slack; }
  bool fits(std::size_t bytes) const { return in_use_ + cached_ <= limit_ && bytes <= limit_ - in_use_ - cached_; }

  [[noreturn]] void out_of_memory(std::size_t bytes) const {
    fail<Error>(memory_.name(),
                concat("out of memory: ", bytes, " bytes asked for, ", in_use_, " in use, ", cached_, " cached",
                       limit_ == no_limit ? "" : ", limit " + std::to_string(limit_)),
                memory_.hint());
  }

  void* small_block(std::size_t size) {
    std::vector<void*>& waiting = small_[size];
    if (!waiting.empty()) {
      void* block = waiting.back();
      waiting.pop_back();
      cached_ -= size;
      return block;
    }
    void* block = fits(size) ? memory_.block(size) : nullptr;
    if (!block) release(), block = fits(size) ? memory_.block(size) : nullptr;
    return block;
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

  /// Segments grow with what the program has needed so far; the smallest that will do is the last thing tried.
  bool new_segment(std::size_t size) {
    const std::size_t least = (size + Memory::page - 1) / Memory::page * Memory::page;
    std::size_t bytes = peak_ / 8;
    if (bytes > (std::size_t(64) << 20)) bytes = std::size_t(64) << 20;
    bytes = bytes < least ? least : (bytes + Memory::page - 1) / Memory::page * Memory::page;
    void* segment = fits(bytes) ? memory_.segment(bytes) : nullptr;
    if (!segment) {
      release();
      segment = fits(bytes) ? memory_.segment(bytes) : nullptr;
    }
    if (!segment && bytes > least) bytes = least, segment = fits(bytes) ? memory_.segment(bytes) : nullptr;
    if (!segment) return false;
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
  void join(typename Pieces::iterator piece, typename Pieces::iterator next) {
    free_.erase({next->second.size, next->first});
    piece->second.size += next->second.size;
    pieces_.erase(next);
  }
  bool is_segment(typename Pieces::iterator piece) const {
    const auto next = std::next(piece);
    return piece->second.first && (next == pieces_.end() || next->second.first);
  }
  void drop(typename Pieces::iterator piece) {
    cached_ -= piece->second.size;
    free_.erase({piece->second.size, piece->first});
    memory_.release(piece->first);
    pieces_.erase(piece);
  }

  void release() {
    for (auto& [size, blocks] : small_) {
      for (void* block : blocks) memory_.release(block);
      cached_ -= size * blocks.size();
    }
    small_.clear();
    for (auto piece = pieces_.begin(); piece != pieces_.end();) {
      const auto at = piece++;
      if (at->second.free && is_segment(at)) drop(at);
    }
  }

  Memory memory_;
  mutable std::mutex mutex_;
  std::map<std::size_t, std::vector<void*>> small_;    // waiting blocks by size
  Pieces pieces_;                                      // of all segments, by address
  std::set<std::pair<std::size_t, char*>> free_;       // those that are free, by size
  std::size_t in_use_ = 0, peak_ = 0, cached_ = 0, limit_ = no_limit;
};

}  // namespace ttt

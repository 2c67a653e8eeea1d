#pragma once
/// Block programs: GPU kernels written once, run by a GPU or, block after block and thread after thread, by the CPU.
///
/// A program is a struct with `void operator()(Block&) const`, the work of one thread block. Code outside of a phase is
/// the same for all threads; a phase, `block.each_thread([&](int t) { … })`, is the work of thread t and ends in a
/// barrier. On the GPU a phase is `f(threadIdx.x); __syncthreads();`, elsewhere a loop over t. Within a phase no thread
/// may read what another one writes. `block.each_lane` is the same without a barrier, for work with the thread's own
/// numbers; what a warp does together (`warp_reduce`, products on tensor cores) waits for its lanes by itself.
/// Numbers that a thread keeps from one phase to the next live in a PerThread<T>.
/// Sums over a block are trees in shared memory, of one shape: the same input gives the same bits.
///
/// Programs are started through a launcher: backend/cuda/launcher.cuh has the one for GPUs, tests/cuda/emulation.hpp the
/// one that emulates them. Both are made as `L run(op, device)` and offer
///   run.blocks(count, threads, shared_bytes, program)     run.read(to_host, from_device, bytes)
///   run.allocate(bytes), run.deallocate(block, bytes)     run.gemm(product)   (backend/cuda/matmul.hpp)

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#if !defined(__CUDACC__)
#include <cstring>
#include <vector>
#endif

#include "tttlib/core/config.hpp"
#include "tttlib/core/device.hpp"
#include "tttlib/core/error.hpp"

namespace ttt::cuda_backend {

/// Threads of a block unless a kernel has a reason for another number; always a power of two, for the trees of sums.
inline constexpr int block_threads = 256;
/// Shared memory that a block may ask for on every GPU we build for, in bytes (sm_86 and sm_89 have least: 99 KiB).
inline constexpr std::int64_t shared_limit = 96 * 1024;

/// Bytes that `block.shared<T>(n)` takes.
template <class T>
constexpr std::int64_t shared_size(std::int64_t n) {
  return (n * static_cast<std::int64_t>(sizeof(T)) + 15) / 16 * 16;
}

class Block {
 public:
#if defined(__CUDACC__)
  TTT_DEVICE std::int64_t index() const { return blockIdx.x; }
  TTT_DEVICE std::int64_t count() const { return gridDim.x; }
  TTT_DEVICE int threads() const { return static_cast<int>(blockDim.x); }
  template <class F>
  TTT_DEVICE void each_thread(const F& f) const {
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
  template <class F>
  TTT_DEVICE void each_lane(const F& f) const {
    f(static_cast<int>(threadIdx.x));
  }
  TTT_DEVICE void barrier() const { __syncthreads(); }
#else
  Block(std::int64_t index, std::int64_t count, int threads, std::vector<unsigned char>& memory, bool last_thread_first)
      : index_(index), count_(count), threads_(threads), memory_(memory), last_thread_first_(last_thread_first) {}
  std::int64_t index() const { return index_; }
  std::int64_t count() const { return count_; }
  int threads() const { return threads_; }
  template <class F>
  void each_thread(const F& f) const {
    for (int t = 0; t < threads_; ++t) f(last_thread_first_ ? threads_ - 1 - t : t);
  }
  template <class F>
  void each_lane(const F& f) const {
    each_thread(f);
  }
  void barrier() const {}
#endif

  /// Items 0 … n−1 shared out among the threads of this block, in one phase: f(item).
  template <class F>
  TTT_DEVICE void each_of(int n, const F& f) const {
    each_thread([&](int t) {
      for (int i = t; i < n; i += threads()) f(i);
    });
  }

  /// The next n numbers of the block's shared memory.
  template <class T>
  TTT_DEVICE T* shared(std::int64_t n) {
#if defined(__CUDACC__)
    extern __shared__ __align__(16) unsigned char memory[];
    unsigned char* at = memory + used_;
#else
    if (used_ + shared_size<T>(n) > static_cast<std::int64_t>(memory_.size()))
      fail<Error>("cuda", concat("a program uses more shared memory than its launch asked for: ", memory_.size(), " bytes"));
    unsigned char* at = memory_.data() + used_;
#endif
    used_ += (n * static_cast<std::int64_t>(sizeof(T)) + 15) / 16 * 16;
    return reinterpret_cast<T*>(at);
  }

 private:
  std::int64_t used_ = 0;
#if !defined(__CUDACC__)
  std::int64_t index_, count_;
  int threads_;
  std::vector<unsigned char>& memory_;
  bool last_thread_first_;
#endif
};

/// One T of every thread, kept between phases: a register on the GPU. Not initialised.
template <class T>
class PerThread {
 public:
#if defined(__CUDACC__)
  TTT_DEVICE explicit PerThread(const Block&) {}
  TTT_DEVICE T& operator[](int) { return value_; }

 private:
  T value_;
#else
  explicit PerThread(const Block& block) : values_(static_cast<std::size_t>(block.threads())) {
    std::memset(static_cast<void*>(values_.data()), 0xff, values_.size() * sizeof(T));  // NaN: nobody may rely on zeros
  }
  T& operator[](int t) { return values_[static_cast<std::size_t>(t)]; }

 private:
  std::vector<T> values_;
#endif
};

template <int... at, class F>
TTT_DEVICE void unrolled(std::integer_sequence<int, at...>, const F& f) {
  (f(at), ...);
}
/// f(0), …, f(count−1), a loop whose arrays stay in registers.
template <int count, class F>
TTT_DEVICE void unrolled(const F& f) {
  unrolled(std::make_integer_sequence<int, count>{}, f);
}

/// N numbers side by side in memory, N a power of two: one access of a thread if they are 16 bytes or less.
template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
  T numbers[N];
  TTT_DEVICE T& operator[](int i) { return numbers[i]; }
  TTT_DEVICE const T& operator[](int i) const { return numbers[i]; }
};
/// Numbers of type T, and of wider ones in the same kernel, that a thread reads at once.
template <class... T>
inline constexpr int pack_size = 16 / static_cast<int>(std::max({sizeof(T)...}));

#if !defined(__CUDACC__)
/// What a GPU does not forgive.
template <int N, class T>
void require_aligned(const T* at) {
  if (reinterpret_cast<std::uintptr_t>(at) % alignof(Pack<T, N>) != 0) fail<Error>("cuda", concat("a pack of ", N, " numbers between two packs"));
}
#endif
/// The N numbers from `from` on, which `aligned` has said yes to.
template <int N, class T>
TTT_DEVICE Pack<T, N> load_pack(const T* from) {
#if defined(__CUDACC__)
  return *reinterpret_cast<const Pack<T, N>*>(from);
#else
  require_aligned<N>(from);
  Pack<T, N> pack;
  std::memcpy(static_cast<void*>(&pack), from, sizeof pack);
  return pack;
#endif
}
template <class T, int N>
TTT_DEVICE void store_pack(T* to, const Pack<T, N>& pack) {
#if defined(__CUDACC__)
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
#else
  require_aligned<N>(to);
  std::memcpy(static_cast<void*>(to), &pack, sizeof pack);
#endif
}
/// Asks for the 128 bytes around an address that will be read soon.
TTT_DEVICE inline void prefetch([[maybe_unused]] const void* at) {
#if defined(__CUDACC__)
  asm volatile("prefetch.L2 [%0];" ::"l"(at));
#endif
}
/// N times the same number.
template <int N, class T>
TTT_DEVICE Pack<T, N> same_pack(T value) {
  Pack<T, N> pack;
  unrolled<N>([&](int i) { pack[i] = value; });
  return pack;
}
/// True if packs of N may start at each of these addresses; null stands for an operand that is not there.
template <int N, class... T>
TTT_HD bool aligned(const T*... data) {
  return ((reinterpret_cast<std::uintptr_t>(data) % alignof(Pack<T, N>) == 0) && ...);
}

inline constexpr int warp_size = 32;

/// at(t), a number of thread t, becomes R over the `width` neighbouring threads that t is one of (a power of two, at most a warp):
/// a butterfly, so that all of them have the same bits.
template <class R, int width = warp_size, class At>
TTT_DEVICE void warp_reduce([[maybe_unused]] const Block& block, const At& at) {
#if defined(__CUDACC__)
  auto& own = at(static_cast<int>(threadIdx.x));
  for (int step = width / 2; step > 0; step /= 2) own = R::combine(own, __shfl_xor_sync(0xffffffffU, own, step));
#else
  using T = std::remove_reference_t<decltype(at(0))>;
  for (int step = width / 2; step > 0; step /= 2)
    for (int first = 0; first < block.threads(); first += width) {
      T before[width];
      for (int i = 0; i < width; ++i) before[i] = at(first + i);
      for (int i = 0; i < width; ++i) at(first + i) = R::combine(before[i], before[i ^ step]);
    }
#endif
}

/// f(0) … f(n−1) combined by R: every thread takes each threads-th item, then a tree over the threads, in `scratch`
/// [threads] of shared memory. Every thread gets the result.
template <class R, class T, class F>
TTT_DEVICE T reduce_items(Block& block, std::int64_t n, T* scratch, const F& f) {
  block.each_thread([&](int t) {
    T total = R::template identity<T>();
    for (std::int64_t i = t; i < n; i += block.threads()) total = R::combine(total, f(i));
    scratch[t] = total;
  });
  for (int width = block.threads() / 2; width > 0; width /= 2)
    block.each_thread([&](int t) {
      if (t < width) scratch[t] = R::combine(scratch[t], scratch[t + width]);
    });
  const T result = scratch[0];
  block.barrier();  // before anybody writes to scratch again
  return result;
}

/// The program of independent items: body(0) … body(n−1), neighbouring threads on neighbouring items.
template <class Body>
struct ForEach {
  std::int64_t n;
  Body body;
  TTT_DEVICE void operator()(Block& block) const {
    block.each_thread([&](int t) {
      for (std::int64_t i = block.index() * block.threads() + t; i < n; i += block.count() * block.threads()) body(i);
    });
  }
};
template <class L, class Body>
void for_each(const L& run, std::int64_t n, const Body& body) {
  constexpr std::int64_t most = 8192;  // blocks: several rounds of the largest GPU, then each thread takes more items
  if (n <= 0) return;
  const std::int64_t blocks = (n + block_threads - 1) / block_threads;
  run.blocks(blocks < most ? blocks : most, block_threads, 0, ForEach<Body>{n, body});
}

/// The program of independent elements 0 … n−1 in packs of N: `body.load<N>(i)` reads what elements i … i+N−1 need and
/// `body.store<N>(i, that)` writes them, also with N = 1 for the odd rest. A thread reads several packs before it writes the first, so
/// a result may be in an operand's place.
template <int N, class Body>
struct ForEachPack {
  std::int64_t n;
  Body body;
  using Item = decltype(std::declval<const Body&>().template load<N>(std::int64_t{}));
  static constexpr int in_flight = sizeof(Item) > 16 ? 2 : 4;
  TTT_DEVICE void operator()(Block& block) const {
    block.each_thread([&](int t) {
      const std::int64_t packs = n / N, first = block.index() * block.threads() * in_flight + t;
      Item items[in_flight] = {};
      unrolled<in_flight>([&](int k) {
        const std::int64_t i = first + k * block.threads();
        if (i < packs) items[k] = body.template load<N>(i * N);
      });
      unrolled<in_flight>([&](int k) {
        const std::int64_t i = first + k * block.threads();
        if (i < packs) body.template store<N>(i * N, items[k]);
      });
      if constexpr (N > 1)
        if (const std::int64_t i = packs * N + t; block.index() == 0 && i < n) body.template store<1>(i, body.template load<1>(i));
    });
  }
};
/// Runs it; one by one if the operands are not `in_packs`.
template <int N, class L, class Body>
void for_each_pack(const L& run, std::int64_t n, bool in_packs, const Body& body) {
  if (n <= 0) return;
  if constexpr (N > 1)
    if (!in_packs) return for_each_pack<1>(run, n, true, body);
  constexpr std::int64_t of_block = std::int64_t(block_threads) * N * ForEachPack<N, Body>::in_flight;
  run.blocks((n + of_block - 1) / of_block, block_threads, 0, ForEachPack<N, Body>{n, body});
}

/// Memory of the device for the time of one verb. Work on a device happens in order, so it may be given back at once.
template <class L, class T>
class Scratch {
 public:
  Scratch(const L& run, std::int64_t n)
      : run_(run), bytes_(static_cast<std::size_t>(n) * sizeof(T)), data_(n > 0 ? static_cast<T*>(run.allocate(bytes_)) : nullptr) {}
  ~Scratch() {
    if (data_) run_.deallocate(data_, bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }

 private:
  const L& run_;
  std::size_t bytes_;
  T* data_;
};

}  // namespace ttt::cuda_backend

#pragma once
// A GPU without a GPU: block programs run one block, one phase and one thread after the other, on memory that the host may
// touch only while a program runs. Tests link it in place of tttlib::cuda and find a device cuda:0.
// TTTLIB_EMULATE=backwards runs the last block and the last thread first: a program that needs barriers it does not have
// gives other results then.

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "tttlib/backend/cpu/verbs.hpp"
#include "tttlib/backend/cuda.hpp"
#include "tttlib/backend/cuda/block.hpp"
#include "tttlib/backend/cuda/graph_memory.hpp"
#include "tttlib/backend/cuda/matmul.hpp"

namespace emulation {

using namespace ttt;

inline bool backwards() {
  static const bool on = [] {
    const char* text = std::getenv("TTTLIB_EMULATE");
    return text && std::string(text) == "backwards";
  }();
  return on;
}

/// One thread at a time has to do with the device; loaders copy batches while the model computes.
inline std::recursive_mutex& one_at_a_time() {
  static auto* mutex = new std::recursive_mutex;
  return *mutex;
}

/// Segments of pages that the host can neither read nor write, except inside an `Access`.
struct EmulatedMemory {
  static constexpr std::size_t alignment = 256, large = 0, page = std::size_t(2) << 20, slack = std::size_t(-1);
  void* block(std::size_t) const { return nullptr; }
  void* segment(std::size_t bytes) const {
    void* memory = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    const std::lock_guard lock(one_at_a_time());
    segments()[memory] = bytes;
    if (depth() > 0) protect(PROT_READ | PROT_WRITE);
    return memory;
  }
  void release(void* memory) const {
    const std::lock_guard lock(one_at_a_time());
    munmap(memory, segments()[memory]);
    segments().erase(memory);
  }
  const char* name() const { return "cuda:0"; }
  const char* hint() const { return "smaller batches, or recomputed blocks"; }

  static std::map<void*, std::size_t>& segments() {
    static auto* all = new std::map<void*, std::size_t>;
    return *all;
  }
  static int& depth() {
    static int value = 0;
    return value;
  }
  static void protect(int protection) {
    for (const auto& [memory, bytes] : segments()) mprotect(memory, bytes, protection);
  }
};
/// Opens the device's memory for as long as it lives.
class Access {
 public:
  Access() {
    if (EmulatedMemory::depth()++ == 0) EmulatedMemory::protect(PROT_READ | PROT_WRITE);
  }
  ~Access() {
    if (--EmulatedMemory::depth() == 0) EmulatedMemory::protect(PROT_NONE);
  }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

 private:
  const std::lock_guard<std::recursive_mutex> lock_{one_at_a_time()};
};
inline cuda_backend::GraphMemory<EmulatedMemory>& allocator() {
  static auto* all = new cuda_backend::GraphMemory<EmulatedMemory>;
  return *all;
}
/// A captured graph: launches in order, and its memory.
struct Graph {
  std::vector<std::function<void()>> launches;
  cuda_backend::GraphMemory<EmulatedMemory>::Held memory;
};
/// The one that is being captured; null: none, and launches run at once.
inline Graph*& captured() {
  static Graph* graph = nullptr;
  return graph;
}
template <class Launch>
void start(const Launch& launch) {
  if (captured()) captured()->launches.push_back(launch);
  else launch();
}
/// Programs started so far.
inline std::atomic<std::int64_t>& launches() {
  static std::atomic<std::int64_t> count{0};
  return count;
}

/// The matrices [batch, rows, columns] of an operand in numbers of T, from T or bf16.
template <class T, class Data>
std::vector<T> numbers_of(const cuda_backend::BlasMatrix<Data>& from, std::int64_t batch, std::int64_t rows, std::int64_t columns, bool transposed) {
  std::vector<T> numbers;
  for (std::int64_t i = 0; i < batch * rows * columns; ++i) {
    const std::int64_t row = i / columns % rows, column = i % columns;
    const std::int64_t at = i / (rows * columns) * from.step + (transposed ? row * from.leading + column : column * from.leading + row);
    numbers.push_back(from.type == DType::bfloat16 ? convert<T>(static_cast<const bf16*>(from.data)[at]) : static_cast<const T*>(from.data)[at]);
  }
  return numbers;
}
/// A product with the CPU's kernels: of T or bf16, sums of T, the result rounded where it is bf16.
template <class T>
void multiply(const cuda_backend::Gemm<T>& g) {
  const Access access;
  const std::vector<T> a = numbers_of<T>(g.a, g.batch, g.m, g.k, g.transpose_a), b = numbers_of<T>(g.b, g.batch, g.k, g.n, g.transpose_b);
  const std::vector<T> before = g.beta == T(0) ? std::vector<T>() : numbers_of<T>(g.c, g.batch, g.m, g.n, false);
  std::vector<T> sum(static_cast<std::size_t>(g.batch * g.m * g.n));
  const auto matrices = [&g](auto* data, std::int64_t rows, std::int64_t columns) {
    const Shape shape{g.batch, rows, columns};
    return View<std::remove_pointer_t<decltype(data)>>{data, shape, contiguous_strides(shape), cpu()};
  };
  const MatmulPrecisionGuard guard(MatmulPrecision::float32);
  cpu_backend::matmul<T>(matrices(a.data(), g.m, g.k), matrices(b.data(), g.k, g.n), matrices(sum.data(), g.m, g.n));
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const std::int64_t item = static_cast<std::int64_t>(i), batch = item / (g.m * g.n), row = item / g.n % g.m, column = item % g.n;
    const std::int64_t at = batch * g.c.step + column * g.c.leading + row;
    const bool rounds = g.c.type == DType::bfloat16;
    T result = sum[i];
    if (g.bias) result += rounds ? convert<T>(static_cast<const bf16*>(g.bias)[row]) : static_cast<const T*>(g.bias)[row];
    if (g.plus) result += static_cast<const T*>(g.plus)[at];
    if (!before.empty()) result += g.beta * before[i];
    if (rounds) static_cast<bf16*>(g.c.data)[at] = convert<bf16>(result);
    else static_cast<T*>(g.c.data)[at] = result;
  }
}

/// The launcher (backend/cuda/block.hpp).
class Launcher {
 public:
  Launcher(const char*, Device) {}

  template <class Program>
  void blocks(std::int64_t count, int threads, std::int64_t shared_bytes, const Program& program) const {
    static_assert(std::is_trivially_copyable_v<Program>, "a GPU gets a program as plain bytes");
    static_assert(sizeof(Program) <= 4096, "a GPU takes 4 KiB of arguments");
    if (count < 1 || threads < 1 || threads > 1024 || (threads & (threads - 1)) != 0 || shared_bytes > cuda_backend::shared_limit)
      fail<Error>("cuda", concat("no GPU takes this launch: ", count, " blocks of ", threads, " threads, ", shared_bytes, " bytes shared"));
    start([=] {
      ++launches();
      const Access access;
      std::vector<unsigned char> memory(static_cast<std::size_t>(shared_bytes));
      for (std::int64_t i = 0; i < count; ++i) {
        std::memset(memory.data(), 0xff, memory.size());  // NaN: shared memory starts with anything
        cuda_backend::Block block(backwards() ? count - 1 - i : i, count, threads, memory, backwards());
        program(block);
      }
    });
  }
  void* allocate(std::size_t bytes) const {
    void* memory = allocator().allocate(bytes);
    const Access access;
    std::memset(memory, 0xff, bytes);  // NaN: scratch memory starts with anything
    return memory;
  }
  void deallocate(void* block, std::size_t bytes) const { allocator().deallocate(block, bytes); }
  void read(void* to_host, const void* from, std::size_t bytes) const {
    refuse_in_capture("read");
    const Access access;
    std::memcpy(to_host, from, bytes);
  }
  /// What cuBLAS does, by the CPU's products; a bias, and another matrix with it, for sums in float alone.
  template <class T>
  bool gemm(const cuda_backend::Gemm<T>& g) const {
    if (g.bias && std::is_same_v<T, double>) return false;
    if (g.bias && (g.beta != T(0) || g.batch != 1)) fail<Error>("cuda", "no BLAS adds a bias to many products, or to a sum");
    if (g.plus && (!g.bias || g.c.type == DType::bfloat16)) fail<Error>("cuda", "another matrix is added with a bias, in float");
    const auto fits = [](DType type) { return type == dtype_of<T> || (type == DType::bfloat16 && std::is_same_v<T, float>); };
    if (g.a.type != g.b.type || !fits(g.a.type) || !fits(g.c.type) || (g.a.type != DType::bfloat16 && g.c.type == DType::bfloat16))
      fail<Error>("cuda", concat("no BLAS multiplies ", g.a.type, " by ", g.b.type, " to ", g.c.type));
    if (g.a.leading < (g.transpose_a ? g.k : g.m) || g.b.leading < (g.transpose_b ? g.n : g.k) || g.c.leading < g.m)
      fail<Error>("cuda", concat("BLAS refuses leading dimensions ", g.a.leading, ", ", g.b.leading, ", ", g.c.leading, " of m ", g.m, ", n ", g.n,
                                 ", k ", g.k));
    start([g] {
      ++launches();
      multiply(g);
    });
    return true;
  }
};

/// Bytes of page-locked host memory that tensors hold: ordinary memory, counted.
inline std::atomic<std::int64_t>& pinned_bytes() {
  static std::atomic<std::int64_t> bytes{0};
  return bytes;
}

/// Makes the emulated GPU known as cuda:0 and, for what runs on several, as cuda:1 (emulation.cpp).
void register_device();

}  // namespace emulation

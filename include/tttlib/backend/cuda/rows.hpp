#pragma once
/// Rows of contiguous numbers, one for a block, or one for a warp whose lanes keep it in registers: read once, and no barriers.

#include <algorithm>

#include "tttlib/backend/cuda/block.hpp"

namespace ttt::cuda_backend {

/// Threads for rows of n numbers.
inline int row_threads(std::int64_t n) {
  int threads = 32;
  while (threads < block_threads && threads < n) threads *= 2;
  return threads;
}
/// Runs a row program: as many blocks as rows, or as fit into a grid.
template <class L, class T, class Program>
void for_rows(const L& run, std::int64_t rows, std::int64_t n, const Program& program) {
  const int threads = row_threads(n);
  if (rows > 0) run.blocks(std::min<std::int64_t>(rows, 65535), threads, shared_size<T>(threads), program);
}

/// What a lane keeps of its warp's row: pack p has the numbers from (p·32 + lane)·N on, if the row is as long.
template <class T, int N, int P>
struct RowOfWarp {
  Pack<T, N> packs[P];
  template <class F>
  TTT_DEVICE static void each_pack(int t, int n, const F& f) {
    unrolled<P>([&](int p) {
      const int column = (p * warp_size + t % warp_size) * N;
      if (column < n) f(p, column);
    });
  }
  /// f(number, its place in the pack, pack, first column of the pack)
  template <class F>
  TTT_DEVICE void each(int t, int n, const F& f) {
    each_pack(t, n, [&](int p, int column) { unrolled<N>([&](int j) { f(packs[p][j], j, p, column); }); });
  }
  TTT_DEVICE void read(int t, int n, const T* row) {
    each_pack(t, n, [&](int p, int column) { packs[p] = load_pack<N>(row + column); });
  }
  TTT_DEVICE void write(int t, int n, T* row) const {
    each_pack(t, n, [&](int p, int column) { store_pack(row + column, packs[p]); });
  }
  TTT_DEVICE void set(T value) {
    unrolled<P>([&](int p) { packs[p] = same_pack<N>(value); });
  }
};
inline constexpr int warps_of_block = block_threads / warp_size;

/// Calls f(N, P) as constants with the packs that fit rows of n numbers at these addresses; false if a warp cannot keep such a row.
template <class T, class F, class... Data>
bool with_row_of_warp(std::int64_t n, const F& f, const Data*... data) {
  const auto with_packs = [&]<int N>(std::integral_constant<int, N> size) {
    const std::int64_t packs = (n + warp_size * N - 1) / (warp_size * N);
    if (packs > 8) return false;
    if (packs <= 1) f(size, std::integral_constant<int, 1>{});
    else if (packs <= 2) f(size, std::integral_constant<int, 2>{});
    else if (N > 1 && packs == 3) f(size, std::integral_constant<int, N == 1 ? 4 : 3>{});
    else if (packs <= 4) f(size, std::integral_constant<int, 4>{});
    else if (N > 1 && packs <= 6) f(size, std::integral_constant<int, N == 1 ? 8 : 6>{});
    else f(size, std::integral_constant<int, 8>{});
    return true;
  };
  constexpr int N = pack_size<T>;
  if (n % N == 0 && aligned<N>(data...)) return with_packs(std::integral_constant<int, N>{});
  return with_packs(std::integral_constant<int, 1>{});
}
/// Blocks for a warp for each row.
template <class L, class Program>
void for_rows_of_warps(const L& run, std::int64_t rows, const Program& program) {
  if (rows > 0) run.blocks(std::min<std::int64_t>((rows + warps_of_block - 1) / warps_of_block, 65535), block_threads, 0, program);
}

}  // namespace ttt::cuda_backend

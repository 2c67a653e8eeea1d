#pragma once
/// Products of bf16 numbers with float sums on tensor cores, for block programs: a warp multiplies A [16, 16] by B [16, 8]
/// and adds to C [16, 8]. Every lane has some numbers of each matrix, as PTX's mma.m16n8k16 wants them ("Matrix Fragments", PTX ISA):
/// with g = lane / 4 and p = 2·(lane % 4),
///   A: (g, p), (g + 8, p), (g, p + 8), (g + 8, p + 8)      B: (p, g), (p + 8, g)      C: (g, p), (g, p + 1), (g + 8, p), (g + 8, p + 1)
/// where an entry of A is a pair along its row and one of B a pair along its column. So two neighbouring C make one A.
/// Elsewhere than on a GPU the same sums are made of the same numbers, one by one.

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "tttlib/backend/cuda/tiles.hpp"
#include "tttlib/backend/cuda/words.hpp"

namespace ttt::cuda_backend {

struct FragmentA {
  std::uint32_t pair[4];
};
struct FragmentB {
  std::uint32_t pair[2];
};
struct Accumulator {
  float at[4];
};

/// Where a lane's numbers are.
struct Lane {
  int group, pair;  // g and p above
  TTT_DEVICE explicit Lane(int t) : group(t % warp_size / 4), pair(t % 4 * 2) {}
};

struct TwoFloats {
  float first, second;
};
TTT_DEVICE inline TwoFloats unpack(std::uint32_t pair) {
  return {__builtin_bit_cast(float, pair << 16), __builtin_bit_cast(float, pair & 0xffff0000U)};
}

/// A [16, 16] of two neighbouring C [16, 8].
TTT_DEVICE inline FragmentA as_a(const Accumulator& left, const Accumulator& right) {
  return {{pair_of(left.at[0], left.at[1]), pair_of(left.at[2], left.at[3]), pair_of(right.at[0], right.at[1]), pair_of(right.at[2], right.at[3])}};
}

/// c += a·b in every warp; c(t), a(t), b(t) are those of thread t.
template <class C, class A, class B>
TTT_DEVICE void multiply_add([[maybe_unused]] const Block& block, const C& c, const A& a, const B& b) {
#if defined(__CUDACC__)
  const int t = static_cast<int>(threadIdx.x);
  Accumulator& sum = c(t);
  const FragmentA& left = a(t);
  const FragmentB& right = b(t);
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sum.at[0]), "+f"(sum.at[1]), "+f"(sum.at[2]), "+f"(sum.at[3])
               : "r"(left.pair[0]), "r"(left.pair[1]), "r"(left.pair[2]), "r"(left.pair[3]), "r"(right.pair[0]), "r"(right.pair[1]));
#else
  for (int first = 0; first < block.threads(); first += warp_size) {
    float left[16][16], right[16][8];
    for (int t = first; t < first + warp_size; ++t) {
      const Lane lane(t);
      for (int i = 0; i < 4; ++i) {
        const TwoFloats x = unpack(a(t).pair[i]);
        float* row = left[lane.group + i % 2 * 8] + lane.pair + i / 2 * 8;
        row[0] = x.first, row[1] = x.second;
      }
      for (int i = 0; i < 2; ++i) {
        const TwoFloats x = unpack(b(t).pair[i]);
        right[lane.pair + 8 * i][lane.group] = x.first, right[lane.pair + 8 * i + 1][lane.group] = x.second;
      }
    }
    for (int t = first; t < first + warp_size; ++t) {
      const Lane lane(t);
      for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 16; ++k) c(t).at[i] += left[lane.group + i / 2 * 8][k] * right[k][lane.pair + i % 2];
    }
  }
#endif
}

/// A matrix of bf16 in shared memory, as pairs along its rows: rows are `row` pairs apart. Conflicts of banks are least where that
/// is 4 more than a multiple of 8, and rows begin at 16 bytes, as `load_turned` needs.
struct PairTile {
  std::uint32_t* data;
  int row;
  TTT_DEVICE std::uint32_t& operator()(int i, int column_pair) const { return data[i * row + column_pair]; }
};

/// Two neighbouring B [16, 8] = columns [column, column + 32) of rows [first, first + 8), turned: what x·yᵀ wants of rows y; of all
/// warps the same. b(t) are two of thread t.
template <class Out>
TTT_DEVICE void load_rows([[maybe_unused]] const Block& block, const PairTile& x, int first, int column, const Out& b) {
#if defined(__CUDACC__)
  const int t = static_cast<int>(threadIdx.x), lane = t % warp_size;
  FragmentB* to = b(t);
  const std::uint32_t address = static_cast<std::uint32_t>(__cvta_generic_to_shared(&x(first + lane % 8, column / 2 + lane / 8 * 4)));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0].pair[0]), "=r"(to[0].pair[1]), "=r"(to[1].pair[0]), "=r"(to[1].pair[1])
               : "r"(address));
#else
  for (int t = 0; t < block.threads(); ++t) {
    const Lane lane(t);
    for (int next = 0; next < 2; ++next)
      for (int i = 0; i < 2; ++i) b(t)[next].pair[i] = x(first + lane.group, (column + 16 * next + 8 * i + lane.pair) / 2);
  }
#endif
}

/// Two neighbouring B [16, 8] = rows [first, first + 16) of columns [column, column + 16), as they lie: what x·y wants of y;
/// of all warps the same. b(t) are two of thread t.
template <class Out>
TTT_DEVICE void load_turned([[maybe_unused]] const Block& block, const PairTile& x, int first, int column, const Out& b) {
#if defined(__CUDACC__)
  const int t = static_cast<int>(threadIdx.x), lane = t % warp_size;
  FragmentB* to = b(t);
  const std::uint32_t address = static_cast<std::uint32_t>(__cvta_generic_to_shared(&x(first + lane % 16, column / 2 + lane / 16 * 4)));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0].pair[0]), "=r"(to[0].pair[1]), "=r"(to[1].pair[0]), "=r"(to[1].pair[1])
               : "r"(address));
#else
  const auto number = [&](int row, int j) { return x(row, j / 2) >> (j % 2 * 16) & 0xffffU; };
  for (int t = 0; t < block.threads(); ++t) {
    const Lane lane(t);
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 2; ++i) {
        const int row = first + lane.pair + 8 * i, j = column + 8 * half + lane.group;
        b(t)[half].pair[i] = number(row, j) | number(row + 1, j) << 16;
      }
  }
#endif
}

/// Two neighbouring numbers, from and to memory.
template <class S>
TTT_DEVICE TwoFloats load_two(const S* at) {
  if constexpr (std::is_same_v<S, bf16>) {
    return unpack(load_words<1>(at)[0]);
  } else {
    const Words<2> x = load_words<2>(at);
    return {__builtin_bit_cast(float, x[0]), __builtin_bit_cast(float, x[1])};
  }
}
template <class S>
TTT_DEVICE void store_two(S* at, float first, float second) {
  if constexpr (std::is_same_v<S, bf16>) store_words(Words<1>{{pair_of(first, second)}}, at);
  else store_words(Words<2>{{__builtin_bit_cast(std::uint32_t, first), __builtin_bit_cast(std::uint32_t, second)}}, at);
}

/// The tokens of one head of one image from a channel on.
template <class S>
struct HeadTokens {
  S* data;
  int step;
  TTT_DEVICE HeadTokens(const Tokens<S>& x, std::int64_t b, std::int64_t h, int channel = 0)
      : data(x.data + b * x.step_image + h * x.step_head + channel), step(static_cast<int>(x.step_token)) {}
  TTT_DEVICE S* at(int token) const { return data + token * step; }
};

/// Tokens [first, first + rows) -> to [rows, D] as bf16; from token `end` on zeros. Four loads of 16 bytes in flight.
template <int D, class S>
TTT_DEVICE void load_pairs(const Block& block, const HeadTokens<const S>& x, int first, int end, int rows, const PairTile& to, int t) {
  constexpr int numbers = 16 / sizeof(S), across = D / numbers, ahead = 4;
  const int items = rows * across;
  for (int begin = t; begin < items; begin += ahead * block.threads()) {
    Words<4> read[ahead];
    TTT_UNROLL
    for (int i = 0; i < ahead; ++i) {
      const int item = begin + i * block.threads(), token = first + item / across;
      read[i] = item < items && token < end ? load_words<4>(x.at(token) + item % across * numbers) : Words<4>{};
    }
    TTT_UNROLL
    for (int i = 0; i < ahead; ++i) {
      const int item = begin + i * block.threads();
      if (item >= items) break;
      std::uint32_t* pairs = &to(item / across, item % across * numbers / 2);
      if constexpr (std::is_same_v<S, bf16>) {
        store_words(read[i], pairs);
      } else {
        const auto number = [&](int j) { return __builtin_bit_cast(float, read[i][j]); };
        store_words(Words<2>{{pair_of(number(0), number(1)), pair_of(number(2), number(3))}}, pairs);
      }
    }
  }
}

/// Whether kernels on tensor cores can walk over these n tokens of heads of width d: their offsets are of 32 bits.
template <class S>
bool fits_tensor_cores(std::int64_t d, std::int64_t n, std::initializer_list<Tokens<S>> all) {
  constexpr std::int64_t numbers = 16 / static_cast<std::int64_t>(sizeof(S));
  if (d != 32 && d != 64) return false;
  for (const Tokens<S>& x : all)
    if (x.step_channel != 1 || x.step_token % numbers != 0 || n * x.step_token > 0x7fffffff || x.step_head % numbers != 0 || x.step_image % numbers != 0 ||
        reinterpret_cast<std::uintptr_t>(x.data) % 16 != 0)
      return false;
  return true;
}
/// Calls f(width) with the width of such heads as a constant.
template <class F>
void with_core_width(std::int64_t d, const F& f) {
  if (d == 32) f(std::integral_constant<int, 32>{});
  else f(std::integral_constant<int, 64>{});
}

}  // namespace ttt::cuda_backend

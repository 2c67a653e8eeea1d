#pragma once
/// What both directions of the GLU heads on tensor cores are made of (ttt_glu_cores.hpp, ttt_glu_pull_cores.hpp): how a launch is cut into
/// blocks, and a warp's products of 16 channels with tokens, in registers.
/// Legend as in ttt_glu.hpp; S: type of tokens in memory.

#include <algorithm>

#include "tttlib/backend/cuda/reduce.hpp"
#include "tttlib/backend/cuda/tensor_cores.hpp"
#include "tttlib/backend/cuda/ttt_glu.hpp"

namespace ttt::cuda_backend {

/// What a launch does of a direction: all of it, or what comes before and after a sum over all tokens.
enum class CoreStage { whole, before_sum, after_sum };

/// What both directions know of a head: tokens come in chunks that fit into shared memory, and are worked on by 16.
struct CoreSizes {
  std::int64_t B, H;
  int N, chunk;
  std::int64_t parts;  // of the tokens, one to a block
  int length;          // tokens of a part
  float c, rate;
  CoreStage stage = CoreStage::whole;

  CoreSizes(const Shape& q, const TttStep& step, int most)
      : B(q[0]), H(q[1]), N(static_cast<int>(q[2])), c(static_cast<float>(step.loss_scale / static_cast<double>(q[2]))),
        rate(static_cast<float>(step.rate)) {
    constexpr std::int64_t enough = 264;  // blocks: two for every processor of a large GPU
    const int pieces = std::max((N + most - 1) / most, 1);
    chunk = std::max(((N + pieces - 1) / pieces + 15) / 16 * 16, 16);
    parts = std::clamp<std::int64_t>(enough / std::max<std::int64_t>(B * H, 1), 1, pieces);
    length = static_cast<int>((pieces + parts - 1) / parts) * chunk;
    parts = std::max((N + length - 1) / length, 1);
  }
  std::int64_t blocks() const { return B * parts * H; }
  CoreSizes at(CoreStage now) const {
    CoreSizes s = *this;
    s.stage = now;
    return s;
  }
  TTT_DEVICE int rows(int first, int end) const { return end - first < chunk ? (end - first + 15) / 16 * 16 : chunk; }
};

/// A block's image and head, and its tokens [begin, end).
struct CorePlace {
  std::int64_t b, h;
  int part, begin, end;
  TTT_DEVICE CorePlace(const Block& block, const CoreSizes& s)
      : b(block.index() / s.H / s.parts), h(block.index() % s.H), part(static_cast<int>(block.index() / s.H % s.parts)), begin(part * s.length),
        end(begin + s.length < s.N ? begin + s.length : s.N) {}
  /// Where the d × 2d numbers of this image and head are.
  TTT_DEVICE std::int64_t matrix(const CoreSizes& s, int d) const { return (b * s.H + h) * 2 * d * d; }
};

/// A warp's 16 channels, neighbours in pairs: a lane has channels `channel` (its rows g of A and C) and `channel` + 1 (its rows g + 8).
struct CoreLane : Lane {
  int channel;
  TTT_DEVICE explicit CoreLane(int t) : Lane(t), channel(t / warp_size * 16 + 2 * group) {}
};

/// A [2d channels of a warp, d] and its sums: two matrices side by side.
template <int D>
struct CoreColumns {
  Accumulator of[2][D / 8];
};
template <int D>
struct CoreOperand {
  FragmentA of[2][D / 16];
};

/// f(m, tile, i, row, c, half) for every number that a lane has of a [2, d rows, channels] in C's layout: of matrix m at `row` and `channel` + half.
template <int D, class F>
TTT_DEVICE void each_of_columns(const CoreLane& lane, const F& f) {
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) {
    TTT_UNROLL
    for (int tile = 0; tile < D / 8; ++tile) {
      TTT_UNROLL
      for (int i = 0; i < 4; ++i) f(m, tile, i, 8 * tile + lane.pair + i % 2, i / 2);
    }
  }
}

/// A lane's columns of a matrix [d, 2d] in memory.
template <int D>
TTT_DEVICE void load_columns(const float* x, const CoreLane& lane, CoreColumns<D>& to) {
  each_of_columns<D>(lane, [&](int m, int tile, int i, int row, int half) { to.of[m][tile].at[i] = x[row * 2 * D + m * D + lane.channel + half]; });
}
template <int D>
TTT_DEVICE void store_columns(const CoreColumns<D>& x, float* to, const CoreLane& lane) {
  each_of_columns<D>(lane, [&](int m, int tile, int i, int row, int half) {
    if (half == 0) store_two(to + row * 2 * D + m * D + lane.channel, x.of[m][tile].at[i], x.of[m][tile].at[i + 2]);
  });
}

/// Both products of 16 tokens with a warp's channels: z[m] [channels, tokens] = w[m]ᵀ·xᵀ.
template <int D>
struct CoreTokens {
  FragmentB b[2][D / 16];  // of 8 tokens each
  TTT_DEVICE void load(const PairTile& x, int first, const Lane& lane) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) {
      TTT_UNROLL
      for (int k = 0; k < D / 16; ++k) b[half][k] = load_b(x, first + 8 * half, 16 * k, lane);
    }
  }
};
struct CoreProducts {
  Accumulator of[2][2];  // matrix, 8 tokens
  TTT_DEVICE void clear() { *this = CoreProducts{}; }
};
template <int D, class Z, class W, class X>
TTT_DEVICE void multiply_tokens(const Block& block, const Z& z, const W& w, const X& x) {
  TTT_UNROLL
  for (int k = 0; k < D / 16; ++k) {
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int half = 0; half < 2; ++half)
        multiply_add(
            block, [&](int t) -> Accumulator& { return z(t).of[m][half]; }, [&](int t) -> const FragmentA& { return w(t).of[m][k]; },
            [&](int t) -> const FragmentB& { return x(t).b[half][k]; });
    }
  }
}
/// sum[m] [channels, d] += terms[m] [channels, 16 tokens]·x [16 tokens, d], rows [first, first + 16) of a tile.
template <int D, class Sum, class Terms, class Turned>
TTT_DEVICE void add_outer(const Block& block, const Sum& sum, const Terms& terms, const PairTile& x, int first, const Turned& turned) {
  TTT_UNROLL
  for (int tile = 0; tile < D / 8; tile += 2) {
    load_turned(block, x, first, 8 * tile, turned);
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int next = 0; next < 2; ++next)
        multiply_add(
            block, [&](int t) -> Accumulator& { return sum(t).of[m][tile + next]; }, [&](int t) -> const FragmentA& { return terms(t)[m]; },
            [&](int t) -> const FragmentB& { return turned(t)[next]; });
    }
  }
}
/// A lane's numbers of 16 tokens in C's layout: [8 tokens][four], zero from token `end` on.
struct CoreValues {
  float of[2][4];
  template <class S>
  TTT_DEVICE void load(const S* channel, std::int64_t step, int first, int end, const Lane& lane) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) {
      TTT_UNROLL
      for (int next = 0; next < 2; ++next) {
        const int token = first + 8 * half + lane.pair + next;
        const TwoFloats x = token < end ? load_two(channel + token * step) : TwoFloats{0, 0};
        of[half][next] = x.first, of[half][2 + next] = x.second;
      }
    }
  }
};
/// Numbers of C's layout -> 8 tokens from `first` of a lane's two channels.
template <class S>
TTT_DEVICE void store_values(const Accumulator& x, S* channel, std::int64_t step, int first, int end, const Lane& lane) {
  TTT_UNROLL
  for (int next = 0; next < 2; ++next) {
    const int token = first + lane.pair + next;
    if (token < end) store_two(channel + token * step, x.at[next], x.at[2 + next]);
  }
}

/// The norms of a lane's channels in both matrices, or sums over products with another: f(m, tile, i) added over the rows.
struct CoreSums {
  float of[2][2];  // matrix, channel
};
template <int D, class Of, class F>
TTT_DEVICE void sum_columns(Block& block, const Of& of, const F& f) {
  block.each_lane([&](int t) {
    CoreSums& total = of(t);
    total = CoreSums{};
    each_of_columns<D>(CoreLane(t), [&](int m, int tile, int i, int row, int half) { total.of[m][half] += f(t, m, tile, i, row, half); });
  });
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) warp_reduce<reduction::Sum, 4>(block, [&](int t) -> float& { return of(t).of[m][half]; });
  }
}

/// norm(t): of the columns `of`(t) of thread t.
template <int D, class Norm, class Columns>
TTT_DEVICE void column_norms(Block& block, const Norm& norm, const Columns& of) {
  sum_columns<D>(block, norm, [&](int t, int m, int tile, int i, int, int) { return of(t).of[m][tile].at[i] * of(t).of[m][tile].at[i]; });
  block.each_lane([&](int t) {
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int half = 0; half < 2; ++half) norm(t).of[m][half] = std::sqrt(norm(t).of[m][half]);
    }
  });
}

/// w1 and w2 of one head.
struct CoreWeights {
  const float* of[2];
  std::int64_t row[2], column[2];
  TTT_DEVICE CoreWeights(const GluWeights<float>& w, std::int64_t h)
      : of{w.w1 + h * w.steps1[0], w.w2 + h * w.steps2[0]}, row{w.steps1[1], w.steps2[1]}, column{w.steps1[2], w.steps2[2]} {}
  TTT_DEVICE float at(int m, int i, int j) const { return of[m][i * row[m] + j * column[m]]; }
  /// The operand wᵀ of a lane.
  template <int D>
  TTT_DEVICE void load(const CoreLane& lane, CoreOperand<D>& to) const {
    CoreColumns<D> w;
    each_of_columns<D>(lane, [&](int m, int tile, int i, int r, int half) { w.of[m][tile].at[i] = at(m, r, lane.channel + half); });
    as_operand<D>(w, to);
  }
  template <int D>
  TTT_DEVICE static void as_operand(const CoreColumns<D>& w, CoreOperand<D>& to) {
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int k = 0; k < D / 16; ++k) to.of[m][k] = as_a(w.of[m][2 * k], w.of[m][2 * k + 1]);
    }
  }
};

/// (P, R) of 16 tokens in place of z, and as the operand of their outer product; of an inner gradient or an answer.
TTT_DEVICE inline formula::SiluJet<float> rough_silu(float x) { return {x, math::rough_sigmoid(x)}; }
TTT_DEVICE inline void turn_into_terms(CoreProducts& z, const CoreValues& e, float factor, FragmentA* terms) {
  TTT_UNROLL
  for (int half = 0; half < 2; ++half) {
    TTT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const formula::GluTerms<float> both(z.of[0][half].at[i], rough_silu(z.of[1][half].at[i]), factor * e.of[half][i]);
      z.of[0][half].at[i] = both.P;
      z.of[1][half].at[i] = both.R;
    }
  }
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) terms[m] = as_a(z.of[m][0], z.of[m][1]);
}

}  // namespace ttt::cuda_backend

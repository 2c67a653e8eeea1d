#pragma once
/// What both directions of the GLU heads on tensor cores are made of (ttt_glu_cores.hpp, ttt_glu_pull_cores.hpp): how a launch is cut into
/// blocks, and a warp's products of 16 channels with tokens, in registers.
/// Legend as in ttt_glu.hpp; S: type of tokens in memory.

#include <algorithm>

#include "tttlib/backend/cuda/elementwise.hpp"
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
      : B(q[0]), H(q[1]), N(static_cast<int>(q[2])), c(static_cast<float>(step.c(q[2]))),
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

/// f(m, tile, next, row) for the rows that a lane has of its columns of matrix m: its two numbers there are at[next] and at[next + 2] of `tile`.
template <int D, class F>
TTT_DEVICE void each_row_of_columns(const Lane& lane, const F& f) {
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) {
    TTT_UNROLL
    for (int tile = 0; tile < D / 8; ++tile) {
      TTT_UNROLL
      for (int next = 0; next < 2; ++next) f(m, tile, next, 8 * tile + lane.pair + next);
    }
  }
}
/// A lane's columns of a matrix [d, 2d] in memory.
template <int D>
TTT_DEVICE void load_columns(const float* x, const CoreLane& lane, CoreColumns<D>& to) {
  each_row_of_columns<D>(lane, [&](int m, int tile, int next, int row) {
    const TwoFloats two = load_two(x + row * 2 * D + m * D + lane.channel);
    to.of[m][tile].at[next] = two.first, to.of[m][tile].at[next + 2] = two.second;
  });
}
template <int D>
TTT_DEVICE void store_columns(const CoreColumns<D>& x, float* to, const CoreLane& lane) {
  each_row_of_columns<D>(lane, [&](int m, int tile, int next, int row) {
    store_two(to + row * 2 * D + m * D + lane.channel, x.of[m][tile].at[next], x.of[m][tile].at[next + 2]);
  });
}
template <int D>
TTT_DEVICE void as_operand(const CoreColumns<D>& w, CoreOperand<D>& to) {
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) {
    TTT_UNROLL
    for (int k = 0; k < D / 16; ++k) to.of[m][k] = as_a(w.of[m][2 * k], w.of[m][2 * k + 1]);
  }
}

/// Both products of 16 tokens with a warp's channels: z[m] [channels, tokens] = w[m]ᵀ·xᵀ.
template <int D>
struct CoreTokens {
  FragmentB b[2][D / 16];  // of 8 tokens each
};
template <int D, class X>
TTT_DEVICE void load_16_tokens(const Block& block, const X& x, const PairTile& from, int first) {
  TTT_UNROLL
  for (int half = 0; half < 2; ++half) {
    TTT_UNROLL
    for (int k = 0; k < D / 16; k += 2) load_rows(block, from, first + 8 * half, 16 * k, [&](int t) { return &x(t).b[half][k]; });
  }
}
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
  TTT_DEVICE void load(const HeadTokens<const S>& x, int first, int end, const Lane& lane) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) {
      TTT_UNROLL
      for (int next = 0; next < 2; ++next) {
        const int token = first + 8 * half + lane.pair + next;
        const TwoFloats two = token < end ? load_two(x.at(token)) : TwoFloats{0, 0};
        of[half][next] = two.first, of[half][2 + next] = two.second;
      }
    }
  }
};
/// Numbers of C's layout -> 8 tokens from `first` of a lane's two channels.
template <class S>
TTT_DEVICE void store_values(const Accumulator& x, const HeadTokens<S>& to, int first, int end, const Lane& lane) {
  TTT_UNROLL
  for (int next = 0; next < 2; ++next) {
    const int token = first + lane.pair + next;
    if (token < end) store_two(to.at(token), x.at[next], x.at[2 + next]);
  }
}

/// A number for each of a lane's columns.
struct CoreSums {
  float of[2][2];  // matrix, channel
};
/// total(t) = the sums over the rows of a(t) ⊙ b(t): columns of thread t.
template <int D, class Total, class A, class B>
TTT_DEVICE void sum_columns(Block& block, const Total& total, const A& a, const B& b) {
  block.each_lane([&](int t) {
    total(t) = CoreSums{};
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      TTT_UNROLL
      for (int tile = 0; tile < D / 8; ++tile) {
        TTT_UNROLL
        for (int i = 0; i < 4; ++i) total(t).of[m][i / 2] += a(t).of[m][tile].at[i] * b(t).of[m][tile].at[i];
      }
    }
  });
  TTT_UNROLL
  for (int m = 0; m < 2; ++m) {
    TTT_UNROLL
    for (int half = 0; half < 2; ++half) warp_reduce<reduction::Sum, 4>(block, [&](int t) -> float& { return total(t).of[m][half]; });
  }
}

/// w1 and w2 [d, d] of one head, rows side by side.
template <int D>
struct CoreWeights {
  const float* of[2];
  TTT_DEVICE CoreWeights(const float* w1, const float* w2, std::int64_t h) : of{w1 + h * D * D, w2 + h * D * D} {}
  TTT_DEVICE TwoFloats at(int m, int row, const CoreLane& lane) const { return load_two(of[m] + row * D + lane.channel); }
  TTT_DEVICE void load(const CoreLane& lane, CoreColumns<D>& to) const {
    each_row_of_columns<D>(lane, [&](int m, int tile, int next, int row) {
      const TwoFloats w = at(m, row, lane);
      to.of[m][tile].at[next] = w.first, to.of[m][tile].at[next + 2] = w.second;
    });
  }
  /// w* = w − η·clip(g) in the place of g, whose squares add up to `squares` by column.
  TTT_DEVICE void step(const CoreLane& lane, const CoreSums& squares, float rate, CoreColumns<D>& g) const {
    TTT_UNROLL
    for (int m = 0; m < 2; ++m) {
      const formula::ClippedStep<float> first(std::sqrt(squares.of[m][0]), rate), second(std::sqrt(squares.of[m][1]), rate);
      TTT_UNROLL
      for (int tile = 0; tile < D / 8; ++tile) {
        TTT_UNROLL
        for (int next = 0; next < 2; ++next) {
          const TwoFloats w = at(m, 8 * tile + lane.pair + next, lane);
          float &x = g.of[m][tile].at[next], &y = g.of[m][tile].at[next + 2];
          x = first(w.first, x), y = second(w.second, y);
        }
      }
    }
  }
};
/// w1 and w2 [H, d, d] with rows side by side: themselves, or copies.
template <class L>
class PlainWeights {
 public:
  PlainWeights(const L& run, const View<const float>& w1, const View<const float>& w2) : first_(run, w1), second_(run, w2) {}
  const float* w1() const { return first_.data; }
  const float* w2() const { return second_.data; }

 private:
  struct Plain {
    Scratch<L, float> scratch;
    const float* data;
    Plain(const L& run, const View<const float>& w) : scratch(run, fits(w) ? 0 : w.numel()), data(w.data) {
      if (!scratch.data()) return;
      copy<L, float>(w, View<float>{scratch.data(), w.shape, contiguous_strides(w.shape), w.device});
      data = scratch.data();
    }
    /// Pairs of neighbours are read at once.
    static bool fits(const View<const float>& w) {
      return w.strides == contiguous_strides(w.shape) && reinterpret_cast<std::uintptr_t>(w.data) % (2 * sizeof(float)) == 0;
    }
  };
  Plain first_, second_;
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

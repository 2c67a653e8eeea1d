#pragma once
/// The two kinds of heads of a ViT³ block, forward and backward through their inner step, one (image, head) at a time in
/// cache (paper §4; derivation in docs/derivation.md).
/// Legend: B images, H heads, N tokens, d head width, n tokens of a block; the symbols of that page's section 6: P, R, z, y, U, D, c and η as
/// there, q, k, v, o, w, g in small letters; w* trained weights, U and D outer gradients of w* and g, x̄ (x_bar, dx) that of any other x.
/// Multiply-accumulates per image and head: GLU 6·N·d² forward, 16·N·d² backward (4 of them to compute z and y again);
/// convolution 18·N·d and 36·N·d. Bytes: q, k, v and o once each, their cotangents once each, and 2d² numbers per image and head for g.

#include <utility>

#include "tttlib/backend/cpu/depthwise-inl.hpp"
#include "tttlib/backend/cpu/tokens-inl.hpp"
#include "tttlib/kernels/ttt_formulas.hpp"

namespace ttt::cpu_backend {
inline namespace TTTLIB_KERNELS {

/// What a thread works with: matrices whose rows are `width` numbers, d rounded up to whole registers. Zeros in the
/// columns behind d stay zeros through the whole step.
template <class T>
struct GluScratch {
  std::int64_t width;
  T *x, *y, *out, *both, *other, *four, *weights, *U, *g, *transposed;

  explicit GluScratch(std::int64_t d) : width(whole_lanes<T>(d)) {
    const std::int64_t tokens = token_block * width, square = width * width;
    T* at = packing_buffer<T, Packing::head>(11 * tokens + 10 * square);
    const auto take = [&](std::int64_t count) { return std::exchange(at, at + count); };
    x = take(tokens), y = take(tokens), out = take(tokens);       // [n, d] each: tokens that cannot stay where they are
    both = take(2 * tokens), other = take(2 * tokens);            // [n, 2d] each: z1 and z2, or their cotangents
    four = take(4 * tokens);                                      // [n, 4d]
    weights = take(2 * square), U = take(2 * square), g = take(2 * square);  // [d, 2d] each
    transposed = take(4 * square);                                // [4d, d] or [2d, d]
  }
};

/// w1 and w2 [H, d, d] of one head side by side: [d, 2d].
template <class T>
void load_weights(const View<const T>& w1, const View<const T>& w2, std::int64_t h, std::int64_t width, T* to) {
  const std::int64_t d = w1.shape[1];
  std::fill(to, to + 2 * width * width, T(0));
  for (const View<const T>* w : {&w1, &w2}) {
    for (std::int64_t r = 0; r < d; ++r)
      for (std::int64_t c = 0; c < d; ++c) to[r * 2 * width + c] = w->data[h * w->strides[0] + r * w->strides[1] + c * w->strides[2]];
    to += width;
  }
}
/// The first d rows of m [width, 2·width], without the columns behind d of either half, to and from [d, 2d].
template <class T>
void store_halves(const T* m, std::int64_t width, std::int64_t d, T* to) {
  for (std::int64_t r = 0; r < 2 * d; ++r) std::copy_n(m + r * width, d, to + r * d);
}
template <class T>
void load_halves(const T* from, std::int64_t width, std::int64_t d, T* m) {
  std::fill(m, m + 2 * width * width, T(0));
  for (std::int64_t r = 0; r < 2 * d; ++r) std::copy_n(from + r * d, d, m + r * width);
}

/// The halves of m [d, 2d], each transposed, below each other: [2d, d].
template <class T>
void transpose_halves(const T* m, std::int64_t width, T* to) {
  for (std::int64_t half = 0; half < 2; ++half)
    pack_panel(columns_of(m + half * width, width, width, 2 * width), 0, width, width, to + half * width * width);
}

/// Norms of the columns of g [rows, columns].
template <class T>
void column_norms(const T* __restrict g, std::int64_t rows, std::int64_t columns, T* __restrict norms) {
  std::fill(norms, norms + columns, T(0));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) norms[c] += g[r * columns + c] * g[r * columns + c];
  for (std::int64_t c = 0; c < columns; ++c) norms[c] = std::sqrt(norms[c]);
}

/// w becomes w* = w − η g/(‖g‖ + 1) by columns: the clipped inner step. g and w [rows, columns].
template <class T>
void clipped_step(const T* __restrict g, std::int64_t rows, std::int64_t columns, T rate, T* __restrict w) {
  std::vector<T> norms(static_cast<std::size_t>(columns));
  column_norms(g, rows, columns, norms.data());
  std::vector<formula::ClippedStep<T>> steps;
  steps.reserve(norms.size());
  for (const T norm : norms) steps.emplace_back(norm, rate);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      w[r * columns + c] = steps[static_cast<std::size_t>(c)](w[r * columns + c], g[r * columns + c]);
}

/// U becomes D by columns: the outer gradient of g from that of w*. Both, and g, [rows, columns].
template <class T>
void clipped_step_pull(const T* __restrict g, std::int64_t rows, std::int64_t columns, T rate, T* __restrict U) {
  std::vector<T> norms(static_cast<std::size_t>(columns)), along(static_cast<std::size_t>(columns), T(0));
  column_norms(g, rows, columns, norms.data());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) along[static_cast<std::size_t>(c)] += g[r * columns + c] * U[r * columns + c];
  std::vector<formula::ClippedStepPull<T>> pulls;
  pulls.reserve(norms.size());
  for (std::size_t c = 0; c < norms.size(); ++c) pulls.emplace_back(norms[c], along[c], rate);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      U[r * columns + c] = pulls[static_cast<std::size_t>(c)](U[r * columns + c], g[r * columns + c]);
}

/// z [n, 2d] = (z1, z2) → (P, R) = (e ⊙ S(z2), e ⊙ z1 ⊙ S'(z2)) with e = scale·x: for the inner gradient x = v and −c; for
/// the way back of the answer, y → (ȳ1, ȳ2), x = ō and 1.
template <class T>
void glu_terms(const Rows<const T>& tokens, T scale, std::int64_t n, std::int64_t width, T* __restrict z) {
  const T* __restrict x = tokens.data;
  for (std::int64_t i = 0; i < n; ++i, x += tokens.row, z += 2 * width)
    for (std::int64_t j = 0; j < width; ++j) {
      const formula::GluTerms<T> terms(z[j], z[width + j], scale * x[j]);
      z[j] = terms.P;
      z[width + j] = terms.R;
    }
}
/// y [n, 2d] = (y1, y2) → o = y1 ⊙ S(y2).
template <class T>
void glu_answer(const T* __restrict y, std::int64_t n, std::int64_t width, const Rows<T>& answer) {
  T* __restrict o = answer.data;
  for (std::int64_t i = 0; i < n; ++i, y += 2 * width, o += answer.row)
    for (std::int64_t j = 0; j < width; ++j) o[j] = formula::glu_answer(y[j], y[width + j]);
}
/// From z, v and the cotangents (P̄, R̄): all = (P, R, z̄1, z̄2) [n, 4d], and v̄ = −c·ē.
template <class T>
void glu_terms_pull(const T* __restrict z, const Rows<const T>& values, const T* __restrict pulled, std::int64_t n, std::int64_t width, T c,
                    const Rows<T>& values_bar, T* __restrict all) {
  const T* __restrict v = values.data;
  T* __restrict v_bar = values_bar.data;
  for (std::int64_t i = 0; i < n; ++i, z += 2 * width, pulled += 2 * width, v += values.row, v_bar += values_bar.row, all += 4 * width)
    for (std::int64_t j = 0; j < width; ++j) {
      const formula::GluTermsPull<T> pull(z[j], z[width + j], -c * v[j], pulled[j], pulled[width + j]);
      all[j] = pull.P;
      all[width + j] = pull.R;
      all[2 * width + j] = pull.z1_bar;
      all[3 * width + j] = pull.z2_bar;
      v_bar[j] = -c * pull.e_bar;
    }
}

/// g = kᵀ (P, R) [d, 2d], the inner gradient of one image and head. Expects w1 and w2 in s.weights; asks for q, which comes next.
template <class T>
void glu_inner_gradient(const GluOperands<const T>& x, std::int64_t b, std::int64_t h, T c, const GluScratch<T>& s, T* g) {
  const std::int64_t N = x.k.shape[2], d = s.width;
  std::fill(g, g + 2 * d * d, T(0));
  for (std::int64_t first = 0; first < N; first += token_block) {
    const std::int64_t n = std::min(token_block, N - first), next = first + n;
    const MatrixRef<const T> keys = token_matrix(read_tokens(x.k, b, h, first, n, d, s.x), n, d);
    product_in_cache<false, T>(keys, s.weights, 2 * d, s.both, 2 * d, tokens_ahead(x.v, b, h, first));  // z [n, 2d] = k (w1, w2)
    glu_terms(read_tokens(x.v, b, h, first, n, d, s.y), -c, n, d, s.both);                       // P, R [n, 2d]
    product_in_cache<true, T>(keys.transposed(), s.both, 2 * d, g, 2 * d,
                              next < N ? tokens_ahead(x.k, b, h, next) : tokens_ahead(x.q, b, h, 0));  // g [d, 2d] += kᵀ (P, R)
  }
}

/// o = (q w1*) ⊙ S(q w2*) with w* = w − η·clip(g): o [B, H, N, d]. Keeps g of every image and head in `kept` [B, H, d, 2d] unless that
/// is null.
template <class T>
void ttt_glu(const GluOperands<const T>& x, const TttStep& step, T* kept, View<T> o) {
  const std::int64_t B = x.q.shape[0], H = x.q.shape[1], N = x.q.shape[2];
  const T c = static_cast<T>(step.c(N)), rate = static_cast<T>(step.rate);
  const auto keys_of_task = [&](std::int64_t task) { return task < B * H ? tokens_ahead(x.k, task / H, task % H, 0) : Ahead<T>{}; };
  parallel_for(B * H, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t b = task / H, h = task % H;
    const GluScratch<T> s(x.q.shape[3]);
    const std::int64_t d = s.width;
    load_weights(x.w1, x.w2, h, d, s.weights);
    glu_inner_gradient(x, b, h, c, s, s.g);
    if (kept) store_halves(s.g, d, x.q.shape[3], kept + task * 2 * x.q.shape[3] * x.q.shape[3]);
    clipped_step(s.g, d, 2 * d, rate, s.weights);                                                // w* [d, 2d]
    for (std::int64_t first = 0; first < N; first += token_block) {
      const std::int64_t n = std::min(token_block, N - first), next = first + n;
      const MatrixRef<const T> queries = token_matrix(read_tokens(x.q, b, h, first, n, d, s.x), n, d);
      product_in_cache<false, T>(queries, s.weights, 2 * d, s.both, 2 * d,
                                 next < N ? tokens_ahead(x.q, b, h, next) : keys_of_task(task + 1));  // y [n, 2d] = q (w1*, w2*)
      write_tokens(o, b, h, first, n, d, s.out, [&](const Rows<T>& to) { glu_answer(s.both, n, d, to); });  // o [n, d]
    }
  });
}

/// One image and head of `ttt_glu_pull`: `kept` is its g; adds to w̄ in `dw` [d, 2d].
template <class T>
void glu_pull(const GluOperands<const T>& x, const TttStep& step, const T* kept, const View<const T>& o_bar, std::int64_t b, std::int64_t h,
              const GluOperands<T>& dx, T* dw) {
  const GluScratch<T> s(x.q.shape[3]);
  const std::int64_t N = x.q.shape[2], d = s.width;
  const T c = static_cast<T>(step.c(N)), rate = static_cast<T>(step.rate);
  const Ahead<T> next_queries = b + 1 < x.q.shape[0] ? tokens_ahead(x.q, b + 1, h, 0) : Ahead<T>{};
  load_weights(x.w1, x.w2, h, d, s.weights);
  load_halves(kept, d, x.q.shape[3], s.g);                                                       // g [d, 2d]
  clipped_step(s.g, d, 2 * d, rate, s.weights);                                                  // w* [d, 2d]
  transpose_halves(s.weights, d, s.transposed);                                                  // w1*ᵀ, w2*ᵀ [2d, d]
  T* const U = s.U;                                                                              // [d, 2d]
  std::fill(U, U + 2 * d * d, T(0));
  for (std::int64_t first = 0; first < N; first += token_block) {
    const std::int64_t n = std::min(token_block, N - first), next = first + n;
    const MatrixRef<const T> queries = token_matrix(read_tokens(x.q, b, h, first, n, d, s.x), n, d);
    product_in_cache<false, T>(queries, s.weights, 2 * d, s.both, 2 * d, tokens_ahead(o_bar, b, h, first));  // y [n, 2d]
    glu_terms(read_tokens(o_bar, b, h, first, n, d, s.y), T(1), n, d, s.both);                    // ȳ [n, 2d]
    product_in_cache<true, T>(queries.transposed(), s.both, 2 * d, U, 2 * d,
                              next < N ? tokens_ahead(x.q, b, h, next) : tokens_ahead(x.k, b, h, 0));  // U [d, 2d] += qᵀ ȳ
    write_tokens(dx.q, b, h, first, n, d, s.out, [&](const Rows<T>& to) {
      product_in_cache<false, T>(rows_of(s.both, n, 2 * d), s.transposed, d, to, d);              // q̄ [n, d] = ȳ (w1*, w2*)ᵀ
    });
  }
  for (std::int64_t i = 0; i < 2 * d * d; ++i) dw[i] += U[i];
  clipped_step_pull(s.g, d, 2 * d, rate, U);
  T* const D = U;                                                                                // U became D [d, 2d]
  load_weights(x.w1, x.w2, h, d, s.weights);
  transpose_halves(D, d, s.transposed);                                                          // D1ᵀ, D2ᵀ, w1ᵀ, w2ᵀ [4d, d]
  transpose_halves(s.weights, d, s.transposed + 2 * d * d);
  for (std::int64_t first = 0; first < N; first += token_block) {
    const std::int64_t n = std::min(token_block, N - first), next = first + n;
    const MatrixRef<const T> keys = token_matrix(read_tokens(x.k, b, h, first, n, d, s.x), n, d);
    const Rows<const T> values = read_tokens(x.v, b, h, first, n, d, s.y);
    product_in_cache<false, T>(keys, s.weights, 2 * d, s.both, 2 * d, tokens_ahead(x.v, b, h, first));  // z [n, 2d]
    product_in_cache<false, T>(keys, D, 2 * d, s.other, 2 * d);                                   // P̄, R̄ [n, 2d] = k (D1, D2)
    write_tokens(dx.v, b, h, first, n, d, s.out, [&](const Rows<T>& to) {
      glu_terms_pull(s.both, values, s.other, n, d, c, to, s.four);                              // P, R, z̄1, z̄2 [n, 4d]; v̄ [n, d]
    });
    product_in_cache<true, T>(keys.transposed(), s.four + 2 * d, 4 * d, dw, 2 * d,
                              next < N ? tokens_ahead(x.k, b, h, next) : next_queries);          // w̄ [d, 2d] += kᵀ z̄
    write_tokens(dx.k, b, h, first, n, d, s.out, [&](const Rows<T>& to) {
      product_in_cache<false, T>(rows_of(s.four, n, 4 * d), s.transposed, d, to, d);              // k̄ [n, d] = P D1ᵀ + R D2ᵀ + z̄ (w1, w2)ᵀ
    });
  }
}

/// Cotangents of all operands from that of o and from the g that `ttt_glu` kept.
template <class T>
void ttt_glu_pull(const GluOperands<const T>& x, const TttStep& step, const T* kept, View<const T> o_bar, const GluOperands<T>& dx) {
  const std::int64_t B = x.q.shape[0], H = x.q.shape[1], d = x.w1.shape[1], width = whole_lanes<T>(d), size = 2 * width * width;
  // Weights' gradients add up over a few images in each task, and over the tasks of a head at the end, always in this order.
  const std::int64_t images = B > 16 ? (B + 15) / 16 : 1, groups = B > 1 ? (B + images - 1) / images : 1;
  std::vector<T> partial(static_cast<std::size_t>(groups * H * size), T(0));  // [groups, H, d, 2d]
  parallel_for(groups * H, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t h = task % H, first = task / H * images;
    for (std::int64_t b = first; b < std::min(B, first + images); ++b)
      glu_pull(x, step, kept + (b * H + h) * 2 * d * d, o_bar, b, h, dx, partial.data() + task * size);
  });
  parallel_for(H, 1, [&](std::int64_t h, std::int64_t) {
    T* total = partial.data() + h * size;
    for (std::int64_t group = 1; group < groups; ++group)
      for (std::int64_t i = 0; i < size; ++i) total[i] += partial[static_cast<std::size_t>((group * H + h) * size + i)];
    for (std::int64_t r = 0; r < d; ++r)
      for (std::int64_t c = 0; c < d; ++c) {
        dx.w1.data[h * dx.w1.strides[0] + r * dx.w1.strides[1] + c * dx.w1.strides[2]] = total[r * 2 * width + c];
        dx.w2.data[h * dx.w2.strides[0] + r * dx.w2.strides[1] + c * dx.w2.strides[2]] = total[r * 2 * width + width + c];
      }
  });
}

/// Geometry of a 3×3 kernel on an h × w grid with zero padding.
struct Grid3x3 {
  Taps rows, columns, rows_back, columns_back;
  Grid3x3(std::int64_t height, std::int64_t width) {
    const ConvGeometry same{.padding = {1, 1}};
    rows = Taps::forward(height, height, 3, same, 0), columns = Taps::forward(width, width, 3, same, 1);
    rows_back = Taps::transposed(height, height, 3, same, 0), columns_back = Taps::transposed(width, width, 3, same, 1);
  }
};

/// y = conv(x, kernel), or with `back` conv(x, flip kernel), its transpose: x and y [h, w, d] of one image, kernel [9, d].
template <class T>
void conv_image(const T* x, const Strides& sx, const T* kernel, std::int64_t channels, const Grid3x3& grid, bool back, T* y, const Strides& sy) {
  const Taps &rows = back ? grid.rows_back : grid.rows, &columns = back ? grid.columns_back : grid.columns;
  for_lanes<T>(0, channels, [&](const auto access, std::int64_t c) {
    depthwise_3x3(x + c, sx, kernel + c, channels, rows, columns, 0, rows.targets(), access, y + c, sy);
  });
}
/// sums [9, d] = corr(x, y) of one image.
template <class T>
void correlate_image(const T* x, const Strides& sx, const T* y, const Strides& sy, std::int64_t channels, const Grid3x3& grid, T* sums) {
  for_lanes<T>(0, channels, [&](const auto access, std::int64_t c) {
    depthwise_correlate(x + c, sx, y + c, sy, grid.rows, grid.columns, 3, channels, access, sums + c);
  });
}

/// o = conv(q, w*) with w* = w − η·clip(g), g = corr(k, −c·v): o [B, h, w, d]; channels are neighbours in memory. Keeps g of every image
/// in `kept` [B, 9, d] unless that is null.
template <class T>
void ttt_dwconv(const DwconvOperands<const T>& x, const TttStep& step, T* kept, View<T> o) {
  const std::int64_t d = x.q.shape[3], size = 9 * d;
  const T c = static_cast<T>(step.c(x.q.shape[1] * x.q.shape[2])), rate = static_cast<T>(step.rate);
  const Grid3x3 grid(x.q.shape[1], x.q.shape[2]);
  const std::vector<T> start = pack_depthwise(x.w);  // [9, d]
  parallel_for(x.q.shape[0], 1, [&](std::int64_t b, std::int64_t) {
    std::vector<T> g(static_cast<std::size_t>(size)), trained = start;  // g, w* [9, d]
    correlate_image(x.k.data + b * x.k.strides[0], x.k.strides, x.v.data + b * x.v.strides[0], x.v.strides, d, grid, g.data());
    for (T& number : g) number *= -c;
    if (kept) std::copy(g.begin(), g.end(), kept + b * size);
    clipped_step(g.data(), 9, d, rate, trained.data());
    conv_image(x.q.data + b * x.q.strides[0], x.q.strides, trained.data(), d, grid, false, o.data + b * o.strides[0], o.strides);
  });
}

/// Cotangents of all operands from that of o and from the g that `ttt_dwconv` kept.
template <class T>
void ttt_dwconv_pull(const DwconvOperands<const T>& x, const TttStep& step, const T* kept, View<const T> o_bar, const DwconvOperands<T>& dx) {
  const std::int64_t B = x.q.shape[0], d = x.q.shape[3], size = 9 * d;
  const T c = static_cast<T>(step.c(x.q.shape[1] * x.q.shape[2])), rate = static_cast<T>(step.rate);
  const Grid3x3 grid(x.q.shape[1], x.q.shape[2]);
  const std::vector<T> start = pack_depthwise(x.w);            // [9, d]
  std::vector<T> sums(static_cast<std::size_t>(B * size));   // U of every image: [B, 9, d]
  parallel_for(B, 1, [&](std::int64_t b, std::int64_t) {
    const T* g = kept + b * size;
    T* U = sums.data() + b * size;
    std::vector<T> trained = start;  // w* [9, d]
    const auto at = [b](const auto& of) { return of.data + b * of.strides[0]; };
    clipped_step(g, 9, d, rate, trained.data());
    conv_image(at(o_bar), o_bar.strides, trained.data(), d, grid, true, at(dx.q), dx.q.strides);  // q̄ = conv(ō, flip w*)
    correlate_image(at(x.q), x.q.strides, at(o_bar), o_bar.strides, d, grid, U);                 // U = corr(q, ō)
    std::vector<T> D(U, U + size);
    clipped_step_pull(g, 9, d, rate, D.data());
    for (T& number : D) number *= -c;
    conv_image(at(x.v), x.v.strides, D.data(), d, grid, true, at(dx.k), dx.k.strides);           // k̄ = conv(−c·v, flip D)
    conv_image(at(x.k), x.k.strides, D.data(), d, grid, false, at(dx.v), dx.v.strides);          // v̄ = −c·conv(k, D)
  });
  sum_kernels(sums.data(), B, dx.w, 0);
}

}  // namespace TTTLIB_KERNELS
}  // namespace ttt::cpu_backend

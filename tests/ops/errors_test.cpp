// What the commonest mistakes say, word for word.
#include "catch.hpp"
#include "tttlib/ops/ops.hpp"

namespace {
using namespace ttt;

struct Mistake {
  std::function<void()> make;
  const char* message;
};
Tensor<float> z(const Shape& shape) { return zeros<float>(shape); }
Tensor<std::int64_t> labels(std::initializer_list<std::int64_t> values) {
  return tensor<std::int64_t>(values);
}

TEST_CASE("errors: shapes that do not fit") {
  const std::vector<Mistake> mistakes{
      {[] {
         z({2, 3}) + z({4, 3});
       },
       "ttt::add: shapes do not broadcast: a [2, 3], b [4, 3]; axis -2 is 2 and 4"},
      {[] {
         z({2, 3}) * z({2});
       },
       "ttt::mul: shapes do not broadcast: a [2, 3], b [2]; axis -1 is 3 and 2"},
      {[] {
         matmul(z({8, 196, 64}), z({48, 64}));
       },
       "ttt::matmul: inner sizes differ: a [8, 196, 64], b [48, 64]; a axis -1 is 64, b axis -2 is 48"},
      {[] {
         linear(z({2, 3}), z({5, 4}));
       },
       "ttt::linear: input width differs from the weight's: x [2, 3], weight [5, 4]; weight is [out, in]"},
      {[] {
         reshape(z({2, 3}), {4, -1});
       },
       "ttt::reshape: number of elements differs: x [2, 3] has 6, target [4, -1]"},
      {[] {
         permute(z({2, 3}), {0});
       },
       "ttt::permute: needs one entry per axis: x [2, 3], axes [0]"},
      {[] {
         permute(z({2, 3}), {0, 0});
       },
       "ttt::permute: an axis appears twice: axes [0, 0]"},
      {[] {
         expand(z({2, 3}), {4, 3});
       },
       "ttt::expand: shapes do not broadcast: x [2, 3], target [4, 3]; axis 0 is 2 and 4"},
      {[] {
         slice(z({2, 3}), 1, 2, 5);
       },
       "ttt::slice: range out of bounds: x [2, 3], axis 1 of length 3, range [2, 5) step 1"},
      {[] {
         select(z({2, 3}), 0, 2);
       },
       "ttt::select: index 2 out of range: x [2, 3], axis 0"},
      {[] {
         split(z({5}), {2, 2}, 0);
       },
       "ttt::split: lengths add up to 4, axis 0 of x [5] has 5"},
      {[] {
         cat(Tensors<float>{z({2, 3}), z({3, 3})}, 1);
       },
       "ttt::cat: shapes differ outside of axis 1: tensor 0 [2, 3], tensor 1 [3, 3]"},
      {[] { stack({z({2, 3}), z({3, 3})}); },
       "ttt::stack: shapes differ: tensor 0 [2, 3], tensor 1 [3, 3]. Hint: cat joins along an axis that they have"},
      {[] { stack({z({1, 1, 1, 1, 1, 1, 1, 2})}, 0); }, "ttt::Shape: too many axes: [1, 1, 1, 1, 1, 1, 1, 2] and 1; at most 8 are supported"},
      {[] { logsumexp(z({2, 0})); }, "ttt::logsumexp: axis -1 is empty: x [2, 0]"},
      {[] {
         squeeze(z({2, 3}), 0);
       },
       "ttt::squeeze: axis 0 is not of length 1: x [2, 3]"},
      {[] {
         sum(z({2, 3}), {2});
       },
       "ttt::sum: axis out of range: axis 2 of a tensor with 2 axes: x [2, 3]"},
      {[] {
         mean(z({0, 3}), {0});
       },
       "ttt::mean: mean of no elements: x [0, 3]"},
      {[] {
         var(z({1, 3}), {0});
       },
       "ttt::var: too few elements: x [1, 3], 1 per result, correction 1"},
      {[] { amax(z({0})); }, "ttt::amax: extremum of no elements: x [0]"},
      {[] {
         argmax(z({2, 0}));
       },
       "ttt::argmax: axis -1 is empty: x [2, 0]"},
      {[] { z({2}).item(); }, "ttt::item: needs one element, the tensor is [2]"},
      {[] {
         from_data<float>({1, 2, 3}, {2, 2});
       },
       "ttt::from_data: 3 values for shape [2, 2] of 4 elements"},
  };
  for (const Mistake& m : mistakes) {
    CHECK_THROWS_AS(m.make(), ShapeError);
    CHECK_THROWS_WITH(m.make(), m.message);
  }
}

TEST_CASE("errors: convolutions and pooling") {
  const std::vector<Mistake> mistakes{
      {[] {
         conv2d(z({1, 3, 8, 8}), z({16, 3, 3, 3}));
       },
       "ttt::conv2d: channels do not fit: x [1, 3, 8, 8] has 8, w [16, 3, 3, 3] takes 3 x 1 groups and gives "
       "16. "
       "Hint: images are channels last, [B, H, W, C]; from_nchw(x) converts"},
      {[] {
         conv2d(z({8, 8, 3}), z({16, 3, 3, 3}));
       },
       "ttt::conv2d: needs x [B, H, W, C] and w [O, C/groups, kh, kw]: x [8, 8, 3], w [16, 3, 3, 3]"},
      {[] {
         conv2d(z({1, 8, 8, 4}), z({6, 2, 3, 3}), {}, {.groups = 4});
       },
       "ttt::conv2d: channels do not fit: x [1, 8, 8, 4] has 4, w [6, 2, 3, 3] takes 2 x 4 groups and gives "
       "6. "
       "Hint: images are channels last, [B, H, W, C]; from_nchw(x) converts"},
      {[] {
         conv2d(z({1, 2, 8, 3}), z({16, 3, 3, 3}));
       },
       "ttt::conv2d: kernel does not fit: x [1, 2, 8, 3], w [16, 3, 3, 3], padding 0; it covers 3 of 2 rows"},
      {[] {
         conv2d(z({1, 8, 8, 3}), z({16, 3, 3, 3}), z({3}));
       },
       "ttt::conv2d: bias does not fit: bias [3], w [16, 3, 3, 3]"},
      {[] {
         conv2d(z({1, 8, 8, 3}), z({16, 3, 3, 3}), {}, {.stride = 0});
       },
       "ttt::conv2d: options out of range: stride 0 x 0, padding 0 x 0, dilation 1 x 1, groups 1"},
      {[] {
         depthwise_conv2d(z({2, 8, 8, 3}), z({4, 1, 3, 3}));
       },
       "ttt::depthwise_conv2d: one kernel per channel is needed: x [2, 8, 8, 3], w [4, 1, 3, 3]; "
       "w is neither [3, 1, kh, kw] nor [2, 3, kh, kw]"},
      {[] {
         max_pool2d(z({8, 8, 3}), 2);
       },
       "ttt::max_pool2d: needs an image [B, H, W, C]: x [8, 8, 3]"},
      {[] {
         avg_pool2d(z({1, 8, 8, 3}), 3, {.padding = 2});
       },
       "ttt::avg_pool2d: the padding must be at most half the kernel: kernel 3 x 3, padding 2 x 2"},
      {[] {
         max_pool2d(z({1, 2, 8, 3}), 3);
       },
       "ttt::max_pool2d: kernel does not fit: x [1, 2, 8, 3], w [1, 1, 3, 3], padding 0; it covers 3 of 2 "
       "rows"},
      {[] {
         adaptive_avg_pool2d(z({1, 8, 8, 3}), 0);
       },
       "ttt::adaptive_avg_pool2d: empty image: x [1, 8, 8, 3], output 0 x 0"},
      {[] {
         interpolate(z({1, 0, 8, 3}), 2);
       },
       "ttt::interpolate: empty image: x [1, 0, 8, 3], output 2 x 2"},
  };
  for (const Mistake& m : mistakes) {
    CHECK_THROWS_AS(m.make(), ShapeError);
    CHECK_THROWS_WITH(m.make(), m.message);
  }
}

TEST_CASE("errors: indices and losses") {
  const std::vector<Mistake> mistakes{
      {[] {
         embedding(z({10, 4}), labels({3, 10}));
       },
       "ttt::embedding: index out of range: index [2] holds 10, valid are 0 to 9 (rows of the table)"},
      {[] {
         index_select(z({3, 4}), labels({-1}), 0);
       },
       "ttt::index_select: index out of range: index [1] holds -1, valid are 0 to 2 (along the axis)"},
      {[] { index_select(z({0, 4}), labels({0}), 0); },
       "ttt::index_select: index out of range: index [1] holds 0, valid are none (along the axis)"},
      {[] {
         index_select(z({3, 4}), zeros<std::int64_t>({1, 1}), 0);
       },
       "ttt::index_select: index needs one axis: index [1, 1]. Hint: gather takes one position per element"},
      {[] {
         gather(z({3, 4}), zeros<std::int64_t>({2, 2}), 0);
       },
       "ttt::gather: x and index differ outside of axis 0: x [3, 4], index [2, 2]"},
      {[] {
         scatter_add(z({3}), labels({0, 1, 5}), 0, 5);
       },
       "ttt::scatter_add: index out of range: index [3] holds 5, valid are 0 to 4 (along the axis)"},
      {[] {
         cross_entropy(z({2, 10}), labels({3, 10}));
       },
       "ttt::cross_entropy: labels out of range: labels [2] holds 10, valid are 0 to 9 (classes)"},
      {[] {
         cross_entropy(z({2, 10}), labels({3}));
       },
       "ttt::cross_entropy: one label per row of logits is needed: logits [2, 10], labels [1]"},
      {[] {
         cross_entropy(z({2, 10}), z({2, 9}));
       },
       "ttt::cross_entropy: shapes differ: prediction [2, 10], target [2, 9]"},
      {[] {
         cross_entropy(z({2, 10}), labels({3, 4}), {.label_smoothing = 2});
       },
       "ttt::cross_entropy: label_smoothing out of range: 2 is not in [0, 1]"},
      {[] {
         mse_loss(z({2, 1}), z({2}));
       },
       "ttt::mse_loss: shapes differ: prediction [2, 1], target [2]"},
      {[] { smooth_l1_loss(z({2}), z({2}), -1); }, "ttt::smooth_l1_loss: beta must not be negative: beta -1"},
      {[] { attention(z({1, 2, 3, 4}), z({1, 1, 3, 4}), z({1, 1, 3, 4})); },
       "ttt::attention: needs q [.., N, d] and k, v [.., M, d]: q [1, 2, 3, 4], k [1, 1, 3, 4], v [1, 1, 3, 4]"},
      {[] { attention(z({2, 3}), z({0, 3}), z({0, 3})); }, "ttt::attention: there is nothing to attend to: q [2, 3], k [0, 3]"},
      {[] {
         layer_norm(z({2, 4}), z({3}));
       },
       "ttt::layer_norm: weight does not fit the last axis: x [2, 4], weight [3]"},
      {[] {
         group_norm(z({2, 3, 6}), 4);
       },
       "ttt::group_norm: groups do not divide the channels: x [2, 3, 6], groups 4"},
      {[] {
         Tensor<float> none;
         batch_norm(z({1, 6}), none, none);
       },
       "ttt::batch_norm: training needs more than one value per channel: x [1, 6]"},
      {[] {
         Tensor<float> none;
         batch_norm(z({4, 6}), none, none, {}, {}, {.training = false});
       },
       "ttt::batch_norm: running statistics are needed outside of training: they are undefined"},
      {[] {
         Tensor<float> none, some = z({6});
         batch_norm(z({4, 6}), some, none);
       },
       "ttt::batch_norm: one running statistic without the other: running_var is undefined. "
       "Hint: pass both, or neither in training"},
      {[] {
         Tensor<float> none, some = z({6});
         batch_norm(z({4, 6}), none, some);
       },
       "ttt::batch_norm: one running statistic without the other: running_mean is undefined. "
       "Hint: pass both, or neither in training"},
      {[] { uniform({2}, 2, 1); }, "ttt::uniform: low must not be above high: low 2, high 1"},
      {[] { trunc_normal({2}, -1); }, "ttt::trunc_normal: std and bound must not be negative: std -1, bound 2"},
      {[] { trunc_normal({2}, 1, -2); }, "ttt::trunc_normal: std and bound must not be negative: std 1, bound -2"},
      {[] { add_drop_path(z({2}), z({2}), -1); }, "ttt::drop_path: probability out of range: p -1 is not in [0, 1]"},
      {[] { dropout(z({2}), 1.5); }, "ttt::dropout: probability out of range: p 1.5 is not in [0, 1]"},
      {[] { softmax(z({2}), 1); }, "ttt::softmax: axis out of range: axis 1 of a tensor with 1 axes: x [2]"},
      {[] {
         einsum("ij,jk", z({2, 3}), z({3, 4}));
       },
       "ttt::einsum: no output: equation \"ij,jk\". Hint: write it out, as in \"bij,bjk->bik\""},
      {[] {
         einsum("ij,jk->ik", z({2, 3}), z({4, 5}));
       },
       "ttt::einsum: axis 'j' has two sizes: 3 and 4 in \"ij,jk->ik\""},
      {[] {
         einsum("ij,jk->il", z({2, 3}), z({3, 5}));
       },
       "ttt::einsum: output axis 'l' is in no input: equation \"ij,jk->il\""},
      {[] {
         einsum("ii->i", z({2, 2}));
       },
       "ttt::einsum: an axis repeats within one term: 'i' in equation \"ii->i\""},
      {[] { einsum("ij->i", z({2})); }, "ttt::einsum: tensor 0 [2] does not have the axes \"ij\""},
      {[] { einsum("i,j->ij", z({2})); },
       "ttt::einsum: one or two tensors, as many as the equation has: 1 for \"i,j->ij\""},
      {[] { einsum("...i->i", z({2})); },
       "ttt::einsum: axes are named by letters: '.' in equation \"...i->i\""},
  };
  for (const Mistake& m : mistakes) {
    CHECK_THROWS_AS(m.make(), ShapeError);
    CHECK_THROWS_WITH(m.make(), m.message);
  }
}

TEST_CASE("errors: an undefined tensor is named by the op that met it") {
  const Tensor<float> none, x = z({2});
  Tensor<float> leaf = z({2});
  leaf.requires_grad();
  const std::vector<std::pair<const char*, std::function<void()>>> uses{
      {"add", [&] { none + x; }},
      {"mul", [&] { x * none; }},
      {"exp", [&] { exp(none); }},
      {"silu", [&] { silu(none); }},
      {"sum", [&] { sum(none); }},
      {"norm", [&] { norm(none); }},
      {"argmax", [&] { argmax(none); }},
      {"reshape", [&] { reshape(none, {1}); }},
      {"permute", [&] { permute(none, {}); }},
      {"expand", [&] { expand(none, {2}); }},
      {"cat", [&] { cat<float>({x, none}); }},
      {"matmul", [&] { matmul(none, none); }},
      {"linear", [&] { linear(none, z({2, 2})); }},
      {"softmax", [&] { softmax(none); }},
      {"logsumexp", [&] { logsumexp(none); }},
      {"transpose", [&] { transpose(none); }},
      {"cat", [&] { cat({none, x}); }},
      {"stack", [&] { stack({none, x}); }},
      {"slice", [&] { slice(none, 0, 0, 1); }},
      {"select", [&] { select(none, 0, 0); }},
      {"split", [&] { split(none, 2); }},
      {"split", [&] { split(none, {1, 1}); }},
      {"chunk", [&] { chunk(none, 2); }},
      {"pad", [&] { pad(none, 0, 1, 1); }},
      {"flip", [&] { flip(none, 0); }},
      {"unsqueeze", [&] { unsqueeze(none, 0); }},
      {"squeeze", [&] { squeeze(none, 0); }},
      {"cumsum", [&] { cumsum(none, 0); }},
      {"gather", [&] { gather(none, labels({0}), 0); }},
      {"scatter_add", [&] { scatter_add(none, labels({0}), 0, 1); }},
      {"index_select", [&] { index_select(none, labels({0}), 0); }},
      {"embedding", [&] { embedding(none, labels({0})); }},
      {"mean", [&] { mean(none); }},
      {"var", [&] { var(none); }},
      {"amax", [&] { amax(none); }},
      {"layer_norm", [&] { layer_norm(none); }},
      {"group_norm", [&] { group_norm(none, 1); }},
      {"einsum", [&] { einsum("ij->ji", none); }},
      {"cross_entropy", [&] { cross_entropy(none, labels({0})); }},
      {"mse_loss", [&] { mse_loss(none, none); }},
      {"mse_loss", [&] { mse_loss(x, none); }},
      {"bce_with_logits", [&] { bce_with_logits(none, none); }},
      {"dropout", [&] { dropout(none); }},
      {"drop_path", [&] { drop_path(none, 0.5); }},
      {"max_pool2d", [&] { max_pool2d(none, 2); }},
      {"size", [&] { none.size(0); }},
      {"item", [&] { none.item(); }},
      {"to_vector", [&] { none.to_vector(); }},
      {"mul", [&] { leaf.grad() * 2; }},
  };
  for (const auto& [op, use] : uses) {
    INFO(op);
    CHECK_THROWS_WITH(use(), concat("ttt::", op, ": undefined tensor. Hint: a default-constructed Tensor holds nothing, and "
                                    "neither does .grad() before backward"));
  }
}

TEST_CASE("errors: sizes that memory does not hold") {
  const std::vector<Mistake> mistakes{
      {[] {
         adaptive_avg_pool2d(z({1, 8, 8, 3}), {std::int64_t(1) << 50, 2});
       },
       "ttt::adaptive_avg_pool2d: out of memory: output 1125899906842624 x 2"},
      {[] {
         adaptive_max_pool2d(z({1, 8, 8, 3}), {2, std::int64_t(1) << 50});
       },
       "ttt::adaptive_max_pool2d: out of memory: output 2 x 1125899906842624"},
      {[] {
         interpolate(z({1, 8, 8, 3}), {std::int64_t(1) << 60, 2}, Interpolation::bilinear);
       },
       "ttt::Shape: too many elements: shape [1152921504606846976, 8]"},
      {[] {
         interpolate(z({1, 8, 8, 3}), {std::int64_t(1) << 62, 2});
       },
       "ttt::interpolate: out of memory: output 4611686018427387904 x 2"}};
  for (const Mistake& m : mistakes) {
    INFO(m.message);
    CHECK_THROWS_AS(m.make(), Error);
    CHECK_THROWS_WITH(m.make(), m.message);
  }
}

TEST_CASE("errors: lengths that no tensor has") {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const std::vector<Mistake> mistakes{
      {[] { split(z({3}), {5, -2}); }, "ttt::split: negative length -2: x [3], axis 0"},
      {[] { split(z({3}), 0); }, "ttt::split: parts need a positive length, got 0"},
      {[] { expand(z({3}), {-1, 3}); }, "ttt::expand: negative length: x [3], target [-1, 3]. Hint: -1 keeps an axis that x has"},
      {[] { expand(z({1}), {-5}); }, "ttt::expand: negative length: x [1], target [-5]. Hint: -1 keeps an axis that x has"},
      {[] { reshape(z({6}), {-2, -3}); }, "ttt::reshape: negative length: x [6], target [-2, -3]. Hint: one axis may be -1"},
      {[] { reshape(z({6}), {-1, -1}); }, "ttt::reshape: negative length: x [6], target [-1, -1]. Hint: one axis may be -1"},
      {[] { reshape(z({0, 3}), {0, -1}); },
       "ttt::reshape: -1 could be any length beside an empty axis: x [0, 3], target [0, -1]"},
      {[] { pad(z({5}), 0, most, most); }, "ttt::pad: too many elements: 5 + 9223372036854775807 along one axis"},
      {[] { pad(z({5}), 0, 1, most - 6); }, "ttt::Tensor: too many elements: shape [9223372036854775807]"},
      {[] { split(z({5}), {most, most, 7}); }, "ttt::split: too many elements: 9223372036854775807 + 9223372036854775807 along one axis"},
      {[] { cat(Tensors<float>(4, expand(z({0, 1}), {0, most / 2 + 1})), 1); },
       "ttt::cat: too many elements: 4611686018427387904 + 4611686018427387904 along one axis"},
      {[] { conv2d(z({1, 8, 8, 3}), z({16, 3, 3, 3}), {}, {.padding = most}); },
       "ttt::conv2d: too many elements: 8 + 9223372036854775807 along one axis"},
      {[] { conv2d(z({1, 8, 8, 3}), z({16, 3, 3, 3}), {}, {.dilation = most}); },
       "ttt::conv2d: too large a kernel: w [16, 3, 3, 3], dilation 9223372036854775807"},
      {[] { max_pool2d(z({1, 8, 8, 3}), 2, {.padding = most}); },
       "ttt::max_pool2d: the padding must be at most half the kernel: kernel 2 x 2, padding 9223372036854775807 x 9223372036854775807"},
      {[] { max_pool2d(z({1, 8, 8, 3}), 0); }, "ttt::max_pool2d: empty window: kernel 0 x 0"},
      {[] { tensor({{1, 2}, {3}}); }, "ttt::tensor: rows differ in length: 2 and 1"},
      {[] { arange<float>(0, std::numeric_limits<float>::quiet_NaN()); },
       "ttt::arange: no number of elements: start 0, stop nan, step 1"},
  };
  for (const Mistake& m : mistakes) CHECK_THROWS_WITH(m.make(), m.message);
}

TEST_CASE("errors: a mask or an index changed in place before backward") {
  auto x = tensor({1, 2}).requires_grad();
  auto mask = tensor({1, 0});
  auto index = tensor<std::int64_t>({0, 1});
  const auto masked = sum(where(mask, x, x * 2)), selected = sum(index_select(x, index, 0));
  const auto zero = zeros<float>({2});
  assign(mask, zero);
  CHECK_THROWS_WITH(masked.backward(), "ttt::where: condition [2] was changed in place after it was used. Hint: call backward "
                                       "before assign, or copy the tensor first");
  assign(index, zeros<std::int64_t>({2}));
  CHECK_THROWS_WITH(selected.backward(), "ttt::gather: index [2] was changed in place after it was used. Hint: call backward "
                                         "before assign, or copy the tensor first");
}

}  // namespace

#pragma once
/// Einstein summation of one or two tensors, by permuting axes, reshaping and one matrix product.

#include <algorithm>
#include <string>

#include "tttlib/ops/matmul.hpp"
#include "tttlib/ops/reduce.hpp"

namespace ttt {

namespace detail {

/// "ab,bc->ac" taken apart.
struct EinsumTerms {
  std::vector<std::string> inputs;
  std::string output;
};

inline EinsumTerms parse_einsum(const std::string& equation) {
  EinsumTerms terms;
  std::string text;
  for (char c : equation)
    if (c != ' ') text += c;
  const std::size_t arrow = text.find("->");
  if (arrow == std::string::npos)
    fail<ShapeError>("einsum", concat("no output: equation \"", equation, "\""),
                     "write it out, as in \"bij,bjk->bik\"");
  terms.output = text.substr(arrow + 2);
  std::size_t begin = 0;
  for (std::size_t comma; (comma = text.find(',', begin)) < arrow; begin = comma + 1)
    terms.inputs.push_back(text.substr(begin, comma - begin));
  terms.inputs.push_back(text.substr(begin, arrow - begin));
  std::vector<std::string> all = terms.inputs;
  all.push_back(terms.output);
  for (const std::string& term : all)
    for (std::size_t i = 0; i < term.size(); ++i) {
      const char c = term[i];
      if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
        fail<ShapeError>("einsum",
                         concat("axes are named by letters: '", c, "' in equation \"", equation, "\""));
      if (term.find(c, i + 1) != std::string::npos)
        fail<ShapeError>("einsum",
                         concat("an axis repeats within one term: '", c, "' in equation \"", equation, "\""));
    }
  return terms;
}

/// Reorders x's axes from the order of `from` to that of `to` (the same letters).
template <class T>
Tensor<T> permute_letters(const Tensor<T>& x, const std::string& from, const std::string& to) {
  Axes axes;
  for (char c : to) axes.push_back(static_cast<std::int64_t>(from.find(c)));
  return from == to ? x : permute(x, axes);
}

/// Sums over the axes of x that `keep` does not name, and drops their letters.
template <class T>
Tensor<T> sum_letters(const Tensor<T>& x, std::string& letters, const std::string& keep) {
  Axes axes;
  std::string left;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    if (keep.find(letters[i]) == std::string::npos) axes.push_back(static_cast<std::int64_t>(i));
    else left += letters[i];
  }
  letters = left;
  return axes.empty() ? x : sum(x, axes);
}

}  // namespace detail

/// Einstein summation with an explicit output, e.g. einsum("bij,bjk->bik", a, b): one or two tensors, letters
/// as axes, each at most once per term. Throws ShapeError if the equation and the tensors do not fit.
template <class T>
Tensor<T> einsum(const std::string& equation, const Tensors<T>& xs) {
  detail::EinsumTerms terms = detail::parse_einsum(equation);
  if (xs.empty() || xs.size() > 2 || terms.inputs.size() != xs.size())
    fail<ShapeError>("einsum", concat("one or two tensors, as many as the equation has: ", xs.size(),
                                      " for \"", equation, "\""));
  std::int64_t sizes[128] = {};
  std::fill(sizes, sizes + 128, std::int64_t(-1));
  for (std::size_t k = 0; k < xs.size(); ++k) {
    require_defined("einsum", xs[k]);
    if (terms.inputs[k].size() != xs[k].shape().size())
      fail<ShapeError>("einsum", concat("tensor ", k, " ", xs[k].shape(), " does not have the axes \"",
                                        terms.inputs[k], "\""));
    for (std::size_t i = 0; i < terms.inputs[k].size(); ++i) {
      std::int64_t& size = sizes[static_cast<std::size_t>(terms.inputs[k][i])];
      if (size >= 0 && size != xs[k].shape()[i])
        fail<ShapeError>("einsum", concat("axis '", terms.inputs[k][i], "' has two sizes: ", size, " and ",
                                          xs[k].shape()[i], " in \"", equation, "\""));
      size = xs[k].shape()[i];
    }
  }
  for (char c : terms.output)
    if (sizes[static_cast<std::size_t>(c)] < 0)
      fail<ShapeError>("einsum", concat("output axis '", c, "' is in no input: equation \"", equation, "\""));
  if (xs.size() == 1) {
    const Tensor<T> x = detail::sum_letters(xs[0], terms.inputs[0], terms.output);
    return detail::permute_letters(x, terms.inputs[0], terms.output);
  }
  std::string &left = terms.inputs[0], &right = terms.inputs[1];
  const Tensor<T> a = detail::sum_letters(xs[0], left, right + terms.output);
  const Tensor<T> b = detail::sum_letters(xs[1], right, left + terms.output);
  std::string batch, inner, rows, columns;  // in both and kept, in both and summed, only left, only right
  for (char c : left)
    (right.find(c) == std::string::npos          ? rows
     : terms.output.find(c) == std::string::npos ? inner
                                                 : batch) += c;
  for (char c : right)
    if (left.find(c) == std::string::npos) columns += c;
  const auto shape_of = [&](const std::string& letters) {
    Shape shape;
    for (char c : letters) shape.push_back(sizes[static_cast<std::size_t>(c)]);
    return shape;
  };
  const std::int64_t m = numel(shape_of(rows)), n = numel(shape_of(columns)), k = numel(shape_of(inner)),
                     batches = numel(shape_of(batch));
  const Tensor<T> x =
      reshape(detail::permute_letters(a, left, batch + rows + inner), {batches, m, k});  // [batch, m, k]
  const Tensor<T> y =
      reshape(detail::permute_letters(b, right, batch + inner + columns), {batches, k, n});  // [batch, k, n]
  const Tensor<T> z = reshape(matmul(x, y), shape_of(batch + rows + columns));
  return detail::permute_letters(z, batch + rows + columns, terms.output);
}
template <class T>
Tensor<T> einsum(const std::string& equation, const Tensor<T>& a) {
  return einsum(equation, Tensors<T>{a});
}
template <class T>
Tensor<T> einsum(const std::string& equation, const Tensor<T>& a, const Tensor<T>& b) {
  return einsum(equation, Tensors<T>{a, b});
}

}  // namespace ttt

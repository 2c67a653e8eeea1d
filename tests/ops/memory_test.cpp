// Bytes that each op keeps until its backward: memory is decided by what a rule saves, so it is pinned here.
#include <unordered_set>

#include "catch.hpp"
#include "tttlib/ops/ops.hpp"

namespace {
using namespace ttt;

/// Bytes of distinct storages that the graph behind y keeps alive, those of the inputs included.
std::size_t kept_bytes(const Tensor<float>& y) {
  std::unordered_set<const Node*> seen;
  std::unordered_set<const Storage*> storages;
  std::vector<std::shared_ptr<Node>> stack{y.node()};
  std::size_t bytes = 0;
  const auto count = [&](const Edge& edge) {
    if (edge.saved.defined() && storages.insert(edge.saved.storage().get()).second)
      bytes += edge.saved.storage()->bytes();
  };
  while (!stack.empty()) {
    const std::shared_ptr<Node> node = stack.back();
    stack.pop_back();
    if (!node || dynamic_cast<LeafNode*>(node.get()) || !seen.insert(node.get()).second) continue;
    count(node->output);
    for (const Edge& edge : node->inputs) {
      count(edge);
      stack.push_back(edge.node);
    }
  }
  return bytes;
}
Tensor<float> leaf(const Shape& shape) {
  Tensor<float> x = rand<float>(shape);
  return x.requires_grad();
}
constexpr std::size_t unit = sizeof(float);

TEST_CASE("memory: bytes kept per op") {
  const Tensor<float> x = leaf({4, 8}), y = leaf({4, 8}), constant = rand<float>({4, 8});
  const std::size_t n = 32 * unit;
  struct Row {
    const char* name;
    Tensor<float> result;
    std::size_t bytes;
  };
  const Tensor<float> w = leaf({5, 8}), b = leaf({5}), scale = leaf({8}), shift = leaf({8});
  const Tensor<float> image = leaf({2, 4, 4, 3}), kernel = leaf({5, 3, 3, 3}),
                      per_channel = leaf({3, 1, 3, 3});
  const std::size_t image_bytes = 96 * unit;
  const std::vector<Row> rows{
      // nothing
      {"add", x + y, 0},
      {"add broadcast", x + scale, 0},
      {"sub", x - y, 0},
      {"neg", -x, 0},
      {"mul by a number", x * 3, 0},
      {"sum", sum(x), 0},
      {"mean", mean(x, {1}), 0},
      {"cumsum", cumsum(x, 0), 0},
      {"reshape", reshape(x, {8, 4}), 0},
      {"permute", transpose(x), 0},
      {"slice", slice(x, 0, 1, 3), 0},
      {"cat", cat(Tensors<float>{x, y}, 0), 0},
      {"pad", pad(x, 0, 1, 1), 0},
      {"where", where(constant, x, y), 0},
      {"sign", sign(x), 0},
      {"avg_pool2d", avg_pool2d(image, 2), 12 * unit},  // the averaging kernel [3, 1, 2, 2]
      {"max_pool2d", max_pool2d(image, 2), 0},          // positions only
      {"gather", gather(x, zeros<std::int64_t>({4, 1}), 1), 0},
      {"embedding", embedding(x, zeros<std::int64_t>({7})), 0},
      // the other operand, where the one is tracked
      {"mul", x * y, 2 * n},
      {"mul by a constant", x * constant, n},
      {"div by a constant", x / constant, n},
      {"div", x / y, 2 * n},
      {"matmul", matmul(x, transpose(y)), 2 * n},
      {"matmul by a constant", matmul(x, transpose(constant)), n},
      {"linear", linear(x, w, b), n + 40 * unit},
      {"linear of a constant", linear(constant, w, b), n},
      {"linear, frozen weight", linear(x, w.detach(), b), 40 * unit},
      {"conv2d", conv2d(image, kernel, {}, {.padding = 1}), image_bytes + 135 * unit},
      {"conv2d of a constant", conv2d(image.detach(), kernel), image_bytes},
      {"depthwise", depthwise_conv2d(image, per_channel, {.padding = 1}), image_bytes + 27 * unit},
      // the input
      {"square", square(x), n},
      {"pow", pow(x, 3), n},
      {"log", log(x), n},
      {"abs", abs(x), n},
      {"relu", relu(x), n},
      {"silu", silu(x), n},
      {"gelu", gelu(x), n},
      {"clamp", clamp(x, 0, 1), n},
      {"softplus", softplus(x), n},
      {"logsumexp", logsumexp(x), n},
      {"layer_norm", layer_norm(x, scale, shift),
       n + 16 * unit},  // x and w and b; statistics are computed again
      // the output
      {"exp", exp(x), n},
      {"tanh", tanh(x), n},
      {"sigmoid", sigmoid(x), n},
      {"sqrt", sqrt(x), n},
      {"reciprocal", reciprocal(x), n},
      {"softmax", softmax(x), n},
      {"log_softmax", log_softmax(x), n},
      {"cross_entropy", cross_entropy(x, zeros<std::int64_t>({4})),
       n},  // the logits
      // both
      {"maximum", maximum(x, y), 2 * n},
      {"norm", norm(x, {1}), n + 4 * unit},
      {"amax", amax(x, {1}), n + 4 * unit},
      {"dropout", dropout(x, 0.5), n},  // the mask
      {"drop_path", drop_path(x, 0.5), 4 * unit},
      {"drop_path of a branch, added", add_drop_path(x, y, 0.5), 0},  // the mask is its own
  };
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(kept_bytes(row.result) == row.bytes);
  }
}

TEST_CASE("memory: nothing is kept when nothing is tracked or recording is off") {
  const Tensor<float> x = leaf({4, 8}), constant = rand<float>({4, 8});
  CHECK_FALSE(silu(constant).is_tracked());
  const std::int64_t nodes = live_nodes();
  CHECK_FALSE(no_grad([&] { return layer_norm(silu(x)); }).is_tracked());
  CHECK(live_nodes() == nodes);
}

}  // namespace

// Captured graphs on a GPU: replayed training steps beside eager ones, bit for bit; what may change between replays;
// memory that is the graph's own; what cannot be captured.
#include <optional>

#include "catch.hpp"
#include "tttlib/backend/cuda.hpp"
#include "tttlib/backend/cuda_graph.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/ops/composed/loss.hpp"
#include "tttlib/optim/optimizer.hpp"

using namespace ttt;

namespace {

struct Training {
  std::vector<float> losses;
  std::vector<std::vector<float>> weights;
};
/// Four steps of a small model with stochastic depth, on other images and with another rate each; captured before step `capture_at`
/// and replayed from then on (4: never).
Training train(const char* name, int capture_at) {
  manual_seed(8);
  auto model = create_model<float>(name, {.num_classes = 5, .drop_path = 0.3});
  model->to(cuda());
  AdamW<float> optimizer(param_groups<float>(*model, {.weight_decay = 0.05}));
  Tensors<float> batches;
  std::vector<Tensor<std::int64_t>> all_labels;
  for (std::int64_t i = 0; i < 4; ++i) {
    batches.push_back(randn<float>({3, 32, 32, 3}).to(cuda()));
    all_labels.push_back(tensor<std::int64_t>({i, 4 - i, 0}).to(cuda()));
  }
  Tensor<float> images = zeros<float>({3, 32, 32, 3}, cuda()), loss;
  Tensor<std::int64_t> labels(Shape{3}, cuda());
  const auto step = [&] {
    model->zero_grad();
    loss = cross_entropy((*model)(images), labels, {.label_smoothing = 0.1});
    loss.backward();
    optimizer.step(grad_norm(model->parameters(), 1.0).scale);
  };
  CudaGraph graph;
  Training result;
  Tensors<float> others;
  for (int i = 0; i < 4; ++i) {
    const NoGradGuard guard;
    backend::copy(view(batches[static_cast<std::size_t>(i)]), mutable_view(images));
    backend::copy(view(all_labels[static_cast<std::size_t>(i)]), mutable_view(labels));
    optimizer.set_lr(1e-3 / (1 + i));
    if (i >= capture_at) {
      if (i == capture_at) {
        GradModeGuard on(true);
        graph.capture(step);
      }
      graph.replay();
    } else {
      GradModeGuard on(true);
      step();
    }
    result.losses.push_back(loss.item());
    CHECK(optimizer.steps() == i + 1);
    others.push_back(full<float>({40000 + i}, 3.0f, cuda()));  // memory that no replay may touch
  }
  for (const Tensor<float>& x : others) CHECK(sum(x).item() == 3.0f * static_cast<float>(x.numel()));
  for (const Tensor<float>& p : model->parameters()) result.weights.push_back(p.to_vector());
  return result;
}

}  // namespace

TEST_CASE("replayed training steps have the bits of eager ones") {
  for (const char* name : {"vit3_pico", "deit_nano"}) {
    const Training eager = train(name, 4);
    for (int capture_at : {0, 2}) {
      INFO(name << ", captured before step " << capture_at);
      const Training replayed = train(name, capture_at);
      CHECK(replayed.losses == eager.losses);
      const bool same_weights = replayed.weights == eager.weights;
      CHECK(same_weights);
    }
    CHECK(eager.losses[0] != eager.losses[1]);
  }
}

TEST_CASE("random numbers go on from replay to replay, and a capture draws none") {
  const auto draws = [](bool by_graph) {
    manual_seed(4);
    Tensor<float> x;
    const auto draw = [&] { x = add(rand<float>({50}, cuda()), randn<float>({50}, cuda())); };
    CudaGraph graph;
    if (by_graph) graph.capture(draw);
    std::vector<std::vector<float>> all;
    for (int i = 0; i < 3; ++i) {
      if (by_graph) graph.replay();
      else draw();
      all.push_back(x.to_vector());
      all.push_back(rand<float>({5}, cuda()).to_vector());  // eager draws in between
    }
    return all;
  };
  const bool same = draws(true) == draws(false);
  CHECK(same);
}

TEST_CASE("a graph keeps its memory until it goes, and a tensor in it longer") {
  release_cuda_memory();
  const std::size_t before = cuda_memory().in_use;
  Tensor<float> kept;
  {
    const Tensor<float> x = ones<float>({1 << 18}, cuda());
    std::optional<CudaGraph> graph(std::in_place);
    graph->capture([&] {
      Tensor<float> y = add(x, 1.0f);
      y = mul(y, 2.0f);
      kept = add(y, 3.0f);
    });
    graph->replay();
    const std::size_t during = cuda_memory().in_use;
    CHECK(during >= before + (3 << 20));   // x, the result, and what waits for the next replay
    CHECK(during < before + (4 << 20));    // two of the three numbers share a block
    CHECK(kept.to_vector()[7] == 7);
    graph.reset();
    CHECK(cuda_memory().in_use < during);
  }
  CHECK(cuda_memory().in_use == before + (1 << 20));
  CHECK(kept.to_vector()[(1 << 18) - 1] == 7);
  kept = {};
  CHECK(cuda_memory().in_use == before);
}

TEST_CASE("what cannot be captured says so, and nothing is broken afterwards") {
  manual_seed(5);
  const Tensor<float> x = ones<float>({4}, cuda());
  CudaGraph graph;
  CHECK_THROWS_WITH(graph.replay(), "ttt::CudaGraph: nothing to replay. Hint: capture first");
  const std::uint64_t stream = default_generator().next_stream;
  CHECK_THROWS_WITH(graph.capture([&] { add(x, rand<float>({4}, cuda())).to_vector(); }),
                    "ttt::to: the host waits for a GPU while a graph is captured. Hint: read results after a replay, copy inputs before it");
  CHECK(default_generator().next_stream == stream);
  CHECK_THROWS_WITH(graph.capture([&] { graph.capture([] {}); }),
                    ContainsSubstring("ttt::CudaGraph: a graph is being captured on this thread already"));
  CHECK_THROWS_AS(graph.capture([] { cuda_synchronize(); }), Error);
  Tensor<float> p = ones<float>({2}, cuda()).detach();
  p.requires_grad();
  p.set_grad(ones<float>({2}, cuda()));
  Sgd<float> sgd({{{{"p", p}}, 0, 1}});
  CHECK_THROWS_WITH(graph.capture([&] { sgd.step(); }), ContainsSubstring("ttt::Sgd: a graph would keep the rate"));
  CHECK(add(x, 1.0f).to_vector() == std::vector<float>(4, 2));
  Tensor<float> y;
  graph.capture([&] { y = add(x, 1.0f); });
  graph.replay();
  CHECK(y.to_vector() == std::vector<float>(4, 2));
  CHECK_THROWS_WITH(CudaGraph(3), ContainsSubstring("no such GPU: cuda:3"));
}

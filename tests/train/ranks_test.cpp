// Training by several ranks, which are threads here: sums over ranks, their order and failures, and runs that follow the run of one rank.
#include <atomic>
#include <chrono>
#include <limits>
#include <thread>

#include "catch.hpp"
#include "io/temporary_folder.hpp"
#include "train/small_run.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/nn/linear.hpp"
#include "tttlib/ops/ops.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/train/classifier.hpp"
#include "tttlib/train/rank_threads.hpp"

using namespace ttt;
using Catch::Matchers::StartsWith;

namespace {

std::vector<Device> processors(int ranks) { return std::vector<Device>(static_cast<std::size_t>(ranks)); }

const ImageDataset& train_set() {
  static const ImageDataset set = make_shapes(160, 16, 0, Split::train);
  return set;
}
const ImageDataset& test_set() {
  static const ImageDataset set = make_shapes(20, 16, 0, Split::test);
  return set;
}

using Models = std::vector<std::shared_ptr<Module<float>>>;

/// The first has the weights of seed 3, the others have weights of their own.
Models fresh_models(int ranks, double drop_path) {
  manual_seed(3);
  Models models;
  for (int rank = 0; rank < ranks; ++rank)
    models.push_back(create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16, .patch_size = 8, .drop_path = drop_path}));
  manual_seed(4);
  return models;
}
TrainResult train_on(const Models& models, const TrainOptions& options, const std::function<bool()>& should_stop = {}) {
  std::vector<Module<float>*> replicas;
  for (const auto& model : models) replicas.push_back(model.get());
  return train_classifier(replicas, train_set(), test_set(), options, should_stop);
}
std::vector<float> weights_of(Module<float>& model) {
  std::vector<float> all;
  for (auto& p : model.parameters())
    for (const float x : p.to_vector()) all.push_back(x);
  return all;
}

}  // namespace

TEST_CASE("ranks add up tensors in the order of ranks, and all get the same bits") {
  for (const int ranks : {1, 2, 3, 5}) {
    INFO(ranks << " ranks");
    const auto communicator = make_communicator(processors(ranks));
    RankThreads threads(communicator.get());
    Tensors<float> singles;
    Tensors<double> doubles;
    for (int rank = 0; rank < ranks; ++rank) singles.push_back(randn<float>({7, 3})), doubles.push_back(randn<double>({}));
    std::vector<float> expected = singles[0].to_vector();
    double expected_double = doubles[0].item();
    for (int rank = 1; rank < ranks; ++rank) {
      const auto more = singles[static_cast<std::size_t>(rank)].to_vector();
      for (std::size_t i = 0; i < more.size(); ++i) expected[i] += more[i];
      expected_double += doubles[static_cast<std::size_t>(rank)].item();
    }
    threads.run([&](int rank) {
      const auto r = static_cast<std::size_t>(rank);
      communicator->start_sum(rank, {singles[r], doubles[r]});
      communicator->start_sum(rank, {});
      communicator->finish(rank);
    });
    for (const auto& x : singles) CHECK(x.to_vector() == expected);
    for (const auto& x : doubles) CHECK(x.item() == expected_double);
  }
}

TEST_CASE("a rank that throws is what the caller sees, and nobody waits for it") {
  const auto communicator = make_communicator(processors(3));
  RankThreads threads(communicator.get());
  std::atomic<int> told{0};
  const auto sum_of_ones = [&](int rank) {
    try {
      communicator->start_sum(rank, {ones<float>({2})});
    } catch (const Error& e) {
      told += std::string(e.what()).rfind("ttt::all_reduce: rank 1 on cpu failed: ttt::matmul: ", 0) == 0;
      throw;
    }
  };
  CHECK_THROWS_WITH(threads.run([&](int rank) {
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the others wait by then
      matmul(ones<float>({2, 3}), ones<float>({2, 3}));
    }
    sum_of_ones(rank);
  }), StartsWith("ttt::matmul: ") && ContainsSubstring("in rank 1"));
  CHECK(told == 2);
  CHECK_THROWS_AS(threads.run(sum_of_ones), Error);  // and from then on
  CHECK(told == 5);
}

TEST_CASE("ranks that sum different tensors are told so") {
  const auto communicator = make_communicator(processors(2));
  RankThreads threads(communicator.get());
  CHECK_THROWS_WITH(threads.run([&](int rank) {
    if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    communicator->start_sum(rank, {ones<float>({2 + rank})});
  }), StartsWith("ttt::all_reduce: ranks sum different tensors: 1 on rank 1, 1 on rank 0, of other sizes. "
                 "Hint: every rank has to use the same parameters in every step"));
  const auto alone = make_communicator({cpu()});
  CHECK_THROWS_WITH(alone->start_sum(0, {ones<std::int64_t>({2})}), "ttt::all_reduce: only float and double are summed over ranks: int64");
  CHECK_THROWS_WITH(alone->start_sum(0, {transpose(ones<float>({2, 3}))}), StartsWith("ttt::all_reduce: the tensor is not contiguous: [3, 2]"));
  CHECK_THROWS_AS(alone->start_sum(0, {Tensor<float>()}), Error);
  CHECK_THROWS_WITH(make_communicator({}), "ttt::make_communicator: no device to compute on");
}

TEST_CASE("ranks draw numbers of their own, the same from call to call, and rank 0 the caller's") {
  const auto draw = [](int ranks) {
    const auto communicator = make_communicator(processors(ranks));
    RankThreads threads(communicator.get());
    manual_seed(5);
    std::vector<std::vector<double>> numbers(static_cast<std::size_t>(ranks));
    for (int call = 0; call < 2; ++call)
      threads.run([&](int rank) {
        for (const double x : rand<double>({4}).to_vector()) numbers[static_cast<std::size_t>(rank)].push_back(x);
      });
    CHECK(default_generator().next_stream == 2);
    return numbers;
  };
  const auto numbers = draw(3);
  CHECK(numbers == draw(3));
  CHECK(numbers[0] == draw(1)[0]);
  for (const auto& one : numbers)
    for (const auto& other : numbers)
      for (std::size_t i = 0; i < one.size(); ++i) CHECK((&one == &other || one[i] != other[i]));
}

TEST_CASE("gradients of ranks add up to those of the whole batch, whatever the buckets") {
  manual_seed(6);
  struct Net {
    Linear<double> first{5, 8}, second{8, 8}, third{8, 3};
    Tensor<double> unused = ones<double>({4}).requires_grad();
    Tensors<double> parameters() { return {first.weight, first.bias, second.weight, unused, second.bias, third.weight, third.bias, first.weight}; }
    Tensor<double> loss(const Tensor<double>& x) { return mean(square(third(exp(second(sin(second(first(x)))))))); }
  };
  Net whole;
  const auto x = randn<double>({12, 5});
  const auto expected = whole.loss(x);
  expected.backward();
  for (const int ranks : {1, 2, 3, 4})
    for (const std::size_t bucket_bytes : {std::size_t(1), std::size_t(300), std::size_t(1) << 20}) {
      INFO(ranks << " ranks, buckets of " << bucket_bytes << " bytes");
      const auto communicator = make_communicator(processors(ranks));
      RankThreads threads(communicator.get());
      std::vector<Net> nets(static_cast<std::size_t>(ranks));
      for (Net& net : nets) {
        const Tensors<double> from = whole.parameters();
        Tensors<double> to = net.parameters();
        NoGradGuard guard;
        for (std::size_t i = 0; i < to.size(); ++i) assign(to[i], from[i]);
      }
      std::vector<double> losses(nets.size());
      std::size_t buckets = 0;
      threads.run([&](int rank) {
        const std::size_t r = static_cast<std::size_t>(rank);
        GradientSums<double> sums(*communicator, rank, nets[r].parameters(), bucket_bytes);
        for (int again = 0; again < 2; ++again) {
          for (auto p : nets[r].parameters()) p.zero_grad();
          losses[r] = sums.backward(nets[r].loss(slice(x, 0, 12 / ranks * rank, 12 / ranks * (rank + 1)))).item();
        }
        if (rank == 0) buckets = sums.buckets();
      });
      CHECK(buckets == (bucket_bytes == 1 ? 7 : bucket_bytes == 300 ? 4 : 1));
      const Tensors<double> wanted = whole.parameters();
      for (Net& net : nets) {
        CHECK(losses[0] == Approx(expected.item()).epsilon(1e-13));
        const Tensors<double> found = net.parameters();
        for (std::size_t i = 0; i < found.size(); ++i) {
          REQUIRE(found[i].grad().defined() == wanted[i].grad().defined());
          if (!wanted[i].grad().defined()) continue;
          CHECK(relative_error(found[i].grad(), wanted[i].grad()) < 1e-12);
          CHECK(found[i].grad().to_vector() == nets[0].parameters()[i].grad().to_vector());
        }
      }
    }
}

TEST_CASE("a rank that uses other parameters than the rest ends the step for all") {
  const auto communicator = make_communicator(processors(2));
  RankThreads threads(communicator.get());
  Tensors<double> a, b;
  for (int rank = 0; rank < 2; ++rank) a.push_back(ones<double>({2}).requires_grad()), b.push_back(ones<double>({3}).requires_grad());
  CHECK_THROWS_WITH(threads.run([&](int rank) {
    const std::size_t r = static_cast<std::size_t>(rank);
    GradientSums<double> sums(*communicator, rank, {a[r], b[r]});
    sums.backward(rank == 0 ? sum(a[r]) + sum(b[r]) : sum(a[r]));
  }), ContainsSubstring("ranks sum different tensors: "));
}

TEST_CASE("a run of several ranks follows the run of one, and its replicas stay equal to the bit") {
  const TemporaryFolder folder;
  const auto run = [&](int ranks) {
    TrainOptions options = small_run(folder / std::to_string(ranks));
    options.epochs = 3;
    const Models models = fresh_models(ranks, 0);
    TrainResult result = train_on(models, options);
    for (const auto& model : models) CHECK(weights_of(*model) == weights_of(*models[0]));
    CHECK(result.state.step == 30);
    return result;
  };
  const TrainResult one = run(1);
  for (const int ranks : {2, 4}) {
    INFO(ranks << " ranks");
    const TrainResult several = run(ranks);
    for (std::size_t epoch = 0; epoch < 3; ++epoch) {
      CHECK(several.state.history[epoch].train_loss == Approx(one.state.history[epoch].train_loss).epsilon(1e-5));
      CHECK(several.state.history[epoch].test_loss == Approx(one.state.history[epoch].test_loss).epsilon(1e-5));
    }
  }
}

TEST_CASE("a run of two ranks goes on bit for bit, and on another number of ranks as well") {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& name, int ranks, double drop_path, bool resume, int steps) {
    TrainOptions options = small_run(folder / name);
    options.resume = resume;
    const Models models = fresh_models(ranks, drop_path);
    int taken = 0;
    const TrainResult result = train_on(models, options, [&] { return ++taken == steps; });
    for (const auto& model : models) CHECK(weights_of(*model) == weights_of(*models[0]));
    return std::pair(weights_of(*models[0]), result);
  };
  const auto whole = run("whole", 2, 0.3, false, 0);
  CHECK(run("again", 2, 0.3, false, 0).first == whole.first);
  CHECK(run("parts", 2, 0.3, false, 13).second.interrupted);
  CHECK(run("parts", 2, 0.3, true, 0).first == whole.first);
  CHECK(run("one", 1, 0.3, false, 0).first != whole.first);  // other random layers

  const auto plain = run("plain", 1, 0, false, 0);
  CHECK(run("other", 4, 0, false, 13).second.interrupted);
  const auto rest = run("other", 1, 0, true, 0);
  for (std::size_t epoch = 0; epoch < 2; ++epoch)
    CHECK(rest.second.state.history[epoch].train_loss == Approx(plain.second.state.history[epoch].train_loss).epsilon(1e-5));
}

TEST_CASE("a run of several ranks refuses what it cannot do") {
  const TemporaryFolder folder;
  TrainOptions options = small_run(folder / "run");
  CHECK_THROWS_WITH(train_on(fresh_models(3, 0), options), StartsWith("ttt::DataLoader: batches of 16 images cannot be shared equally by 3 ranks"));
  const Models models = fresh_models(2, 0);
  CHECK_THROWS_WITH(train_on({models[0], models[0]}, options), StartsWith("ttt::train: one model for several ranks, of 2"));
  CHECK_THROWS_AS(train_on({}, options), DeviceError);
  options.cuda_graph = true;
  CHECK_THROWS_WITH(train_on(models, options), StartsWith("ttt::train: steps on several devices are not captured as graphs"));
  options.cuda_graph = false;
  const auto other = create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16, .patch_size = 4});
  CHECK_THROWS_AS(train_on({models[0], other}, options), ShapeError);
}

TEST_CASE("a loss that is no number stops all ranks and names the first bad op") {
  const TemporaryFolder folder;
  const Models models = fresh_models(2, 0);
  Tensor<float> weight = models[0]->named_parameters()[0].second->detach();
  weight.data()[0] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(train_on(models, small_run(folder / "run")), ContainsSubstring("ttt::conv2d: result") && ContainsSubstring("holds NaN or Inf"));
}

// Training by several ranks on GPUs: on all that there are, on one with sums over a single rank, and what ranks refuse.
#include "catch.hpp"
#include "io/temporary_folder.hpp"
#include "train/small_run.hpp"
#include "tttlib/backend/communicator.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/train/classifier.hpp"
#include "tttlib/train/rank_threads.hpp"

using namespace ttt;

namespace {

std::vector<Device> gpus(int count) {
  std::vector<Device> all;
  for (int i = 0; i < count; ++i) all.push_back(cuda(i));
  return all;
}
/// Null where NCCL is not there, which is said.
std::unique_ptr<Communicator> sums_over(const std::vector<Device>& devices) {
  try {
    return make_communicator(devices);
  } catch (const DeviceError& e) {
    if (std::string(e.what()).find("NCCL") == std::string::npos) throw;
    WARN("skipped: " << e.what());
    return nullptr;
  }
}
std::shared_ptr<Module<float>> fresh_model(Device device) {
  manual_seed(3);
  auto model = create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16, .patch_size = 8});
  model->to(device);
  return model;
}

}  // namespace

TEST_CASE("GPUs add up tensors, beside the kernels that come before and after", "[small][nccl]") {
  for (const int count : {1, std::min(2, cuda_device_count())}) {
    const auto communicator = sums_over(gpus(count));
    if (!communicator) return;
    RankThreads threads(communicator.get());
    std::vector<std::vector<float>> found(static_cast<std::size_t>(count));
    threads.run([&](int rank) {
      const auto x = full<float>({1000}, static_cast<float>(rank + 1), cuda(rank));
      auto y = x;
      for (int i = 0; i < 5; ++i) y = add(y, x);  // 6 (rank + 1), when it is computed
      const auto z = full<double>({3}, rank + 1, cuda(rank));
      communicator->start_sum(rank, {y, z});
      communicator->start_sum(rank, {z});
      communicator->finish(rank);
      const auto after = add(y, cast<float>(sum(z)));
      found[static_cast<std::size_t>(rank)] = after.to_vector();
    });
    for (const auto& one : found) CHECK(one == std::vector<float>(1000, count == 1 ? 6 + 3 : 6 * 3 + 3 * 3 * 2));
  }
}

TEST_CASE("a training step with sums over one GPU has the bits of one without", "[nccl]") {
  const ImageDataset data = make_shapes(8, 16, 0, Split::train);
  LoaderOptions loading;
  loading.batch_size = 8;
  const Batch batch = *DataLoader(data, loading.feed(cuda())).epoch(0).next();
  const auto communicator = sums_over(gpus(1));
  if (!communicator) return;
  const auto model = fresh_model(cuda()), other = fresh_model(cuda());
  GradientSums<float> sums(*communicator, 0, other->parameters(), 100000);
  CHECK(sums.buckets() > 1);
  TrainStep step(*model, 0.1, 5), summed(*other, 0.1, 5, false, &sums);
  for (int i = 0; i < 2; ++i) {
    const StepNumbers a = step(batch), b = summed(batch);
    CHECK(a.loss == b.loss);
    CHECK(a.norm == b.norm);
  }
  const auto p = model->parameters(), q = other->parameters();
  for (std::size_t i = 0; i < p.size(); ++i) CHECK(p[i].grad().to_vector() == q[i].grad().to_vector());
}

TEST_CASE("a run on two GPUs follows the run on one", "[nccl]") {
  if (cuda_device_count() < 2) {
    WARN("skipped: there is one GPU");
    return;
  }
  const TemporaryFolder folder;
  const ImageDataset train = make_shapes(96, 16, 0, Split::train), test = make_shapes(20, 16, 0, Split::test);
  if (!sums_over(gpus(2))) return;
  const auto run = [&](int ranks) {
    std::vector<std::shared_ptr<Module<float>>> models;
    std::vector<Module<float>*> replicas;
    for (int rank = 0; rank < ranks; ++rank) {
      models.push_back(fresh_model(cuda(rank)));
      replicas.push_back(models.back().get());
    }
    const TrainResult result = train_classifier(replicas, train, test, small_run(folder / std::to_string(ranks)));
    for (const auto& model : models) {
      const auto a = model->parameters(), b = models[0]->parameters();
      for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i].to_vector() == b[i].to_vector());
    }
    return result;
  };
  const TrainResult one = run(1), two = run(2);
  for (std::size_t epoch = 0; epoch < 2; ++epoch) {
    CHECK(two.state.history[epoch].train_loss == Approx(one.state.history[epoch].train_loss).epsilon(1e-4));
    CHECK(two.state.history[epoch].test_loss == Approx(one.state.history[epoch].test_loss).epsilon(1e-4));
  }
}

TEST_CASE("devices that do not go together are refused", "[small]") {
  CHECK_THROWS_WITH(make_communicator({cuda(), cuda()}), "ttt::make_communicator: two ranks on one GPU: cuda:0. Hint: name each GPU once");
  CHECK_THROWS_WITH(make_communicator({cpu(), cuda()}),
                    "ttt::make_communicator: ranks on processors and GPUs together: cpu and cuda:0. Hint: take one kind of device");
  CHECK_THROWS_WITH(make_communicator({cuda(), cuda(63)}), ContainsSubstring("ttt::make_communicator: no such GPU: cuda:63 of "));
  if (const auto communicator = sums_over({cuda()}))
    CHECK_THROWS_WITH(communicator->start_sum(0, {ones<float>({2})}), ContainsSubstring("rank 0 computes on cuda:0: tensor [2] on cpu"));
}

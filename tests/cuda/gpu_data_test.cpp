// Data on its way to a GPU and back: element types, safetensors files, batches, and training runs whose checkpoints are read
// on the other device.
#include <filesystem>
#include <fstream>

#include "catch.hpp"
#include "data/dataset_files.hpp"
#include "io/temporary_folder.hpp"
#include "train/small_run.hpp"
#include "tttlib/autograd/anomaly.hpp"
#include "tttlib/data/shapes.hpp"
#include "tttlib/io/safetensors.hpp"
#include "tttlib/models/configs.hpp"
#include "tttlib/testing/compare.hpp"
#include "tttlib/train/classifier.hpp"
#include "tttlib/ttt/explain.hpp"
#include "tttlib/ttt/inner_models.hpp"

using namespace ttt;

namespace {

template <class To, class From>
void check_cast(const Tensor<From>& x) {
  INFO(dtype_of<From> << " to " << dtype_of<To>);
  const Tensor<From> there = x.to(cuda());
  const Tensor<To> y = cast<To>(there), turned = cast<To>(transpose(there));
  CHECK(y.device() == cuda());
  const bool same = y.to_vector() == cast<To>(x).to_vector(), same_turned = turned.to_vector() == cast<To>(transpose(x)).to_vector();
  CHECK(same);
  CHECK(same_turned);
}
template <class From>
void check_casts(const Tensor<From>& x) {
  check_cast<float>(x);
  check_cast<double>(x);
  check_cast<bf16>(x);
  check_cast<std::int64_t>(x);
  check_cast<float>(Tensor<From>(Shape{0, 3}));
}

}  // namespace

TEST_CASE("cast between all element types on the GPU gives what it gives on the CPU", "[small]") {
  const Tensor<double> x = from_data<double>({0, -0.75, 1.25, 3.14159265358979, -1000.5, 65504.9, 1e-3, -7, 255.99, 1.00390625, 1.01171875, 4}, {3, 4});
  check_casts(x);
  check_casts(cast<float>(x));
  check_casts(cast<bf16>(x));
  check_casts(cast<std::int64_t>(x));
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<bf16> special = cast<bf16>(tensor({infinity, -infinity, std::nanf(""), 3.4e38f}).to(cuda())).to_vector();
  CHECK((float(special[0]) == infinity && float(special[1]) == -infinity && std::isnan(float(special[2])) && float(special[3]) == infinity));
}

TEST_CASE("gradients pass through casts on the GPU, also of gradients, and bf16 cotangents are added there", "[small]") {
  const auto through = [](const Tensor<double>& x) { return sum(square(cast<double>(square(cast<float>(x))))); };
  const auto twice = [&](const Tensor<double>& x) { return sum(mul(grad(through)(x), x)); };
  const auto rounded = [](const Tensor<double>& x) {
    const Tensor<bf16> b = cast<bf16>(x);  // used twice: its cotangents are bf16, and added
    return sum(mul(cast<double>(b), add(cast<double>(b), cast<double>(b))));
  };
  const Tensor<double> x = tensor<double>({1.5, -2.25, 0.125});
  const AnomalyGuard every_result_is_looked_at;
  CHECK(grad(through)(x.to(cuda())).to_vector() == grad(through)(x).to_vector());
  CHECK(grad(twice)(x.to(cuda())).to_vector() == grad(twice)(x).to_vector());
  CHECK(grad(rounded)(x.to(cuda())).to_vector() == grad(rounded)(x).to_vector());
}

TEST_CASE("tensors on the GPU are saved in any layout as those of the CPU, and read back onto it", "[small]") {
  const TemporaryFolder folder;
  manual_seed(2);
  const Tensor<float> x = randn<float>({3, 4, 5});
  const auto views = [](const Tensor<float>& t) {
    const Tensor<std::int64_t> index = cast<std::int64_t>(mul(t, 10.f));
    return NamedTensors{{"whole", t},
                        {"turned", transpose(t, 0, 2)},
                        {"part", slice(t, 1, 1, 3)},
                        {"every second, backwards", flip(slice(t, 2, 0, 5, 2), Axes{0, 2})},
                        {"repeated", broadcast_to(slice(t, 0, 1, 2), {3, 4, 5})},
                        {"empty", slice(t, 0, 1, 1)},
                        {"number", select(select(select(t, 0, 2), 0, 3), 0, 1)},
                        {"wide", cast<double>(t)},
                        {"narrow", transpose(cast<bf16>(t), 0, 1)},
                        {"index", transpose(index, 1, 2)}};
  };
  save_safetensors(folder / "cpu", views(x));
  save_safetensors(folder / "gpu", views(x.to(cuda())));
  CHECK((read_bytes(folder / "gpu") == read_bytes(folder / "cpu")));
  const SafetensorsFile file = load_safetensors_file(folder / "gpu");
  for (const std::string& name : file.names()) {
    INFO(name);
    const Tensor<float> back = file.get<float>(name, cuda());
    CHECK(back.device() == cuda());
    CHECK(back.to_vector() == file.get<float>(name).to_vector());
  }
  CHECK(file.get<bf16>("narrow", cuda()).to_vector() == file.get<bf16>("narrow").to_vector());
  CHECK(file.get<std::int64_t>("index", cuda()).to_vector() == file.get<std::int64_t>("index").to_vector());
  CHECK(file.get<double>("empty", cuda()).shape() == Shape{0, 4, 5});
}

TEST_CASE("loaders put the same batches onto the GPU, at any number of workers", "[small]") {
  LoaderOptions options;
  options.batch_size = 8;
  options.shuffle = true;
  options.seed = 5;
  options.augment.flip = true;
  const ImageDataset data = counting_dataset(43);
  const DataLoader here(data, options);
  options.feed(cuda());
  for (const int workers : {0, 1, 3}) {
    options.workers = workers;
    const DataLoader there(data, options);
    auto expected = here.epoch(1), got = there.epoch(1);
    std::int64_t busy = 0;
    for (const Batch& batch : expected) {
      const auto found = got.next();
      REQUIRE(found);
      CHECK(found->images.device() == cuda());
      CHECK(found->labels.device() == cuda());
      for (int i = 0; i < 5; ++i) busy += square(found->images).numel();  // kernels run while the next batches are copied
      CHECK(found->images.to_vector() == batch.images.to_vector());
      CHECK(found->labels.to_vector() == batch.labels.to_vector());
      CHECK(found->indices == batch.indices);
    }
    CHECK(busy > 0);
    CHECK_FALSE(got.next());
  }
}

TEST_CASE("a run begun on one device goes on on the other from its checkpoint") {
  const TemporaryFolder folder;
  const ImageDataset train = make_shapes(48, 16, 0, Split::train), test = make_shapes(20, 16, 0, Split::test);
  const auto run = [&](const std::string& name, Device device, bool resume, int steps) {
    manual_seed(3);
    const auto model = create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16, .patch_size = 8, .drop_path = 0.2});
    model->to(device);
    TrainOptions options = small_run(folder / name);
    options.resume = resume;
    int taken = 0;
    TrainResult result = train_classifier(*model, train, test, options, [&] { return ++taken == steps; });
    for (const auto& p : model->named_parameters()) CHECK(p.second->device() == device);
    return result;
  };
  const TrainResult whole = run("whole", cpu(), false, 0);
  for (const bool begins_on_gpu : {true, false}) {
    const std::string name = begins_on_gpu ? "gpu, then cpu" : "cpu, then gpu";
    INFO(name);
    CHECK(run(name, begins_on_gpu ? cuda() : cpu(), false, 4).interrupted);
    const TrainResult rest = run(name, begins_on_gpu ? cpu() : cuda(), true, 0);
    CHECK_FALSE(rest.interrupted);
    REQUIRE(rest.state.history.size() == 2);
    for (std::size_t epoch = 0; epoch < 2; ++epoch) {
      CHECK(rest.state.history[epoch].train_loss == Approx(whole.state.history[epoch].train_loss).epsilon(1e-4));
      CHECK(rest.state.history[epoch].test_loss == Approx(whole.state.history[epoch].test_loss).epsilon(1e-4));
    }
    const SafetensorsFile a = load_safetensors_file(folder / "whole/last.safetensors"), b = load_safetensors_file(folder / (name + "/last.safetensors"));
    for (const std::string& weight : a.names()) {
      INFO(weight);
      CHECK(relative_error(b.get<float>(weight), a.get<float>(weight)) < 2e-3);  // AdamW divides by √v: rounding in tiny gradients is seen
    }
  }
}

TEST_CASE("a run whose steps are graphs has the bits of one whose are not") {
  const TemporaryFolder folder;
  const ImageDataset train = make_shapes(64, 16, 0, Split::train), test = make_shapes(20, 16, 0, Split::test);
  const auto run = [&](const std::string& name, bool graph, MatmulPrecision precision) {
    const MatmulPrecisionGuard guard(precision);
    manual_seed(3);
    const auto model = create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16, .patch_size = 8, .drop_path = 0.2});
    model->to(cuda());
    TrainOptions options = small_run(folder / name);
    options.cuda_graph = graph;
    const TrainResult result = train_classifier(*model, train, test, options);
    std::vector<std::vector<float>> weights;
    for (const auto& p : model->named_parameters()) weights.push_back(p.second->to_vector());
    return std::pair(result.state.history.back().train_loss, weights);
  };
  for (const MatmulPrecision precision : {MatmulPrecision::float32, MatmulPrecision::bfloat16}) {
    INFO(to_string(precision));
    const std::string name = to_string(precision);
    CHECK(run(name, false, precision) == run(name + " graph", true, precision));
  }
  const auto model = create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16, .patch_size = 8});
  TrainOptions options = small_run(folder / "cpu");
  options.cuda_graph = true;
  CHECK_THROWS_AS(train_classifier(*model, train, test, options), DeviceError);
}

TEST_CASE("evaluation on the GPU counts what it counts on the CPU") {
  manual_seed(4);
  const ImageDataset test = make_shapes(33, 16, 1, Split::test);
  const auto model = create_model<float>("vit3_pico", {.num_classes = 10, .image_size = 16, .patch_size = 8});
  const Evaluation here = evaluate(*model, test, 10);
  model->to(cuda());
  const Evaluation there = evaluate(*model, test, 10);
  CHECK(there.predicted == here.predicted);
  CHECK(there.class_correct == here.class_correct);
  CHECK(there.class_total == here.class_total);
  CHECK(there.loss == Approx(here.loss).epsilon(1e-5));
}

TEST_CASE("layers are explained on the GPU as on the CPU") {
  manual_seed(5);
  const InnerModel<double> model = inner::glu<double>(4);
  const Shape shape{2, 3, 19, 4};
  const InnerTask<double> task{model, model.initial_weights(3, 0.5), randn<double>(shape), randn<double>(shape), randn<double>(shape), {}};
  InnerTask<double> there = task;
  for (Tensor<double>* x : {&there.q, &there.k, &there.v}) *x = x->to(cuda());
  for (Tensor<double>& w : there.w0) w = w.to(cuda());
  CHECK(relative_error(gradient_magnitude(there), gradient_magnitude(task)) < 1e-11);
  CHECK(relative_error(value_jacobian(there, 7), value_jacobian(task, 7)) < 1e-11);
}

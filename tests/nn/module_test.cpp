// Module: names, modes, state dicts, functional calls, initialisation, summaries.
#include "catch.hpp"
#include "tttlib/nn/conv.hpp"
#include "tttlib/nn/drop_path.hpp"
#include "tttlib/nn/embedding.hpp"
#include "tttlib/nn/linear.hpp"
#include "tttlib/nn/norm.hpp"
#include "tttlib/nn/sequential.hpp"
#include "tttlib/nn/summary.hpp"
#include "tttlib/testing/compare.hpp"

using namespace ttt;

TEST_CASE("parameters carry dotted names in the order they were registered") {
  Mlp<double> mlp(3, 5);
  std::vector<std::string> names;
  for (auto& entry : mlp.named_parameters()) names.push_back(entry.first);
  CHECK(names == std::vector<std::string>{"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"});
  CHECK(mlp.num_parameters() == 3 * 5 + 5 + 5 * 3 + 3);
  for (auto& p : mlp.parameters()) CHECK(p.is_tracked());
}

namespace {

/// A module that registers what a test asks for.
struct Custom : Module<double> {
  Tensor<double> a, b;
  Custom() : Module("Custom") {}
  using Module::register_buffer;
  using Module::register_module;
  using Module::register_parameter;
  Tensor<double> forward(const Tensor<double>& x) override { return x; }
};

}  // namespace

TEST_CASE("a name belongs to one member, and modules are not null") {
  Custom custom;
  custom.register_parameter("w", custom.a, ones<double>({2}));
  CHECK_THROWS_WITH(custom.register_parameter("w", custom.b, ones<double>({3})), "ttt::register_parameter: the name is taken: w of Custom");
  CHECK_THROWS_WITH(custom.register_buffer("w", custom.b, ones<double>({3})), "ttt::register_buffer: the name is taken: w of Custom");
  CHECK_THROWS_AS(custom.register_module("w", std::make_shared<Mlp<double>>(2, 2)), Error);
  CHECK_THROWS_WITH(custom.register_buffer("a.b", custom.b, ones<double>({3})),
                    "ttt::register_buffer: a name must not be empty or have a dot: \"a.b\" of Custom");
  CHECK_THROWS_WITH(Sequential<double>().add(nullptr), "ttt::register_module: the module is null: 0 of Sequential");
  CHECK_NOTHROW(custom.load_state_dict(custom.state_dict()));
}

TEST_CASE("parameters and buffers are contiguous whatever they begin as") {
  Custom custom;
  const Tensor<double> start = randn<double>({2, 3});
  custom.register_parameter("w", custom.a, transpose(start, 0, 1));
  custom.register_buffer("b", custom.b, expand(ones<double>({1}), {3}));
  CHECK(custom.a.is_contiguous());
  CHECK(custom.a.to_vector() == transpose(start, 0, 1).to_vector());
  CHECK_NOTHROW(custom.load_state_dict({{"w", zeros<double>({3, 2})}, {"b", zeros<double>({3})}}));
  CHECK(start.to_vector()[0] != 0);
}

TEST_CASE("a module used twice has its parameters once and all of its names") {
  const auto layer = std::make_shared<Linear<double>>(3, 3);
  Sequential<double> net({layer, layer});
  const Tensor<double> x = randn<double>({4, 3});
  CHECK(net.num_parameters() == 12);
  CHECK(net.parameters().size() == 2);
  CHECK(net.named_parameters()[0].first == "0.weight");
  CHECK(net.state_dict().size() == 4);
  CHECK_NOTHROW(net.load_state_dict(net.state_dict()));
  const Tensor<double> w = randn<double>({3, 3});
  const auto composed = [&](const Tensor<double>& v) { return linear(linear(x, v, layer->bias), v, layer->bias); };
  for (const char* name : {"0.weight", "1.weight"})
    CHECK(functional_call(net, {{name, w}}, x).to_vector() == composed(w).to_vector());

  // So has one whose member was assigned to another.
  Mlp<double> mlp(3, 3);
  mlp.fc2->weight = mlp.fc1->weight;
  CHECK(mlp.num_parameters() == 15);
  const auto loss = [&] { return mean(square(mlp(x))); };
  const auto found = value_and_grad(mlp, loss);
  loss().backward();
  REQUIRE(found.second.size() == 3);
  CHECK(relative_error(found.second[0].second, mlp.fc1->weight.grad()) < 1e-14);
  mlp.to(cpu());
  CHECK(mlp.num_parameters() == 15);
  mlp.fc1->weight.requires_grad(false);  // frozen by both handles, it is one all the same
  mlp.fc2->weight.requires_grad(false);
  CHECK(mlp.num_parameters() == 15);
  mlp.fc1->bias.requires_grad(false);
  mlp.to(cpu());
  CHECK_FALSE(mlp.fc1->bias.is_tracked());
}

TEST_CASE("train and eval reach submodules") {
  Sequential<double> net({std::make_shared<Dropout<double>>(0.5), std::make_shared<BatchNorm<double>>(2)});
  const Tensor<double> x = ones<double>({4, 2});
  net.eval();
  CHECK(relative_error(net(x), x * (1 / std::sqrt(1 + 1e-5))) < 1e-12);
  CHECK(net.state_dict().back().first == "1.running_var");
  net.train();
  net(randn<double>({8, 2}));
  CHECK(sum(abs(net.state_dict()[2].second)).item() > 0);  // running_mean has moved
}

TEST_CASE("state dict: strict loading changes nothing on a disagreement and lists it; loose loading takes what fits") {
  Mlp<double> from(3, 5), to(3, 5), other(3, 4);
  StateDict<double> state = from.state_dict();
  to.load_state_dict(state);
  CHECK(to.fc1->weight.to_vector() == from.fc1->weight.to_vector());
  const std::vector<double> untouched = other.fc2->bias.to_vector();
  state.pop_back();
  state.emplace_back("extra", ones<double>({1}));
  CHECK_THROWS_WITH(other.load_state_dict(state),
                    "ttt::load_state_dict: state does not fit the module: 1 missing (fc2.bias); 1 unexpected (extra); "
                    "3 of another shape (fc1.weight: module [4, 3], state [5, 3], fc1.bias: module [4], state [5], "
                    "fc2.weight: module [3, 4], state [3, 5]). Hint: load with strict = false to take what fits");
  state.clear();  // four names are missing now: three and an ellipsis stand in the message
  CHECK_THROWS_WITH(other.load_state_dict(state), ContainsSubstring("4 missing (fc1.weight, fc1.bias, fc2.weight, …). Hint:"));
  CHECK(other.fc2->bias.to_vector() == untouched);
  const LoadReport report = other.load_state_dict({{"fc2.bias", zeros<double>({3})}, {"extra", ones<double>({1})}}, false);
  CHECK(report.missing.size() == 3);
  CHECK(report.unexpected == std::vector<std::string>{"extra"});
  CHECK(other.fc2->bias.to_vector() == std::vector<double>{0, 0, 0});
}

TEST_CASE("functional_call swaps parameters for one call; gradients reach the tensors given") {
  Linear<double> layer(2, 2);
  const std::vector<double> before = layer.weight.to_vector();
  const Tensor<double> x = randn<double>({3, 2});
  const auto loss = [&](const Tensor<double>& w) { return sum(square(functional_call(layer, {{"weight", w}}, x))); };
  const Tensor<double> w = randn<double>({2, 2});
  const Tensor<double> expected = grad([&](const Tensor<double>& v) { return sum(square(linear(x, v, layer.bias.detach()))); })(w);
  CHECK(relative_error(grad(loss)(w), expected) < 1e-12);
  CHECK(layer.weight.to_vector() == before);
  CHECK_THROWS_WITH(functional_call(layer, {{"weights", w}}, x), "ttt::functional_call: the module has no parameter or buffer named weights");
  CHECK_THROWS_AS(functional_call(layer, {{"weight", x}}, x), ShapeError);
}

TEST_CASE("value_and_grad of a module returns gradients by name, equal to backward's") {
  Mlp<double> mlp(3, 4);
  const Tensor<double> x = randn<double>({5, 3});
  const auto loss = [&] { return mean(square(mlp(x))); };
  const auto recorded = value_and_grad(mlp, loss);  // parameters are tracked, so the sweep can be differentiated again
  const auto constant = no_grad([&] { return value_and_grad(mlp, loss); });
  loss().backward();
  for (std::size_t i = 0; i < recorded.second.size(); ++i) {
    const Tensor<double> expected = mlp.named_parameters()[i].second->grad();
    CHECK(recorded.second[i].first == mlp.named_parameters()[i].first);
    CHECK(recorded.second[i].second.is_tracked());
    CHECK(relative_error(recorded.second[i].second, expected) < 1e-14);  // definitions instead of fast rules: rounding
    CHECK_FALSE(constant.second[i].second.is_tracked());
    CHECK(constant.second[i].second.to_vector() == expected.to_vector());
  }
}

TEST_CASE("errors inside a module name its path") {
  Mlp<double> mlp(3, 4);
  CHECK_THROWS_WITH(mlp(zeros<double>({2, 5})),
                    "ttt::linear: input width differs from the weight's: x [2, 5], weight [4, 3]; weight is [out, in]\n  in Mlp.fc1");
}

TEST_CASE("initialisers have the spread they promise") {
  manual_seed(0);
  const auto deviation = [](const Tensor<double>& x) { return std::sqrt(var(x).item()); };
  CHECK(deviation(init::kaiming_uniform<double>({400, 300})) == Approx(1 / std::sqrt(3.0 * 300)).epsilon(0.02));
  CHECK(deviation(init::kaiming_normal<double>({400, 300})) == Approx(std::sqrt(2.0 / 300)).epsilon(0.02));
  CHECK(deviation(init::xavier_uniform<double>({400, 300})) == Approx(std::sqrt(2.0 / 700)).epsilon(0.02));
  CHECK(deviation(init::xavier_normal<double>({400, 300})) == Approx(std::sqrt(2.0 / 700)).epsilon(0.02));
  const Tensor<double> cut = trunc_normal<double>({100000}, 0.02, 0.03);
  CHECK(amax(abs(cut)).item() <= 0.03);
  CHECK(amax(abs(cut)).item() > 0.0299);
  CHECK(Linear<double>(0, 3)(zeros<double>({2, 0})).to_vector() == std::vector<double>(6));
}

TEST_CASE("embedding looks rows up and sends their gradients back") {
  Embedding<double> table(4, 2);
  const Tensor<std::int64_t> index = from_data<std::int64_t>({1, 3, 1}, {3});
  sum(table(index)).backward();
  CHECK(table.weight.grad().to_vector() == std::vector<double>{0, 0, 2, 2, 0, 0, 1, 1});
  CHECK_THROWS_WITH(table(from_data<std::int64_t>({4}, {1})), ContainsSubstring("\n  in Embedding"));
  CHECK(table(from_data<double>({1, 3, 1}, {3})).to_vector() == table(index).to_vector());
}

TEST_CASE("summary counts parameters and multiply-accumulates") {
  Mlp<double> mlp(3, 4);
  const Summary summary = summarize(mlp, {1, 7, 3});
  CHECK(summary.parameters == 31);
  CHECK(summary.macs == 7 * (3 * 4 + 4 * 3));
  CHECK(to_string(summary) ==
        "module  kind    output     parameters  multiply-accumulates\n"
        "Mlp     Mlp     [1, 7, 3]          31                   168\n"
        "  fc1   Linear  [1, 7, 4]          16                    84\n"
        "  fc2   Linear  [1, 7, 3]          15                    84\n"
        "total                              31                   168\n");
}

TEST_CASE("summary of a module that is called twice, and after one that threw") {
  struct Twice : Module<double> {
    std::shared_ptr<Linear<double>> a = register_module("a", std::make_shared<Linear<double>>(2, 2));
    Twice() : Module("Twice") {}
    Tensor<double> forward(const Tensor<double>& x) override { return (*a)((*a)(x)); }
  } twice;
  CHECK_THROWS_AS(summarize(twice, {1, 3}), ShapeError);
  CHECK(twice.is_training());
  std::ostringstream text;
  text << summarize(twice, {1, 2});
  CHECK(text.str() ==
        "module  kind    output  parameters  multiply-accumulates\n"
        "Twice   Twice   [1, 2]           6                     8\n"
        "  a     Linear  [1, 2]           6                     4\n"
        "  a     Linear  [1, 2]           6                     4\n"
        "total                            6                     8\n");
}

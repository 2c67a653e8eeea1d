#include "tttlib/autograd/graph_dump.hpp"

#include "helpers.hpp"

using namespace ttt;

TEST_CASE("a small graph as text") {
  const NoLeaks leaks;
  auto x = tensor<double>({1, 2}).requires_grad();
  Tensor<double> y;
  {
    const Scope scope("mlp");
    y = x * x;
  }
  CHECK(graph_dot(sum(y)) ==
        "digraph autograd {\n"
        "  node [shape=ellipse, style=filled, fillcolor=white];\n"
        "    n0 [label=\"leaf\\n[2]\", shape=box];\n"
        "    n2 [label=\"sum\\n[1]\"];\n"
        "    n3 [label=\"reshape\\n[]\"];\n"
        "  subgraph \"cluster_mlp\" {\n"
        "    label=\"mlp\"; style=filled; fillcolor=whitesmoke;\n"
        "    n1 [label=\"mul\\n[2]\"];\n"
        "  }\n"
        "  n0 -> n1;\n"
        "  n0 -> n1;\n"
        "  n1 -> n2;\n"
        "  n2 -> n3;\n"
        "}\n");
  CHECK_THROWS_WITH(graph_dot(x.detach()), "ttt::graph_dot: nothing to draw: [2] has no history");
}

TEST_CASE("the inner step has a coloured cluster of its own, with its backward nodes") {
  const NoLeaks leaks;
  manual_seed(31);
  TttExample step;
  step.w.requires_grad();
  Tensor<double> y;
  {
    const Scope scope("block");
    y = sum(TttExample::output(step.q, step.k, step.v, step.w));
  }
  const std::string text = graph_dot(y);
  const std::size_t cluster = text.find("subgraph \"cluster_block.inner_step\"");
  REQUIRE(cluster != std::string::npos);
  const std::string inner = text.substr(cluster, text.find("  }\n", cluster) - cluster);
  CHECK_THAT(inner, ContainsSubstring("fillcolor=orange"));
  CHECK_THAT(inner, ContainsSubstring("silu_grad"));  // made by the inner sweep
  CHECK(text.find("fillcolor=whitesmoke") != std::string::npos);
}

TEST_CASE("an inner grad written by hand is coloured as well") {
  const NoLeaks leaks;
  auto w = tensor<double>({1, 2}).requires_grad();
  const auto inner = [](const Tensor<double>& at) { return sum(sin(at)); };
  const std::string text = graph_dot(sum(square(w - grad(inner)(w))));
  const auto orange = [&](const char* op) {
    const std::size_t at = text.find(concat("[label=\"", op));
    return text.substr(at, text.find('\n', at) - at).find("orange") != std::string::npos;
  };
  CHECK(orange("argument"));
  CHECK(orange("cos"));  // the inner sweep's own
  CHECK_FALSE(orange("leaf"));
  CHECK_FALSE(orange("square"));
}

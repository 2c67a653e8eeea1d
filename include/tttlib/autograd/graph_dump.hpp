#pragma once
/// The graph behind a tensor as text for Graphviz: `dot -Tsvg graph.dot > graph.svg`.

#include <map>
#include <string>
#include <vector>

#include "tttlib/autograd/sweep.hpp"

namespace ttt {

/// Graphviz text of every node that y depends on: op and shape; leaves are boxes. Nodes stand in one cluster
/// per module path; those that an inner grad or vjp made, as of an inner training step, are orange, and so is the
/// cluster of a step that the library made. Throws GradError if y has no history.
inline std::string graph_dot(const TensorBase& y) {
  if (!y.is_tracked())
    fail<GradError>("graph_dot", concat("nothing to draw: ", y.shape(), " has no history"));
  SweepOrder order({{y.node(), TensorBase()}}, 0);
  const std::vector<std::shared_ptr<Node>>& nodes = order.nodes();
  std::map<std::string, std::string> clusters;  // by module path
  std::string edges;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    bool is_leaf = true;
    for (const Edge& edge : nodes[i]->inputs) {
      if (!edge.node) continue;
      is_leaf = false;
      edges += concat("  n", order.position(edge.node.get()), " -> n", i, ";\n");
    }
    clusters[nodes[i]->trail ? *nodes[i]->trail : ""] +=
        concat("    n", i, " [label=\"", nodes[i]->op, "\\n", nodes[i]->output.shape, "\"",
               is_leaf ? ", shape=box" : "", nodes[i]->depth > y.node()->depth ? ", fillcolor=orange" : "", "];\n");
  }
  std::string text = "digraph autograd {\n  node [shape=ellipse, style=filled, fillcolor=white];\n";
  for (const auto& [path, members] : clusters) {
    const bool inner = path.find("inner_step") != std::string::npos;
    if (path.empty()) text += members;
    else
      text += "  subgraph \"cluster_" + path + "\" {\n    label=\"" + path +
              "\"; style=filled; fillcolor=" + (inner ? "orange" : "whitesmoke") + ";\n" + members + "  }\n";
  }
  return text + edges + "}\n";
}

}  // namespace ttt

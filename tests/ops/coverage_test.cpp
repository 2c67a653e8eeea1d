// No op without a case: every name that gets a node must be differentiated to order 2 at least by some table.
#include <filesystem>
#include <fstream>
#include <mutex>
#include <regex>
#include <set>
#include <sstream>

#include "op_case.hpp"

namespace {
using namespace ops_test;

std::set<std::string>& names() {
  static std::set<std::string> set;
  return set;
}
void remember(const char* op) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  names().insert(op);
}
/// Names of the nodes made while f runs.
std::set<std::string> names_in(const std::function<void()>& f) {
  names().clear();
  record_observer() = remember;
  f();
  record_observer() = nullptr;
  return names();
}

/// How often a node of each name is differentiated by the check of one case: `order` times in the function
/// itself, once less in the rules that its first derivative records, and so on.
std::map<std::string, int> orders_of(const OpCase& c) {
  std::map<std::string, int> orders;
  Function<double> f = c.op;
  Tensors<double> xs = c.inputs[0];
  for (int left = c.order; left > 0; --left) {
    for (const std::string& name : names_in([&] {
           Tensors<double> leaves;
           for (const Tensor<double>& x : xs) leaves.push_back(x.detach().requires_grad());
           f(leaves);
         }))
      orders[name] = std::max(orders[name], left);
    const Tensor<double> u = normal(f(xs).shape());
    xs.push_back(u);
    f = [f](const Tensors<double>& z) {
      const Tensors<double> d = vjp(f, Tensors<double>(z.begin(), z.end() - 1), z.back());
      Tensor<double> total = sum(d[0] * d[0]);
      for (std::size_t i = 1; i < d.size(); ++i) total = total + sum(d[i] * d[i]);
      return total;
    };
  }
  return orders;
}

std::map<std::string, int> covered() {
  std::map<std::string, int> orders;
  for (const auto& [table, cases] : tables())
    for (const OpCase& c : cases())
      for (const auto& [name, order] : orders_of(c)) orders[name] = std::max(orders[name], order);
  return orders;
}

/// Names that the headers of ops/ give to nodes.
std::set<std::string> names_in_headers() {
  const std::filesystem::path folder =
      std::filesystem::path(__FILE__).parent_path() / "../../include/tttlib/ops";
  const std::regex call(
      "(?:record|record_joint|fused)<T>\\(\\s*\"(\\w+)\"|Node\\(\"(\\w+)\"\\)|_name = \"(\\w+)\"");
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const std::string source = text.str();
    for (std::sregex_iterator at(source.begin(), source.end(), call), end; at != end; ++at)
      for (std::size_t group = 1; group < at->size(); ++group)
        if ((*at)[group].matched) found.insert((*at)[group]);
  }
  return found;
}

// What a table cannot hold, with the reason.
const std::set<std::string> exempt{
    "leaf",        // what requires_grad makes, not an op
    "argument",    // the alias a transform makes of its argument, not an op
    "cast",        // float in between: differences cannot check it; movement_test does, to order 2
    "to",          // needs a second device
    "normed_mlp",  // only where a GPU multiplies in bf16; gpu_models_test does, to order 2
};

TEST_CASE("ops: every op has a case of order 2 at least") {
  const std::map<std::string, int> orders = covered();
  CHECK(orders.size() > 50);
  for (const auto& [name, order] : orders) {
    INFO(name << " is differentiated " << order << " times");
    CHECK((order >= 2 || exempt.count(name)));
  }
  const std::set<std::string> in_headers = names_in_headers();
  CHECK(in_headers.size() > 50);
  for (const std::string& name : in_headers) {
    INFO(name << " is made in ops/ but no table reaches it");
    CHECK((orders.count(name) || exempt.count(name)));
  }
}

}  // namespace

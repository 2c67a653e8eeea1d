#include "helpers.hpp"

using namespace ttt;

namespace {
template <class F>
std::string report(const F& f) {
  const AnomalyGuard anomaly;
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}
const std::string hint = ". Hint: this is the first op where it appeared";
}  // namespace

TEST_CASE("anomaly mode names the op and module of a forward") {
  const NoLeaks leaks;
  const auto x = tensor<double>({1, 0, 2}).requires_grad();
  const auto f = [&] {
    const Scope model("model");
    const Scope layer("head");
    return sum(exp(log(x)));  // log 0 = −∞, its exp is fine again
  };
  CHECK(report(f) == "ttt::log: result [3] holds NaN or Inf" + hint + "\n  in model.head");
  CHECK(report([&] { return sum(x * x); }).empty());
  f();  // without the guard nothing is checked
}

TEST_CASE("anomaly mode names the op and module whose gradient broke, not the ops of its rule") {
  const NoLeaks leaks;
  const auto x = tensor<double>({1, 0}).requires_grad();
  const auto f = [&] {
    Tensor<double> y;
    {
      const Scope layer("norm");
      y = sqrt(x);  // fine at 0, its slope is not
    }
    sum(y * 2.0).backward();
  };
  CHECK(report(f) == "ttt::sqrt: gradient [2] holds NaN or Inf" + hint + "\n  in norm");
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("anomaly mode looks into transforms, in both element types") {
  const NoLeaks leaks;
  const auto inner = [](const auto& x) { return sum(sqrt(x)); };
  CHECK_THAT(report([&] { grad(inner)(tensor<double>({0})); }), ContainsSubstring("ttt::sqrt: gradient [1]"));
  CHECK_THAT(report([&] { grad(inner)(tensor<float>({0})); }), ContainsSubstring("ttt::sqrt: gradient [1]"));
  CHECK_THAT(report([&] { cast<float>(tensor<double>({1e300})); }),
             ContainsSubstring("ttt::cast: result [1]"));
}

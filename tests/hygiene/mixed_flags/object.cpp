// Compiled twice: OBJECT is plain_object (no optimisation, baseline instructions) or native_object.
#include "object.hpp"

#include <Eigen/Core>
#include <chrono>
#include <tttlib/tttlib.hpp>

namespace {

template <class Work>
double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<float> results() {
  ttt::manual_seed(1);
  const auto x = ttt::randn<float>({7, 33}), w = ttt::randn<float>({33, 19}),
             target = ttt::randn<float>({7, 19});
  const auto loss = [&](const ttt::Tensor<float>& at) {
    return ttt::sum(ttt::square(ttt::softmax(ttt::gelu(ttt::matmul(x, at)), -1) - target));
  };
  std::vector<float> numbers = ttt::grad(loss)(w).to_vector();
  numbers.push_back(loss(w).item());
  return numbers;
}

double matmul_seconds() {
  const auto a = ttt::ones<float>({256, 256}), b = ttt::ones<float>({256, 256});
  return seconds([&] { return ttt::matmul(a, b); });
}

double eigen_seconds() {
  const Eigen::MatrixXf a = Eigen::MatrixXf::Ones(256, 256), b = Eigen::MatrixXf::Ones(256, 256);
  Eigen::MatrixXf c(256, 256);
  return seconds([&] { c.noalias() = a * b; });
}

}  // namespace

Object OBJECT() { return {results, matmul_seconds, eigen_seconds}; }

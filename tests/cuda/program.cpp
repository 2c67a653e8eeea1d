// A user's program: works on the CPU whatever is there, asks whether there is a GPU, and moves a model to it.
#include <cstdio>

#include "tttlib/backend/cuda.hpp"
#include "tttlib/nn/linear.hpp"

int main() {
  using namespace ttt;
  try {
    Linear<float> layer(3, 2);
    const Tensor<float> here = layer(ones<float>({4, 3}));
    std::printf("cuda_available: %s\n", cuda_available() ? "yes" : "no");
    std::fflush(stdout);
    layer.to(cuda(0));
    const Tensor<float> there = layer(ones<float>({4, 3}, cuda(0)));
    const double difference = amax(abs(sub(there.to(cpu()), here))).item();
    std::printf("difference between the GPU and the CPU: %g\n", difference);
    return difference < 1e-5 ? 0 : 2;
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

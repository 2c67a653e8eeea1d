// What the CUDA runtime's statuses become: who failed, on which GPU, and what the program can still do. Needs the toolkit, no GPU.
#include "catch.hpp"
#include "tttlib/backend/cuda/gpu.cuh"

using namespace ttt;
using namespace ttt::cuda_backend;

TEST_CASE("a call that failed is told with the op and the GPU") {
  CHECK_NOTHROW(check(cudaSuccess, "matmul", 0));
  CHECK_THROWS_WITH(check(cudaErrorInvalidValue, "matmul", 2),
                    "ttt::matmul: CUDA failed on cuda:2: invalid argument (cudaErrorInvalidValue). Hint: the kernel at fault may be an earlier one; "
                    "TTTLIB_CUDA_DEBUG=1 waits for each");
  CHECK(fault_of(cudaErrorMemoryAllocation) == Fault::call);
}

TEST_CASE("after a kernel's fault the GPU is of no more use to the program, which is said") {
  for (const cudaError_t status : {cudaErrorIllegalAddress, cudaErrorMisalignedAddress, cudaErrorLaunchFailure, cudaErrorAssert})
    CHECK_THROWS_WITH(check(status, "sum", 0), ContainsSubstring("; this program can use that GPU no more. Hint: the kernel at fault may be an earlier one"));
}

TEST_CASE("a GPU that is gone is a DeviceError that says so") {
  for (const cudaError_t status : {cudaErrorECCUncorrectable, cudaErrorDevicesUnavailable, cudaErrorLaunchTimeout, cudaErrorUnknown}) {
    CHECK_THROWS_AS(check(status, "sum", 1), DeviceError);
    CHECK_THROWS_WITH(check(status, "sum", 1), ContainsSubstring("ttt::sum: cuda:1 is lost to this program: "));
    CHECK_THROWS_WITH(check(status, "sum", 1), ContainsSubstring(". Hint: start it again from its last checkpoint; nvidia-smi shows the state of the GPU"));
  }
}

// What the CUDA runtime's statuses become: who failed, on which GPU, and what the program can still do; and the libraries that are loaded
// when they are needed. Needs the toolkit, no GPU.
#include "catch.hpp"
#include "tttlib/backend/cuda/blas_handle.cuh"
#include "tttlib/backend/cuda/nccl.cuh"

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

TEST_CASE("cuBLAS is loaded when it is needed") {
  CHECK(cublas("matmul").lt.matmul != nullptr);
  CHECK(std::string(cublas("matmul").status_string(CUBLAS_STATUS_NOT_INITIALIZED)) == "the library was not initialized");
  CHECK_THROWS_WITH(check(CUBLAS_STATUS_ALLOC_FAILED, "matmul", 1), "ttt::matmul: cuBLAS failed on cuda:1: the resource allocation failed");
}

TEST_CASE("a library that is missing, or too old, is a DeviceError of one line") {
  const auto load = [] { DynamicLibrary("matmul", "cuBLAS", {"libcublas.so.0", "libcublas.so.1"}); };
  CHECK_THROWS_AS(load(), DeviceError);
  CHECK_THROWS_WITH(load(), "ttt::matmul: cuBLAS cannot be loaded: libcublas.so.0: cannot open shared object file: No such file or directory. "
                            "Hint: install it, or put the folder of libcublas.so.0 into LD_LIBRARY_PATH");
  const DynamicLibrary mathematics("matmul", "libm", {"libm.so.0", "libm.so.6"});  // the first that is there
  double (*const cosine)(double) = mathematics["cos"];
  CHECK(cosine(0) == 1);
  CHECK_THROWS_WITH(mathematics["cosinus"], "ttt::matmul: libm has no function cosinus. Hint: it is older than the one this program was built with");
}

#if __has_include(<nccl.h>)
TEST_CASE("NCCL is loaded when it is needed, and its statuses are errors") {
  try {
    CHECK(nccl("all_reduce").all_reduce != nullptr);
  } catch (const DeviceError& e) {
    WARN("skipped: " << e.what());
    return;
  }
  CHECK_NOTHROW(check(ncclSuccess, "all_reduce", 0));
  CHECK_THROWS_WITH(check(ncclInvalidUsage, "all_reduce", 1), ContainsSubstring("ttt::all_reduce: NCCL failed on cuda:1: invalid usage"));
}
#endif

// The emulation itself: phases and barriers, sums by trees, memory that the host cannot touch, launches that no GPU takes,
// the tables it fills, and how products map to a BLAS.
#include "tttlib/backend/cuda/block.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include "catch.hpp"
#include "emulation.hpp"
#include "tttlib/backend/cuda/mlp.hpp"
#include "tttlib/backend/cuda/norm.hpp"
#include "tttlib/backend/cuda/verbs.hpp"
#include "tttlib/backend/cuda/walk.hpp"
#include "tttlib/core/upload.hpp"
#include "tttlib/ops/ops.hpp"
#include "tttlib/testing/compare.hpp"

using namespace ttt;
using namespace ttt::cuda_backend;

namespace {

/// y [blocks] = a sum over all threads of twice what they keep between phases.
struct SumOfThreads {
  int* y;
  void operator()(Block& block) const {
    int* all = block.shared<int>(block.threads());
    PerThread<int> own(block);
    block.each_thread([&](int t) { own[t] = t + 1; });
    block.each_thread([&](int t) { own[t] *= 2; });
    const int total = reduce_items<reduction::Sum>(block, block.threads(), all, [&](std::int64_t i) { return own[static_cast<int>(i)]; });
    block.each_thread([&](int t) {
      if (t == 0) y[block.index()] = total;
    });
  }
};
/// y [threads] = the sum over the four neighbouring threads of their numbers, in each of them.
struct SumOfFour {
  int* y;
  void operator()(Block& block) const {
    PerThread<int> own(block);
    block.each_lane([&](int t) { own[t] = t * t; });
    warp_reduce<reduction::Sum, 4>(block, [&](int t) -> int& { return own[t]; });
    block.each_lane([&](int t) { y[t] = own[t]; });
  }
};
/// y = 2·y + x, in place.
struct DoubleAndAdd {
  const float* x;
  float* y;
  template <int N>
  struct Operands {
    Pack<float, N> x, y;
  };
  template <int N>
  Operands<N> load(std::int64_t i) const {
    return {load_pack<N>(x + i), load_pack<N>(y + i)};
  }
  template <int N>
  void store(std::int64_t i, Operands<N> of) const {
    for (int j = 0; j < N; ++j) of.y[j] = 2 * of.y[j] + of.x[j];
    store_pack(y + i, of.y);
  }
};
/// Reads a neighbour's number in the phase that writes it: a missing barrier.
struct MissingBarrier {
  int* y;
  void operator()(Block& block) const {
    int* all = block.shared<int>(block.threads() + 1);
    block.each_thread([&](int t) {
      all[t + 1] = t;
      y[t] = all[t];
    });
  }
};
struct TooMuchShared {
  void operator()(Block& block) const { block.shared<double>(100); }
};

/// The exit code of `body` in a child process; 128 + the signal that ended it.
template <class Body>
int in_child(const Body& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("phases end in barriers, and values of threads live across them") {
  Tensor<std::int64_t> memory(Shape{4}, cuda());
  int* y = reinterpret_cast<int*>(memory.data());
  const emulation::Launcher run("test", cuda());
  run.blocks(3, 64, shared_size<int>(64), SumOfThreads{y});
  int sums[3];
  run.read(sums, y, sizeof sums);
  for (int sum : sums) CHECK(sum == 64 * 65);
}

TEST_CASE("neighbouring threads add up in every one of them") {
  Tensor<std::int64_t> memory(Shape{32}, cuda());
  int* y = reinterpret_cast<int*>(memory.data());
  const emulation::Launcher run("test", cuda());
  run.blocks(1, 64, 0, SumOfFour{y});
  int values[64];
  run.read(values, y, sizeof values);
  for (int t = 0; t < 64; ++t) {
    int expected = 0;
    for (int i = t / 4 * 4; i < t / 4 * 4 + 4; ++i) expected += i * i;
    CHECK(values[t] == expected);
  }
}

TEST_CASE("elements in packs, with an odd rest, or one by one") {
  for (const std::int64_t n : {1, 4, 9, 2048, 5003})
    for (const std::int64_t first : {0, 1}) {
      const Tensor<float> x = arange<float>(0, static_cast<float>(n + first)).to(cuda());
      Tensor<float> y = ones<float>({n + first}, cuda());
      const bool in_packs = aligned<4>(x.data() + first, static_cast<const float*>(y.data()) + first);
      CHECK(in_packs == (first == 0));
      for_each_pack<4>(emulation::Launcher("test", cuda()), n, in_packs, DoubleAndAdd{x.data() + first, y.data() + first});
      const std::vector<float> got = y.to_vector();
      bool right = true;
      for (std::int64_t i = 0; i < n + first; ++i) right = right && got[static_cast<std::size_t>(i)] == (i < first ? 1 : 2 + static_cast<float>(i));
      CHECK(right);
    }
}

TEST_CASE("packs between two packs are refused, as by a GPU") {
  const Pack<float, 8> numbers{{1, 2, 3, 4, 5, 6, 7, 8}};  // from a multiple of 16 on
  CHECK(load_pack<4>(numbers.numbers + 4)[1] == 6);
  CHECK(load_pack<2>(numbers.numbers + 2)[1] == 4);
  CHECK_THROWS_WITH(load_pack<4>(numbers.numbers + 2), ContainsSubstring("a pack of 4 numbers between two packs"));
}

TEST_CASE("parts are combined, few and many, where their numbers are side by side and where not") {
  manual_seed(41);
  const emulation::Launcher run("test", cuda());
  for (const Shape& shape : {Shape{5, 12}, Shape{70, 12}, Shape{7, 20000}, Shape{3, 20002}, Shape{1, 9}}) {
    const Tensor<float> partial = randn<float>(shape), there = partial.to(cuda());
    const std::int64_t parts = shape[0], n = shape[1];
    const auto combined = [&](std::int64_t first, std::int64_t outputs, std::int64_t step) {
      Tensor<float> y(Shape{outputs}, cuda());
      sum_parts<emulation::Launcher, float>(run, there.data() + first, parts, n, {step}, {outputs}, y.data(), {1});
      return relative_error(y, sum(slice(partial, 1, first, first + step * (outputs - 1) + 1, step), 0));
    };
    CHECK(combined(0, n, 1) < 1e-6);
    CHECK(combined(1, n - 1, 1) < 1e-6);
    CHECK(combined(0, n / 2, 2) < 1e-6);
  }
}

TEST_CASE("divisors divide") {
  for (const std::int64_t by : {1, 2, 3, 5, 7, 196, 384, 641, 65535, 65536, 1 << 30, (1 << 30) + 1, 0x7fffffff})
    for (const std::int64_t n : {0, 1, 2, 195, 196, 383, 384, 50176, 0x7ffffffe, 0x7fffffff})
      for (const std::int64_t near : {n, n / by * by, n / by * by - 1})
        if (near >= 0) CHECK(Divisor(by)(static_cast<std::uint32_t>(near)) == near / by);
}

TEST_CASE("walks know where packs fit") {
  const Walk<2> line({7}, {Strides{1}, Strides{0}}), rows({5, 8}, {Strides{8, 1}, Strides{0, 1}}), odd({5, 6}, {Strides{8, 1}, Strides{6, 1}});
  CHECK((line.in_packs(0, 4) && line.in_packs(1, 4)));  // an odd rest is done one by one
  CHECK((rows.in_packs(0, 4) && rows.in_packs(1, 4) && !rows.in_packs(0, 16)));
  CHECK((!odd.in_packs(0, 4) && odd.in_packs(0, 2) && odd.in_packs(1, 2)));
  const Walk<1> apart({5, 8}, {Strides{10, 1}}), turned({8, 5}, {Strides{1, 8}}), flipped({8}, {Strides{-1}});
  CHECK((!apart.in_packs(0, 4) && apart.in_packs(0, 2) && !turned.in_packs(0, 1) && !flipped.in_packs(0, 2)));
}

TEST_CASE("a missing barrier shows: the order of threads changes the result") {
  Tensor<std::int64_t> memory(Shape{32}, cuda());
  int* y = reinterpret_cast<int*>(memory.data());
  const emulation::Launcher run("test", cuda());
  run.blocks(1, 64, shared_size<int>(65), MissingBarrier{y});
  int values[64];
  run.read(values, y, sizeof values);
  CHECK((values[10] == 9) == !emulation::backwards());  // written before it was read, or not yet
}

TEST_CASE("the host cannot touch the memory of the emulated GPU") {
  Tensor<float> x = ones<float>({5}, cuda());
  CHECK(x.to_vector() == std::vector<float>(5, 1));
  CHECK(in_child([&] { *const_cast<volatile float*>(x.data()) = 2; }) == 128 + SIGSEGV);
  CHECK(in_child([&] { static_cast<void>(*const_cast<volatile float*>(x.data())); }) == 128 + SIGSEGV);
}

TEST_CASE("tensors meant for a GPU are in page-locked memory, those meant for the CPU are not") {
  const std::int64_t before = emulation::pinned_bytes();
  {
    Tensor<float> x = host_tensor<float>({10, 3}, cuda());
    CHECK(emulation::pinned_bytes() == before + 120);
    CHECK(x.device() == cpu());
    backend::fill(mutable_view(x), 3);
    const Tensor<float> y = upload(x, cuda());
    CHECK(y.device() == cuda());
    CHECK(y.to_vector() == std::vector<float>(30, 3));
    const Tensor<float> z = host_tensor<float>({10}, cpu());
    CHECK(upload(z, cpu()).data() == z.data());
    CHECK(emulation::pinned_bytes() == before + 120);
  }
  CHECK(emulation::pinned_bytes() == before);
}

TEST_CASE("launches that no GPU takes are refused") {
  const emulation::Launcher run("test", cuda());
  CHECK_THROWS_WITH(run.blocks(1, 48, 0, TooMuchShared{}), ContainsSubstring("no GPU takes this launch: 1 blocks of 48 threads"));
  CHECK_THROWS_AS(run.blocks(0, 64, 0, TooMuchShared{}), Error);
  CHECK_THROWS_AS(run.blocks(1, 64, shared_limit + 1, TooMuchShared{}), Error);
  CHECK_THROWS_WITH(run.blocks(1, 64, 64, TooMuchShared{}), ContainsSubstring("more shared memory than its launch asked for: 64 bytes"));
}

TEST_CASE("no verb of float and double is missing, and others say so") {
  const auto missing = [](auto verbs) {
    int count = 0;
    for_each_verb(verbs, [&](auto verb) { count += verb == nullptr; });
    return count;
  };
  CHECK(missing(backend::cuda_verbs<float>()) == 0);
  CHECK(missing(backend::cuda_verbs<double>()) == 0);
  CHECK(missing(backend::cuda_verbs<std::int64_t>()) == 0);
  const Tensor<bf16> x(Shape{2}, cuda());
  Tensor<bf16> y(Shape{2}, cuda());
  CHECK_THROWS_WITH(backend::cuda_verbs<bf16>().reduce(Reduction::sum, view(x), mutable_view(y)),
                    "ttt::cuda: this op has no kernel for integers or bfloat16 on a GPU. Hint: cast the operands to float, or move them to the CPU");
}

TEST_CASE("which matrices a BLAS reads as they are") {
  const auto layout = [](std::int64_t rows, std::int64_t columns, std::int64_t row_step, std::int64_t column_step) {
    return BlasLayout(rows, columns, row_step, column_step);
  };
  CHECK((layout(3, 4, 4, 1).possible && !layout(3, 4, 4, 1).turned && layout(3, 4, 4, 1).leading == 4));
  CHECK((layout(3, 4, 9, 1).possible && layout(3, 4, 9, 1).leading == 9));  // columns of a wider matrix
  CHECK((layout(3, 4, 1, 3).possible && layout(3, 4, 1, 3).turned && layout(3, 4, 1, 3).leading == 3));
  CHECK(!layout(3, 4, 8, 2).possible);                                     // every second column
  CHECK(!layout(3, 4, 0, 1).possible);                                     // one row repeated
  CHECK((layout(1, 4, 0, 1).possible && layout(1, 4, 0, 1).leading == 4));
  CHECK((layout(1, 4, 77, 2).possible && layout(1, 4, 77, 2).turned));     // one row, as one column of a BLAS
  CHECK((layout(5, 1, 3, 77).possible && layout(5, 1, 3, 77).leading == 3));
  CHECK((layout(1, 1, 0, 0).possible && layout(1, 1, 0, 0).leading == 1));
  CHECK(!layout(3, 4, -4, 1).possible);                                    // flipped
}

TEST_CASE("matrices in bf16: products of any layout to float and to bf16, with a bias and another matrix, and sums of columns") {
  manual_seed(8);
  const emulation::Launcher run("test", cuda());
  const Tensor<bf16> a = cast<bf16>(randn<float>({37, 24})), b = cast<bf16>(randn<float>({24, 16})), a_there = a.to(cuda()), b_there = b.to(cuda());
  const Tensor<float> bias = randn<float>({16}), bias_there = bias.to(cuda());
  const Tensor<double> product = matmul(cast<double>(a), cast<double>(b));                                            // [37, 16]
  const auto multiplied = [&](const Tensor<bf16>& x, const Tensor<bf16>& y, const float* with, auto c) {
    multiply_bf16(run, view(x), view(y), with, mutable_view(c));
    return c;
  };
  CHECK(relative_error(multiplied(a_there, b_there, nullptr, Tensor<float>(Shape{37, 16}, cuda())), product) < 1e-6);
  CHECK(relative_error(multiplied(a_there, b_there, bias_there.data(), Tensor<float>(Shape{37, 16}, cuda())),
                       add(product, cast<double>(bias))) < 1e-6);
  const Tensor<float> plus = randn<float>({37, 16}), plus_there = plus.to(cuda());
  for (const std::int64_t depth : {24, 0}) {  // a product of nothing, too
    const Tensor<bf16> left = contiguous(slice(a_there, 1, 0, depth)), right = contiguous(slice(b_there, 0, 0, depth));
    Tensor<float> sum(Shape{37, 16}, cuda());
    multiply_bf16(run, view(left), view(right), bias_there.data(), mutable_view(sum), plus_there.data());
    const Tensor<double> beside = add(cast<double>(plus), cast<double>(bias));
    const Tensor<double> expected = depth > 0 ? add(product, beside) : beside;
    CHECK(relative_error(sum, expected) < 1e-6);
    const auto in_double = [](const auto& x) { return cast<double>(x).to(cuda()); };  // where no BLAS adds a bias
    Tensor<double> exact(Shape{37, 16}, cuda());
    multiply_any(run, view(in_double(left)), view(in_double(right)), in_double(bias).data(), mutable_view(exact), in_double(plus).data());
    CHECK(relative_error(exact, expected) < 1e-14);
  }
  CHECK(relative_error(multiplied(transpose(b_there), transpose(a_there), nullptr, Tensor<float>(Shape{16, 37}, cuda())), transpose(product)) < 1e-6);
  const Tensor<bf16> every_second(a_there.storage(), 0, {37, 12}, {24, 2}), half(b_there.storage(), 0, {12, 16}, {16, 1});
  const Tensor<double> few = matmul(slice(cast<double>(a), 1, 0, 24, 2), slice(cast<double>(b), 0, 0, 12));
  CHECK(relative_error(multiplied(every_second, half, nullptr, Tensor<float>(Shape{37, 16}, cuda())), few) < 1e-6);
  const Tensor<bf16> y = multiplied(a_there, b_there, bias_there.data(), Tensor<bf16>(Shape{37, 16}, cuda()));
  CHECK(relative_error(y, cast<bf16>(add(product, cast<double>(cast<bf16>(bias))))) < 1e-4);  // but for sums beside a tie
  for (const Shape& s : {Shape{37, 24}, Shape{5000, 3}, Shape{1, 300}, Shape{0, 4}}) {
    const Tensor<bf16> x = cast<bf16>(randn<float>(s)), there = x.to(cuda());
    Tensor<float> sums(Shape{s[1]}, cuda());
    column_sums(run, view(there), sums.data());
    CHECK(relative_error(sums, sum(cast<double>(x), 0)) < 1e-6);
  }
}

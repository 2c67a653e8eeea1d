#pragma once
/// Version, and the few macros of the library; no other file defines any that users see.

#define TTTLIB_VERSION_MAJOR 0
#define TTTLIB_VERSION_MINOR 1
#define TTTLIB_VERSION_PATCH 0

/// TTT_HD marks scalar formulas that run on host and device. They are always inlined, so that a copy from an
/// unoptimised object file can never stand in for an optimised one at link time.
#if defined(__CUDACC__)
#define TTT_HD __host__ __device__ __forceinline__
#else
#define TTT_HD inline __attribute__((always_inline))
#endif

/// TTT_DEVICE marks the code of block programs (backend/cuda/block.hpp): the GPU's under nvcc, plain functions elsewhere.
#if defined(__CUDACC__)
#define TTT_DEVICE __device__
#else
#define TTT_DEVICE
#endif

/// Before a loop of a block program whose iterations have to become straight code, so that arrays of a thread are registers.
#if defined(__CUDACC__)
#define TTT_UNROLL _Pragma("unroll")
#else
#define TTT_UNROLL
#endif

/// For code that is emitted everywhere and never hot: one copy, called, keeps header-only programs quick to compile.
#define TTT_NOINLINE __attribute__((noinline))
#define TTT_COLD __attribute__((noinline, cold))

/// Before a loop whose iterations do not depend on each other, even where its output is one of its inputs. Around the functions
/// with such loops: clang warns of each that it does not vectorise (a call of erf, say), also in system headers.
#if defined(__clang__)
#define TTT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define TTT_INDEPENDENT_BEGIN _Pragma("clang diagnostic push") _Pragma("clang diagnostic ignored \"-Wpass-failed\"")
#define TTT_INDEPENDENT_END _Pragma("clang diagnostic pop")
#else
#define TTT_INDEPENDENT _Pragma("GCC ivdep")
#define TTT_INDEPENDENT_BEGIN
#define TTT_INDEPENDENT_END
#endif

/// Name of the inline namespace around CPU kernel code. Objects compiled with different instruction sets or
/// optimisation modes each keep their own copy. A build against `tttlib::compiled` (TTTLIB_COMPILED) shares one.
#if defined(TTTLIB_COMPILED)
#define TTTLIB_KERNELS compiled
#elif defined(__AVX512F__) && defined(__OPTIMIZE__)
#define TTTLIB_KERNELS avx512_optimised
#elif defined(__AVX2__) && defined(__OPTIMIZE__)
#define TTTLIB_KERNELS avx2_optimised
#elif defined(__OPTIMIZE__)
#define TTTLIB_KERNELS baseline_optimised
#elif defined(__AVX512F__)
#define TTTLIB_KERNELS avx512_unoptimised
#elif defined(__AVX2__)
#define TTTLIB_KERNELS avx2_unoptimised
#else
#define TTTLIB_KERNELS baseline_unoptimised
#endif

/// Marks function bodies in *-inl.hpp files: emitted once by `tttlib::compiled` (TTTLIB_COMPILED), inline otherwise.
#if defined(TTTLIB_COMPILED)
#define TTTLIB_INLINE
#else
#define TTTLIB_INLINE inline
#endif

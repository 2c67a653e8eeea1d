#pragma once
/// The only place that includes Eigen. Its own templates trip two warnings of g++ 12, silenced here and nowhere else.
/// Inside tttlib::compiled the namespace is renamed, so that a program's own Eigen, compiled with other flags, can
/// never replace ours at link time.

#if defined(TTTLIB_COMPILED)
#define Eigen tttlib_eigen
#endif
#if !defined(EIGEN_DONT_PARALLELIZE)
#define EIGEN_DONT_PARALLELIZE
#endif
#pragma GCC diagnostic push
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <Eigen/Core>
#pragma GCC diagnostic pop

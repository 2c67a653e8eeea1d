#pragma once
/// Scalar formulas of the fused TTT heads, forward and through the inner step, once for every device, in the notation of
/// docs/derivation.md, sections 5 and 6: S = SiLU, e = −c·v, bars are outer gradients.

#include "tttlib/kernels/formulas.hpp"

namespace ttt::formula {

/// w* = w − η g/(n + 1): the clipped inner step of one column of g, n its norm.
template <class T>
struct ClippedStep {
  T factor;
  TTT_HD ClippedStep(T norm, T rate) : factor(rate / (norm + T(1))) {}
  TTT_HD T operator()(T w, T g) const { return w - factor * g; }
};

/// D = −η [ U/(n+1) − g·Σ(g ⊙ U) / (n(n+1)²) ] of one column, with `along` = Σ(g ⊙ U); the second term is 0 where n is.
template <class T>
struct ClippedStepPull {
  T of_U, of_g;
  TTT_HD ClippedStepPull(T norm, T along, T rate) {
    const T m = norm + T(1);
    of_U = -rate / m;
    of_g = norm == T(0) ? T(0) : rate * along / (norm * m * m);
  }
  TTT_HD T operator()(T U, T g) const { return U * of_U + g * of_g; }
};

/// (P, R) = (e S(z2), e z1 S'(z2)): the cotangents of z1 and z2 from that, e, of z1 S(z2). With e = −c·v for the inner
/// gradient of a GLU, g = kᵀ (P, R); with ō for the way back of the answer o = y1 S(y2), to ȳ1 and ȳ2.
template <class T>
struct GluTerms {
  T P, R;
  TTT_HD GluTerms(T z1, T z2, T e) : GluTerms(z1, SiluJet<T>(z2), e) {}
  TTT_HD GluTerms(T z1, const SiluJet<T>& s, T e) {
    P = e * s.value;
    R = e * z1 * s.first;
  }
};
/// From (P̄, R̄) = k (D1, D2): the same terms again, z̄1 = R̄ e S'(z2), z̄2 = P̄ e S'(z2) + R̄ e z1 S''(z2), ē = Ḋ = P̄ S(z2) + R̄ z1 S'(z2).
template <class T>
struct GluTermsPull {
  T P, R, z1_bar, z2_bar, e_bar;
  TTT_HD GluTermsPull(T z1, T z2, T e, T P_bar, T R_bar) : GluTermsPull(z1, SiluJet<T>(z2), e, P_bar, R_bar) {}
  TTT_HD GluTermsPull(T z1, const SiluJet<T>& s, T e, T P_bar, T R_bar) {
    P = e * s.value;
    R = e * z1 * s.first;
    z1_bar = R_bar * e * s.first;
    z2_bar = P_bar * e * s.first + R_bar * e * z1 * s.second;
    e_bar = P_bar * s.value + R_bar * z1 * s.first;
  }
};

/// o = y1 S(y2)
template <class T>
TTT_HD T glu_answer(T y1, T y2) { return y1 * SiluJet<T>(y2).value; }

}  // namespace ttt::formula

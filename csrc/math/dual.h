// Dual numbers x + eps y with eps^2 = 0. Running a formula on them gives its derivative in a direction; run on a
// backward pass f_vjp they give second derivatives, so that no second-order formula is written by hand.
#pragma once

#include "portable.h"

namespace clof {
inline namespace CLOF_ISA {

template <class S> struct Dual {
  S value;
  S tangent;

  Dual() = default;
  CLOF_HD Dual(S value, S tangent) : value(value), tangent(tangent) {}
  // Constants have no tangent.
  CLOF_HD Dual(underlying_t<S> constant) : value(constant), tangent(underlying_t<S>(0)) {}
};

template <class S> struct Underlying<Dual<S>> {
  using type = underlying_t<S>;
};

template <class S> CLOF_HD Dual<S> operator+(Dual<S> x, Dual<S> y) {
  return {x.value + y.value, x.tangent + y.tangent};
}
template <class S> CLOF_HD Dual<S> operator-(Dual<S> x, Dual<S> y) {
  return {x.value - y.value, x.tangent - y.tangent};
}
template <class S> CLOF_HD Dual<S> operator-(Dual<S> x) { return {-x.value, -x.tangent}; }
template <class S> CLOF_HD Dual<S> operator*(Dual<S> x, Dual<S> y) {
  return {x.value * y.value, x.value * y.tangent + x.tangent * y.value};
}
template <class S> CLOF_HD Dual<S> operator/(Dual<S> x, Dual<S> y) {
  const S quotient = x.value / y.value;
  return {quotient, (x.tangent - quotient * y.tangent) / y.value};
}
template <class S> CLOF_HD auto operator>(Dual<S> x, Dual<S> y) { return x.value > y.value; }
template <class S> CLOF_HD auto positive(Dual<S> x) { return positive(x.value); }
template <class Mask, class S> CLOF_HD Dual<S> select(Mask condition, Dual<S> yes, Dual<S> no) {
  return {select(condition, yes.value, no.value), select(condition, yes.tangent, no.tangent)};
}

// The derivative at 0 is 0, as everywhere in these formulas.
template <class S> CLOF_HD Dual<S> square_root(Dual<S> x) {
  using T = underlying_t<S>;
  const S root = square_root(x.value);
  const auto defined = positive(x.value);
  return {root, select(defined, x.tangent / select(defined, S(2) * root, S(T(1))), S(T(0)))};
}

}  // namespace CLOF_ISA
}  // namespace clof

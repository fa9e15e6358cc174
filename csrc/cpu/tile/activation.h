// The activations and their first and second derivatives, over rows of registers.
#pragma once

#include "../kernels/linear.h"
#include "exponential.h"

namespace clof {
inline namespace CLOF_ISA {

// A value and its derivative; what a caller does not use is not computed.
template <class S> struct Slope {
  S value, slope;
};

struct Silu {
  template <class S> static CLOF_HD Slope<S> at(S x) {
    const S s = sigmoid(x), y = x * s;
    return {y, s + (y - y * s)};
  }

  template <class S> static CLOF_HD S curve(S x) {
    using T = underlying_t<S>;
    const S s = sigmoid(x), rest = S(T(1)) - s;
    return s * rest * (S(T(2)) + x * (rest - s));
  }
};

struct Relu {
  // An undefined x stays undefined, and -inf becomes 0.
  template <class S> static CLOF_HD Slope<S> at(S x) {
    using T = underlying_t<S>;
    const S zero(T(0)), one(T(1));
    return {select(positive(-x), zero, x), select(positive(x), one, zero)};
  }

  template <class S> static CLOF_HD S curve(S) { return S(underlying_t<S>(0)); }
};

struct LeakyRelu {
  double slope;

  template <class S> CLOF_HD Slope<S> at(S x) const {
    using T = underlying_t<S>;
    const auto above = positive(x);
    const S one(T(1)), below{T(slope)};
    return {select(above, x, below * x), select(above, one, below)};
  }

  template <class S> static CLOF_HD S curve(S) { return S(underlying_t<S>(0)); }
};

struct Softplus {
  // log(1 + exp(x)) = max(x, 0) + log(1 + u) with u = exp(-|x|).
  template <class S> static CLOF_HD Slope<S> at(S x) {
    using T = underlying_t<S>;
    const S zero(T(0)), one(T(1)), u = exponential(-absolute(x)), inverse = reciprocal(one + u);
    return {at_least(zero, x) + log_of_one_plus(u), select(positive(x), one, u) * inverse};
  }

  template <class S> static CLOF_HD S curve(S x) {
    const S s = sigmoid(x);
    return s - s * s;
  }

  template <class S> static CLOF_HD S log_of_one_plus(S u) {
    using T = underlying_t<S>;
    if constexpr (sizeof(T) == 8) {
      return lanewise(u, [](double value) { return ::log1p(value); });
    } else {
      // 2 artanh(s) with s = u / (2 + u) <= 1/3; the first term left out is 1.4e-8 of the sum.
      const S s = u / (S(2.0f) + u), z = s * s;
      S sum(1.0f / 13);
#pragma GCC unroll 8
      for (int odd = 11; odd >= 1; odd -= 2) sum = sum * z + S(1.0f / odd);
      return S(2.0f) * s * sum;
    }
  }
};

struct Tanh {
  template <class S> static CLOF_HD Slope<S> at(S x) {
    const S y = hyperbolic_tangent(x);
    return {y, S(underlying_t<S>(1)) - y * y};
  }

  template <class S> static CLOF_HD S curve(S x) {
    const S y = hyperbolic_tangent(x);
    return S(underlying_t<S>(2)) * (y * y * y - y);
  }
};

struct Gelu {
  static constexpr double kInverseRoot2 = 0.7071067811865476;
  static constexpr double kInverseRoot2Pi = 0.3989422804014327;

  // x Phi(x), Phi the normal distribution.
  template <class S> static CLOF_HD Slope<S> at(S x) {
    using T = underlying_t<S>;
    const S density = exponential(S(T(-0.5)) * x * x), phi = distribution(x, density);
    return {x * phi, phi + S(T(kInverseRoot2Pi)) * x * density};
  }

  template <class S> static CLOF_HD S curve(S x) {
    using T = underlying_t<S>;
    return S(T(kInverseRoot2Pi)) * exponential(S(T(-0.5)) * x * x) * (S(T(2)) - x * x);
  }

  // Phi(x), given exp(-x^2 / 2).
  template <class S> static CLOF_HD S distribution(S x, S density) {
    using T = underlying_t<S>;
    if constexpr (sizeof(T) == 8) {
      return lanewise(x, [](double value) { return 0.5 * ::erfc(-kInverseRoot2 * value); });
    } else {
      // Abramowitz and Stegun 7.1.26 for erf, absolute error 1.5e-7.
      const S t = reciprocal(S(1.0f) + S(0.3275911f * float(kInverseRoot2)) * absolute(x));
      S p(1.061405429f);
      p = p * t + S(-1.453152027f);
      p = p * t + S(1.421413741f);
      p = p * t + S(-0.284496736f);
      p = p * t + S(0.254829592f);
      const S tail = S(0.5f) * p * t * density;
      return select(positive(x), S(1.0f) - tail, tail);
    }
  }
};

// Replaces `count` numbers by their activation and, where slopes and curves are given, writes the first and second
// derivatives there.
template <class T, class Function>
void activate_with(const Function& function, T* values, T* slopes, T* curves, int64_t count) {
  if (curves != nullptr) {
    for (int64_t k = 0; k < count; k += kLanes<T>) store(curves + k, function.curve(load(values + k)));
  }
  if (slopes == nullptr) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < count; k += kLanes<T>) store(values + k, function.at(load(values + k)).value);
    return;
  }
#pragma GCC unroll 4
  for (int64_t k = 0; k < count; k += kLanes<T>) {
    // Not const: GCC 12 leaves const aggregates of a loop in memory.
    Slope<Register<T>> y = function.at(load(values + k));
    store(values + k, y.value);
    store(slopes + k, y.slope);
  }
}

constexpr double kLeakySlope = 0.2;

// What an activation makes, rows by rows; slopes and curves may be null.
template <class T> struct Activated {
  T *values, *slopes, *curves;
};

// The numbers [first, first + count).
template <class T> void activate(Activation activation, const Activated<T>& to, int64_t first, int64_t count) {
  const auto from = [&](T* numbers) { return numbers == nullptr ? nullptr : numbers + first; };
  const auto with = [&](const auto& function) {
    activate_with(function, from(to.values), from(to.slopes), from(to.curves), count);
  };
  switch (activation) {
    case Activation::silu: return with(Silu());
    case Activation::relu: return with(Relu());
    case Activation::leaky_relu: return with(LeakyRelu{kLeakySlope});
    case Activation::softplus: return with(Softplus());
    case Activation::tanh: return with(Tanh());
    case Activation::gelu: return with(Gelu());
  }
}

}  // namespace CLOF_ISA
}  // namespace clof

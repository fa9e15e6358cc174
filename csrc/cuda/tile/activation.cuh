// Activations of rows in registers, with their slopes. Kernels are made for SiLU, which nearly everyone uses, and once
// more for all others, whose formulas are calls: their code would crowd out the rest.
#pragma once

#include <type_traits>

#include "../../functor/arguments.h"
#include "rows.cuh"

namespace clof::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLeakySlope = 0.2f;

struct Slope {
  float value, slope;
};

CLOF_DEVICE float sigmoid(float x) { return fast_reciprocal(1.0f + fast_exp2(-kLog2E * x)); }

CLOF_DEVICE Slope softplus(float x) {
  const float u = fast_exp2(-kLog2E * fabsf(x));
  return {fmaxf(x, 0.0f) + log1pf(u), sigmoid(x)};
}

CLOF_DEVICE Slope gelu(float x) {
  constexpr float kInverseRoot2 = 0.7071067811865476f, kInverseRoot2Pi = 0.3989422804014327f;
  const float below = 0.5f * erfcf(-kInverseRoot2 * x);
  return {x * below, below + kInverseRoot2Pi * x * fast_exp2(-0.5f * kLog2E * x * x)};
}

CLOF_CALLED Slope activation_at(Activation kind, float x) {
  switch (kind) {
    // An undefined x stays undefined.
    case Activation::relu: return {x < 0 ? 0.0f : x, x > 0 ? 1.0f : 0.0f};
    case Activation::leaky_relu: return {x < 0 ? kLeakySlope * x : x, x > 0 ? 1.0f : kLeakySlope};
    case Activation::softplus: return softplus(x);
    case Activation::gelu: return gelu(x);
    default: break;
  }
  const float y = tanhf(x);
  return {y, 1.0f - y * y};
}

// What kernels are made for.
struct Silu {
  CLOF_DEVICE static Slope at(Activation, float x) {
    const float s = sigmoid(x), y = x * s;
    return {y, s + (y - y * s)};
  }
};
// By one instruction of the unit that makes exponentials, the scarcest of all, instead of two. What it leaves out is
// less than 2^-12 of x: no more than products lose that round their operands to TF32 or to 16 bits.
struct RoundedSilu {
  CLOF_DEVICE static Slope at(Activation, float x) {
    const float half = 0.5f * x, t = fast_tanh(half), y = half + half * t, s = 0.5f + 0.5f * t;
    return {y, s + (y - y * s)};
  }
};
template <class Kind> using SiluOf = std::conditional_t<Kind::kExact, Silu, RoundedSilu>;

struct AnyOther {
  CLOF_DEVICE static Slope at(Activation kind, float x) { return activation_at(kind, x); }
};

// Calls body(n, k, f(x)) for every number x of the rows.
template <class Function, int Width, class Body>
CLOF_DEVICE void activate_each(const Rows<Width>& rows, Activation kind, const Body& body) {
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
    for (int k = 0; k < 4; ++k) body(n, k, Function::at(kind, rows.at[n][k]));
  }
}

template <class Function, int Width> CLOF_DEVICE void activate(Rows<Width>& rows, Activation kind) {
  activate_each<Function>(rows, kind, [&](int n, int k, Slope y) { rows.at[n][k] = y.value; });
}

// Values take the place of the rows.
template <class Function, int Width>
CLOF_DEVICE void activate(Rows<Width>& rows, Rows<Width>& slopes, Activation kind) {
  activate_each<Function>(rows, kind, [&](int n, int k, Slope y) {
    rows.at[n][k] = y.value;
    slopes.at[n][k] = y.slope;
  });
}

}  // namespace clof::cuda

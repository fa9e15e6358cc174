// What lets one source serve host, device and every instruction set: the macro CLOF_HD, the namespace that keeps the
// code of different instruction sets apart, and the few functions that a scalar type must have.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define CLOF_HD __host__ __device__ __forceinline__
#else
#define CLOF_HD inline __attribute__((always_inline))
#endif

// The build compiles csrc/cpu/kernels once for each instruction set and names it here. Without a name of its own in
// each of them the linker would keep one copy of an inline function, perhaps with instructions that the machine lacks.
#ifndef CLOF_ISA
#define CLOF_ISA generic
#endif

namespace clof {
inline namespace CLOF_ISA {

CLOF_HD float square_root(float x) { return ::sqrtf(x); }
CLOF_HD double square_root(double x) { return ::sqrt(x); }
CLOF_HD bool positive(float x) { return x > 0; }
CLOF_HD bool positive(double x) { return x > 0; }
CLOF_HD float select(bool condition, float yes, float no) { return condition ? yes : no; }
CLOF_HD double select(bool condition, double yes, double no) { return condition ? yes : no; }

// How many rounded operations apart two numbers of a type can be: 2^-23 for float, 2^-52 for double.
template <class S> struct Precision;
template <> struct Precision<float> {
  static constexpr float epsilon = 1.1920929e-7f;
};
template <> struct Precision<double> {
  static constexpr double epsilon = 2.220446049250313e-16;
};

// The plain number type under a scalar type: float under Pack<float> and under Dual<Pack<float>>.
template <class S> struct Underlying {
  using type = S;
};
template <class S> using underlying_t = typename Underlying<S>::type;

}  // namespace CLOF_ISA
}  // namespace clof

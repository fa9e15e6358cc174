// Storage types of features and their conversion to the type that computes.
#pragma once

#include <cstring>

#include "portable.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace clof {

enum class Storage : int { float32, float64, bfloat16, float16 };

inline namespace CLOF_ISA {

CLOF_HD float widen(float x) { return x; }
CLOF_HD double widen(double x) { return x; }
CLOF_HD double widen(int32_t x) { return x; }

#ifdef __CUDACC__
using BFloat16 = __nv_bfloat16;
using Half = __half;
CLOF_HD float widen(BFloat16 x) { return __bfloat162float(x); }
CLOF_HD float widen(Half x) { return __half2float(x); }
template <class U> struct Narrow;
template <> struct Narrow<BFloat16> {
  static CLOF_HD BFloat16 from(float x) { return __float2bfloat16_rn(x); }
};
template <> struct Narrow<Half> {
  static CLOF_HD Half from(float x) { return __float2half_rn(x); }
};
#else
using Half = _Float16;
struct BFloat16 {
  uint16_t bits;
};
CLOF_HD float widen(BFloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}
CLOF_HD float widen(Half x) { return float(x); }
template <class U> struct Narrow;
template <> struct Narrow<BFloat16> {
  // Round to nearest, ties to even; a NaN stays one.
  static CLOF_HD BFloat16 from(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if (x != x) return {uint16_t((bits >> 16) | 0x40)};
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
  }
};
template <> struct Narrow<Half> {
  static CLOF_HD Half from(float x) { return Half(x); }
};
#endif
template <> struct Narrow<float> {
  static CLOF_HD float from(float x) { return x; }
};
template <> struct Narrow<double> {
  static CLOF_HD double from(double x) { return x; }
};

}  // namespace CLOF_ISA
}  // namespace clof

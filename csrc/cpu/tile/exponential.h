// exp in registers, and what is made of it.
#pragma once

#include "register.h"

namespace clof {
inline namespace CLOF_ISA {

// exp(x) = 2^n exp(f), n = round(x / ln 2), |f| <= ln(2) / 2, and exp(f) by a polynomial, the constant term first.
// Adding `magic` rounds to an integer and leaves that integer in the lowest bits of the sum.
template <class T> struct Exponential;
template <> struct Exponential<float> {
  using Bits = int32_t;
  static constexpr int mantissa_bits = 23;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23
  static constexpr float limit = 87.0f;        // 2^n stays a normal number
  static constexpr int terms = 6;
  // Smallest largest relative error: 7.5e-8, with rounding 2e-7.
  static constexpr float coefficients[terms] = {1.0000001f,  0.9999997f,  0.49998894f,
                                                0.16667575f, 0.04191543f, 0.0082976473f};
};
template <> struct Exponential<double> {
  using Bits = int64_t;
  static constexpr int mantissa_bits = 52;
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double limit = 700.0;
  static constexpr int terms = 13;
  // Taylor's, good to the last bit at this length.
  static constexpr double coefficients[terms] = {
      1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,      1.0 / 720,
      1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600};
};

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

// x times 2^n, n in the lowest bits of `shifted`.
template <class T> CLOF_HD T times_power(T x, T shifted) {
  typename Exponential<T>::Bits value, exponent;
  std::memcpy(&value, &x, sizeof x);
  std::memcpy(&exponent, &shifted, sizeof x);
  value = typename Exponential<T>::Bits(uint64_t(value) + (uint64_t(exponent) << Exponential<T>::mantissa_bits));
  std::memcpy(&x, &value, sizeof x);
  return x;
}
template <class T> CLOF_HD Pack<T> times_power(Pack<T> x, Pack<T> shifted) {
  using Mask = typename Pack<T>::Mask;
  const Mask bits = (Mask)x.lanes + ((Mask)shifted.lanes << Exponential<T>::mantissa_bits);
  return Pack<T>((typename Pack<T>::Vector)bits);
}

// exp(x), with x bounded to +- limit.
template <class S> CLOF_HD S exponential(S x) {
  using T = underlying_t<S>;
  using Table = Exponential<T>;
  x = at_most(S(Table::limit), at_least(S(-Table::limit), x));
  const S shifted = x * S(T(kLog2E)) + S(Table::magic);
  const S f = x - (shifted - S(Table::magic)) * S(T(kLn2));
  S sum(Table::coefficients[Table::terms - 1]);
#pragma GCC unroll 16
  for (int k = Table::terms - 2; k >= 0; --k) sum = sum * f + S(Table::coefficients[k]);
  return times_power(sum, shifted);
}

#if defined(__AVX512F__)
// One instruction finds one of 32 numbers in two registers: exp(x) = 2^(k / 32) exp(f), k = round(32 x / ln 2), needs
// two terms less of a polynomial, since |f| <= ln(2) / 64.
struct PowersOfTwo {
  static constexpr int count = 32;
  static constexpr int bits = 5;  // that number one of them
  // 2^(j / 32).
  static constexpr float at[count] = {
      1.0f,       1.0218972f, 1.0442737f, 1.0671405f, 1.0905077f, 1.1143868f, 1.1387886f, 1.1637249f,
      1.1892071f, 1.2152474f, 1.2418578f, 1.269051f,  1.2968396f, 1.3252367f, 1.3542556f, 1.3839099f,
      1.4142135f, 1.4451808f, 1.4768262f, 1.5091645f, 1.5422108f, 1.5759809f, 1.6104903f, 1.6457555f,
      1.6817929f, 1.7186193f, 1.7562522f, 1.7947091f, 1.8340081f, 1.8741677f, 1.9152066f, 1.9571441f};

  // 2^(k / 32) for k in the lowest bits of `shifted`. The table's numbers have their j, moved to the exponent's place,
  // taken off, so that adding all of k there leaves k / 32 rounded down in the exponent.
  static CLOF_HD Pack<float> look_up(Pack<float> shifted) {
    constexpr int place = Exponential<float>::mantissa_bits - bits;
    const __m512i j = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const auto part = [&](int first) {
      const __m512i above = _mm512_add_epi32(j, _mm512_set1_epi32(first));
      return _mm512_sub_epi32(_mm512_loadu_si512(at + first), _mm512_slli_epi32(above, place));
    };
    const __m512i k = (__m512i)shifted.lanes;
    const __m512i power = _mm512_permutex2var_epi32(part(0), k, part(count / 2));
    return Pack<float>((__m512)_mm512_add_epi32(power, _mm512_slli_epi32(k, place)));
  }
};

template <> CLOF_HD Pack<float> exponential(Pack<float> x) {
  using S = Pack<float>;
  using Table = Exponential<float>;
  constexpr float step = float(kLn2 / PowersOfTwo::count);
  x = at_most(S(Table::limit), at_least(S(-Table::limit), x));
  const S shifted = x * S(float(kLog2E * PowersOfTwo::count)) + S(Table::magic);
  const S f = x - (shifted - S(Table::magic)) * S(step);
  // The smallest largest error of a polynomial of this length: 1 + f + f^2 / 2 with the part of f^3 / 6 that is linear
  // over the interval's half width step / 2; 5e-8 of exp(f).
  constexpr float linear = 1.0f + step * step / 32;
  return PowersOfTwo::look_up(shifted) * (S(1.0f) + f * (S(linear) + f * S(0.5f)));
}
#endif

template <class S> CLOF_HD S sigmoid(S x) { return reciprocal(S(underlying_t<S>(1)) + exponential(-x)); }

template <class S> CLOF_HD S absolute(S x) { return at_least(-x, x); }

// Accurate relative to the result, as the coefficients of the vectors may be tiny.
template <class S> CLOF_HD S hyperbolic_tangent(S x) {
  using T = underlying_t<S>;
  if constexpr (sizeof(T) == 8) {
    return lanewise(x, [](double value) { return ::tanh(value); });
  } else {
    // Cephes: an odd polynomial near 0, 1 - 2 / (exp(2 |x|) + 1) elsewhere.
    const S one(1.0f), two(2.0f), size = absolute(x), z = x * x;
    S p(-5.70498872745e-3f);
    p = p * z + S(2.06390887954e-2f);
    p = p * z + S(-5.37397155531e-2f);
    p = p * z + S(1.33314422036e-1f);
    p = p * z + S(-3.33332819422e-1f);
    const S near = x + x * (z * p);
    const S far = one - two * reciprocal(exponential(two * size) + one);
    return select(size > S(0.625f), select(x > S(0.0f), far, -far), near);
  }
}

}  // namespace CLOF_ISA
}  // namespace clof

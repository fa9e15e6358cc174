// Pack<T>: as many numbers as a vector register holds, usable wherever the formulas take a scalar.
#pragma once

#include "../math/portable.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define CLOF_VECTOR_BYTES 64
#elif defined(__AVX__)
#include <immintrin.h>
#define CLOF_VECTOR_BYTES 32
#else
#define CLOF_VECTOR_BYTES 16
#endif

namespace clof {
inline namespace CLOF_ISA {

template <class T> struct PackTraits;
template <> struct PackTraits<float> {
  typedef float vector __attribute__((vector_size(CLOF_VECTOR_BYTES)));
  typedef int32_t mask __attribute__((vector_size(CLOF_VECTOR_BYTES)));
};
template <> struct PackTraits<double> {
  typedef double vector __attribute__((vector_size(CLOF_VECTOR_BYTES)));
  typedef int64_t mask __attribute__((vector_size(CLOF_VECTOR_BYTES)));
};

template <class T> struct Pack {
  using Vector = typename PackTraits<T>::vector;
  using Mask = typename PackTraits<T>::mask;
  static constexpr int width = CLOF_VECTOR_BYTES / sizeof(T);
  Vector lanes;

  CLOF_HD Pack() = default;
  CLOF_HD explicit Pack(T constant) : lanes(constant - Vector{}) {}
  CLOF_HD explicit Pack(Vector lanes) : lanes(lanes) {}
};

template <class T> struct Underlying<Pack<T>> {
  using type = T;
};

template <class T> CLOF_HD Pack<T> operator+(Pack<T> x, Pack<T> y) { return Pack<T>(x.lanes + y.lanes); }
template <class T> CLOF_HD Pack<T> operator-(Pack<T> x, Pack<T> y) { return Pack<T>(x.lanes - y.lanes); }
template <class T> CLOF_HD Pack<T> operator-(Pack<T> x) { return Pack<T>(-x.lanes); }
template <class T> CLOF_HD Pack<T> operator*(Pack<T> x, Pack<T> y) { return Pack<T>(x.lanes * y.lanes); }
template <class T> CLOF_HD Pack<T> operator/(Pack<T> x, Pack<T> y) { return Pack<T>(x.lanes / y.lanes); }
template <class T> CLOF_HD typename Pack<T>::Mask operator>(Pack<T> x, Pack<T> y) { return x.lanes > y.lanes; }
template <class T> CLOF_HD typename Pack<T>::Mask positive(Pack<T> x) { return x.lanes > typename Pack<T>::Vector{}; }
template <class T> CLOF_HD Pack<T> select(typename Pack<T>::Mask condition, Pack<T> yes, Pack<T> no) {
  return Pack<T>(condition ? yes.lanes : no.lanes);
}

template <class T> CLOF_HD Pack<T> square_root(Pack<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return Pack<T>(_mm512_sqrt_ps(x.lanes));
  else return Pack<T>(_mm512_sqrt_pd(x.lanes));
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4) return Pack<T>(_mm256_sqrt_ps(x.lanes));
  else return Pack<T>(_mm256_sqrt_pd(x.lanes));
#else
  for (int lane = 0; lane < Pack<T>::width; ++lane) x.lanes[lane] = square_root(x.lanes[lane]);
  return x;
#endif
}

}  // namespace CLOF_ISA
}  // namespace clof

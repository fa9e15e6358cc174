// The registers in which tiles of edges are computed. Rows of a tile are padded to whole registers, so that any number
// of features is served by the same loops; what stands in the padding is never read as a feature.
#pragma once

#include <cstring>

#include "../kernels/loops.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> constexpr int64_t kLanes = lanes_of<Register<T>>;

template <class T> constexpr int64_t padded(int64_t columns) {
  return (columns + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T> CLOF_HD Register<T> load(const T* from) {
  Register<T> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
template <class T> CLOF_HD void store(T* to, Register<T> x) { std::memcpy(to, &x, sizeof x); }

// The larger of x and a limit that is no NaN; a NaN in x stays.
CLOF_HD float at_least(float limit, float x) { return limit > x ? limit : x; }
CLOF_HD double at_least(double limit, double x) { return limit > x ? limit : x; }
CLOF_HD float at_most(float limit, float x) { return x > limit ? limit : x; }
CLOF_HD double at_most(double limit, double x) { return x > limit ? limit : x; }
// x86's maximum and minimum return their second argument where one is a NaN.
template <class T> CLOF_HD Pack<T> at_least(Pack<T> limit, Pack<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return Pack<T>(_mm512_max_ps(limit.lanes, x.lanes));
  else return Pack<T>(_mm512_max_pd(limit.lanes, x.lanes));
#else
  return select(limit > x, limit, x);
#endif
}
template <class T> CLOF_HD Pack<T> at_most(Pack<T> limit, Pack<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return Pack<T>(_mm512_min_ps(limit.lanes, x.lanes));
  else return Pack<T>(_mm512_min_pd(limit.lanes, x.lanes));
#else
  return select(x > limit, limit, x);
#endif
}

// 1 / x for x from 1 to 1e38, where an estimate and one Newton step are faster than a division.
template <class S> CLOF_HD S reciprocal(S x) { return S(underlying_t<S>(1)) / x; }
#if defined(__AVX512F__)
template <> CLOF_HD Pack<float> reciprocal(Pack<float> x) {
  const Pack<float> estimate(_mm512_rcp14_ps(x.lanes));
  return estimate * (Pack<float>(2.0f) - x * estimate);
}
#endif

CLOF_HD float sum_of_lanes(float x) { return x; }
CLOF_HD double sum_of_lanes(double x) { return x; }

// Sum of a vector's elements, by halves.
template <class T, int Count> CLOF_HD T sum_of_vector(const T* from) {
  if constexpr (Count == 1) {
    return *from;
  } else {
    typedef T Half __attribute__((vector_size(Count / 2 * sizeof(T))));
    Half low, high;
    std::memcpy(&low, from, sizeof low);
    std::memcpy(&high, from + Count / 2, sizeof high);
    low += high;
    return sum_of_vector<T, Count / 2>(reinterpret_cast<const T*>(&low));
  }
}
template <class T> CLOF_HD T sum_of_lanes(Pack<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_reduce_add_ps(x.lanes);
  else return _mm512_reduce_add_pd(x.lanes);
#else
  return sum_of_vector<T, Pack<T>::width>(reinterpret_cast<const T*>(&x.lanes));
#endif
}

// A function of the C library, lane by lane.
template <class S, class Function> CLOF_HD S lanewise(S x, const Function& function) {
  Lanes<S> lanes(x);
  for (auto& value : lanes.at) value = function(value);
  std::memcpy(&x, lanes.at, sizeof x);
  return x;
}

}  // namespace CLOF_ISA
}  // namespace clof

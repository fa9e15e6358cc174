// Kernel bodies of the sums over segments and their adjoint.
#pragma once

#include "arguments.h"
#include "lanes.h"

namespace clof {
inline namespace CLOF_ISA {

// The type that sums values of a storage type.
template <class U> struct SumType {
  using type = float;
};
template <> struct SumType<double> {
  using type = double;
};

CLOF_HD double segment_weight(const SegmentArguments& a, int64_t segment) {
  const int32_t size = a.start[segment + 1] - a.start[segment];
  return a.mean && size > 1 ? 1.0 / size : 1.0;
}

// One segment, the columns [column, column + Columns) of its rows, summed in the order of the plan.
template <class U, int Columns> struct SegmentReduce {
  SegmentArguments a;

  CLOF_HD void operator()(int64_t segment, int64_t column) const {
    using T = typename SumType<U>::type;
    const U* from = static_cast<const U*>(a.from) + column;
    T sum[Columns] = {};
    for (int32_t p = a.start[segment]; p < a.start[segment + 1]; ++p) {
      const U* row = from + int64_t(a.perm[p]) * a.width;
      for (int c = 0; c < Columns; ++c) sum[c] += widen(row[c]);
    }
    const T weight = T(segment_weight(a, segment));
    U* to = static_cast<U*>(a.to) + segment * a.width + column;
    for (int c = 0; c < Columns; ++c) to[c] = Narrow<U>::from(sum[c] * weight);
  }
};

// One row, the columns [column, column + Columns): its segment's values.
template <class U, int Columns> struct SegmentGather {
  SegmentArguments a;

  CLOF_HD void operator()(int64_t row, int64_t column) const {
    using T = typename SumType<U>::type;
    const int64_t segment = a.index[row];
    const T weight = T(segment_weight(a, segment));
    const U* from = static_cast<const U*>(a.from) + segment * a.width + column;
    U* to = static_cast<U*>(a.to) + row * a.width + column;
    for (int c = 0; c < Columns; ++c) to[c] = Narrow<U>::from(T(widen(from[c])) * weight);
  }
};

}  // namespace CLOF_ISA
}  // namespace clof

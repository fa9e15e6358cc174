// Which kind of number the products of a call take.
#pragma once

#include "../../functor/arguments.h"
#include "number.cuh"

namespace clof::cuda {

// body(Kind()) for the storage and the precision of an operator's problem.
template <class Problem, class Body> auto with_kind(const Problem& p, const Body& body) {
  if (p.storage == Storage::bfloat16) return body(BFloat16Kind());
  if (p.storage == Storage::float16) return body(Float16Kind());
  if (p.precision == MatmulPrecision::highest) return body(Tf32x3());
  return body(Tf32());
}

}  // namespace clof::cuda

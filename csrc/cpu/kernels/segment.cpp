#include "../../functor/segment.h"

#include "kernels_of_isa.h"

namespace clof {
namespace CLOF_ISA {

// Columns summed in registers at a time; the rest of a row goes in smaller steps.
template <template <class, int> class Functor, class U>
void run(const SegmentArguments& a, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    int64_t column = 0;
    for (; column + 64 <= a.width; column += 64) Functor<U, 64>{a}(item, column);
    for (; column + 8 <= a.width; column += 8) Functor<U, 8>{a}(item, column);
    for (; column < a.width; ++column) Functor<U, 1>{a}(item, column);
  }
}

template <template <class, int> class Functor> void of_storage(const SegmentArguments& a, int64_t begin, int64_t end) {
  switch (a.storage) {
    case Storage::float32: return run<Functor, float>(a, begin, end);
    case Storage::float64: return run<Functor, double>(a, begin, end);
    case Storage::bfloat16: return run<Functor, BFloat16>(a, begin, end);
    case Storage::float16: return run<Functor, Half>(a, begin, end);
  }
}

void segment_reduce(const SegmentArguments& a, int64_t begin, int64_t end) { of_storage<SegmentReduce>(a, begin, end); }
void segment_gather(const SegmentArguments& a, int64_t begin, int64_t end) { of_storage<SegmentGather>(a, begin, end); }

}  // namespace CLOF_ISA
}  // namespace clof

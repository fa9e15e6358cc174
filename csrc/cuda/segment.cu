#include "../functor/segment.h"

#include "launch.cuh"
#include "launchers.h"

namespace clof::cuda {
namespace {

// One column a thread: neighbouring threads read neighbouring columns of a row.
template <template <class, int> class Functor>
void run(const SegmentArguments& a, int64_t items, const Stream& stream) {
  switch (a.storage) {
    case Storage::float32: return launch_items(Functor<float, 1>{a}, items, a.width, stream);
    case Storage::float64: return launch_items(Functor<double, 1>{a}, items, a.width, stream);
    case Storage::bfloat16: return launch_items(Functor<BFloat16, 1>{a}, items, a.width, stream);
    case Storage::float16: return launch_items(Functor<Half, 1>{a}, items, a.width, stream);
  }
}

}  // namespace

void segment_reduce(const SegmentArguments& a, const Stream& stream) { run<SegmentReduce>(a, a.segments, stream); }
void segment_gather(const SegmentArguments& a, const Stream& stream) { run<SegmentGather>(a, a.rows, stream); }

}  // namespace clof::cuda

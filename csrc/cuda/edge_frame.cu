#include "../functor/edge_frame.h"

#include "launch.cuh"
#include "launchers.h"

namespace clof::cuda {
namespace {

constexpr Channels kNone = {0, false};

template <class T, bool Second> void map(const EdgeFrameArguments& a, const Stream& stream) {
  launch_map<T>(EdgeFrameMap<T, Second>{a}, a.graph, kNone, stream);
}
template <class T, bool Second> void sum(const EdgeFrameArguments& a, Place role, const Stream& stream) {
  launch_sum<T>(EdgeFrameSum<T, Second>{a, role}, a.graph, role, kNone, stream);
}

}  // namespace

void edge_frame_map(const EdgeFrameArguments& a, bool second, const Stream& stream) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? map<double, true>(a, stream) : map<double, false>(a, stream);
  return second ? map<float, true>(a, stream) : map<float, false>(a, stream);
}

void edge_frame_sum(const EdgeFrameArguments& a, bool second, Place role, const Stream& stream) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? sum<double, true>(a, role, stream) : sum<double, false>(a, role, stream);
  return second ? sum<float, true>(a, role, stream) : sum<float, false>(a, role, stream);
}

}  // namespace clof::cuda

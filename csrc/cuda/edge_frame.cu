#include "../functor/edge_frame.h"

#include "geometry/launch_edges.cuh"
#include "launchers.h"

namespace clof::cuda {
namespace {

template <class T, bool Second> void map(const EdgeFrameArguments& a, const Stream& stream) {
  launch_edge_rows<T>(EdgeFrameMap<T, Second>{a}, a.frame, a.graph, stream);
}
template <class T, bool Second> void sum(const EdgeFrameArguments& a, const Stream& stream) {
  launch_edge_sums<T>(EdgeFrameSum<T, Second>{a, Place::receiver}, a.graph, stream);
}

}  // namespace

void edge_frame_map(const EdgeFrameArguments& a, bool second, const Stream& stream) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? map<double, true>(a, stream) : map<double, false>(a, stream);
  return second ? map<float, true>(a, stream) : map<float, false>(a, stream);
}

void edge_frame_sum(const EdgeFrameArguments& a, bool second, const Stream& stream) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? sum<double, true>(a, stream) : sum<double, false>(a, stream);
  return second ? sum<float, true>(a, stream) : sum<float, false>(a, stream);
}

}  // namespace clof::cuda

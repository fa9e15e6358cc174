#include "../functor/edge_scalars.h"

#include "geometry/launch_edges.cuh"
#include "launchers.h"

namespace clof::cuda {
namespace {

template <class T, bool Second> void map(const EdgeScalarsArguments& a, const Stream& stream) {
  if (a.vel == nullptr) {
    launch_edge_rows<T>(EdgeScalarsMap<T, Second, false>{a}, a.scalars, a.graph, stream);
  } else {
    launch_edge_rows<T>(EdgeScalarsMap<T, Second, true>{a}, a.scalars, a.graph, stream);
  }
}
template <class T, bool Second> void sum(const EdgeScalarsArguments& a, const Stream& stream) {
  if (a.vel == nullptr) {
    launch_edge_sums<T>(EdgeScalarsSum<T, Second, false>{a, Place::receiver}, a.graph, stream);
  } else {
    launch_edge_sums<T>(EdgeScalarsSum<T, Second, true>{a, Place::receiver}, a.graph, stream);
  }
}

}  // namespace

void edge_scalars_map(const EdgeScalarsArguments& a, bool second, const Stream& stream) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? map<double, true>(a, stream) : map<double, false>(a, stream);
  return second ? map<float, true>(a, stream) : map<float, false>(a, stream);
}

void edge_scalars_sum(const EdgeScalarsArguments& a, bool second, const Stream& stream) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? sum<double, true>(a, stream) : sum<double, false>(a, stream);
  return second ? sum<float, true>(a, stream) : sum<float, false>(a, stream);
}

}  // namespace clof::cuda

#include "../../functor/edge_scalars.h"

#include "kernels_of_isa.h"
#include "stream.h"

namespace clof {
namespace CLOF_ISA {

template <class T, bool Second, bool WithVelocity>
void map_rows(const EdgeScalarsArguments& a, int64_t begin, int64_t end) {
  using Map = EdgeScalarsMap<T, Second, WithVelocity>;
  write_rows<T>(a.scalars, a.graph.num_edges, Map::width, begin, end, [&](int64_t first, int64_t last, T* base) {
    EdgeScalarsArguments tile = a;
    tile.scalars = base;
    run_range<T>(Map{tile}, first, last, 0);
  });
}
template <class T, bool Second> void map(const EdgeScalarsArguments& a, int64_t begin, int64_t end) {
  return a.vel == nullptr ? map_rows<T, Second, false>(a, begin, end) : map_rows<T, Second, true>(a, begin, end);
}
template <class T, bool Second> void sum(const EdgeScalarsArguments& a, Place role, int64_t begin, int64_t end) {
  if (a.vel == nullptr) {
    run_nodes<T>(EdgeScalarsSum<T, Second, false>{a, role}, a.graph, role, begin, end, 0);
  } else {
    run_nodes<T>(EdgeScalarsSum<T, Second, true>{a, role}, a.graph, role, begin, end, 0);
  }
}

void edge_scalars_map(const EdgeScalarsArguments& a, bool second, int64_t begin, int64_t end) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? map<double, true>(a, begin, end) : map<double, false>(a, begin, end);
  return second ? map<float, true>(a, begin, end) : map<float, false>(a, begin, end);
}

void edge_scalars_sum(const EdgeScalarsArguments& a, bool second, Place role, int64_t begin, int64_t end) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? sum<double, true>(a, role, begin, end) : sum<double, false>(a, role, begin, end);
  return second ? sum<float, true>(a, role, begin, end) : sum<float, false>(a, role, begin, end);
}

}  // namespace CLOF_ISA
}  // namespace clof

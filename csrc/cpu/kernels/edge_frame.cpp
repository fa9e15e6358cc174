#include "../../functor/edge_frame.h"

#include "kernels_of_isa.h"
#include "stream.h"

namespace clof {
namespace CLOF_ISA {

template <class T, bool Second> void map(const EdgeFrameArguments& a, int64_t begin, int64_t end) {
  write_rows<T>(a.frame, a.graph.num_edges, 9, begin, end, [&](int64_t first, int64_t last, T* base) {
    EdgeFrameArguments tile = a;
    tile.frame = base;
    run_range<T>(EdgeFrameMap<T, Second>{tile}, first, last, 0);
  });
}
template <class T, bool Second> void sum(const EdgeFrameArguments& a, Place role, int64_t begin, int64_t end) {
  run_nodes<T>(EdgeFrameSum<T, Second>{a, role}, a.graph, role, begin, end, 0);
}

void edge_frame_map(const EdgeFrameArguments& a, bool second, int64_t begin, int64_t end) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? map<double, true>(a, begin, end) : map<double, false>(a, begin, end);
  return second ? map<float, true>(a, begin, end) : map<float, false>(a, begin, end);
}

void edge_frame_sum(const EdgeFrameArguments& a, bool second, Place role, int64_t begin, int64_t end) {
  const bool wide = a.dtype == Storage::float64;
  if (wide) return second ? sum<double, true>(a, role, begin, end) : sum<double, false>(a, role, begin, end);
  return second ? sum<float, true>(a, role, begin, end) : sum<float, false>(a, role, begin, end);
}

}  // namespace CLOF_ISA
}  // namespace clof

// Host side of the sums over segments and their adjoint, on any device.
#include "host.h"

namespace clof::host {
namespace {

struct Segments {
  Tensor index, perm, start;

  Segments(const Tensor& index_, const Tensor& perm_, const Tensor& offsets, const Tensor& like) {
    const auto checked = [&](const Tensor& tensor, int64_t size, const char* name) {
      check::shape(tensor, {size}, name);
      check::dtype(tensor, ScalarType::Int, name);
      check::same_device(tensor, like, name, "the values");
      return dense(tensor);
    };
    index = checked(index_, check::any, "index");
    perm = checked(perm_, index.size(0), "perm");
    start = checked(offsets, check::any, "offsets");
    if (start.size(0) == 0) check::fail("offsets must have an entry more than there are segments; got none.");
    if (!like.is_cuda()) check_end(static_cast<const int32_t*>(data(start))[segments()], rows());
  }

  int64_t rows() const { return index.size(0); }
  int64_t segments() const { return start.size(0) - 1; }
};

bool is_mean(const std::string& reduce) {
  if (reduce == "sum" || reduce == "mean") return reduce == "mean";
  check::not_one_of(reduce, "'sum', 'mean'", "reduce");
}

// The result of either op: `count` rows like those of `from`.
Tensor rows_like(const Tensor& from, int64_t count) {
  std::vector<int64_t> sizes(from.sizes().begin(), from.sizes().end());
  sizes[0] = count;
  return empty(from, sizes);
}

Tensor checked_rows(const Tensor& from, int64_t count, const char* name) {
  if (from.dim() == 0 || from.size(0) != count) {
    check::fail(name, " must have ", count, " rows; got ", from.dim() == 0 ? 0 : from.size(0), ".");
  }
  return dense(from);
}

SegmentArguments arguments(const Segments& segments, const Tensor& from, Tensor& to, const std::string& reduce) {
  const int64_t rows = from.size(0);
  return {storage_of(from, "values"),
          is_mean(reduce),
          segments.segments(),
          segments.rows(),
          rows == 0 ? 0 : from.numel() / rows,
          static_cast<const int32_t*>(data(segments.index)),
          static_cast<const int32_t*>(data(segments.perm)),
          static_cast<const int32_t*>(data(segments.start)),
          data(from),
          to.data_ptr()};
}

Tensor segment_reduce(const Tensor& values_, const Tensor& index, const Tensor& perm, const Tensor& offsets,
                      const Text& reduce) {
  const Segments segments(index, perm, offsets, values_);
  const Tensor values = checked_rows(values_, segments.rows(), "values");
  Tensor out = rows_like(values, segments.segments());
  if (values.numel() == 0) return torch::stable::zero_(out);
  const SegmentArguments a = arguments(segments, values, out, reduce);
#ifdef CLOF_CUDA
  if (values.is_cuda()) {
    cuda::segment_reduce(a, cuda::Stream(values));
    return out;
  }
#endif
  cpu::parallel_segments(a.start, a.segments, kEdgeGrain,
                         [&](int64_t begin, int64_t end) { cpu::kernels().segment_reduce(a, begin, end); });
  return out;
}

Tensor segment_gather(const Tensor& grad_, const Tensor& index, const Tensor& perm, const Tensor& offsets,
                      const Text& reduce) {
  const Segments segments(index, perm, offsets, grad_);
  const Tensor grad = checked_rows(grad_, segments.segments(), "grad");
  Tensor out = rows_like(grad, segments.rows());
  if (out.numel() == 0) return out;
  const SegmentArguments a = arguments(segments, grad, out, reduce);
#ifdef CLOF_CUDA
  if (grad.is_cuda()) {
    cuda::segment_gather(a, cuda::Stream(grad));
    return out;
  }
#endif
  cpu::parallel_range(a.rows, kEdgeGrain,
                      [&](int64_t begin, int64_t end) { cpu::kernels().segment_gather(a, begin, end); });
  return out;
}

}  // namespace
}  // namespace clof::host

#define CLOF_IMPLEMENT(library)                                           \
  library.impl("segment_reduce", TORCH_BOX(&clof::host::segment_reduce)); \
  library.impl("segment_gather", TORCH_BOX(&clof::host::segment_gather))

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) { CLOF_IMPLEMENT(library); }
#ifdef CLOF_CUDA
STABLE_TORCH_LIBRARY_IMPL(clof_ext, CUDA, library) { CLOF_IMPLEMENT(library); }
#endif

#include "../../functor/tensor_form.h"

#include <optional>

#include "channels.h"
#include "kernels_of_isa.h"
#include "stream.h"

namespace clof {
namespace CLOF_ISA {

// The dual tensors of order 2 and 3 of one edge overflow the registers already: more edges at once only make the code
// larger, and compiling it takes minutes.
template <class T, int R, bool Second> using FormRegister =
    std::conditional_t<Second && power_of_3(R) >= power_of_3(2), T, Register<T>>;

template <class T, class U, int R, bool Second> void run_map(const TensorFormArguments& a, int64_t begin, int64_t end) {
  // T on edges is a second result, written the plain way.
  const int64_t width = a.grad_s == nullptr ? 0 : a.channels * power_of_3(R);
  write_rows<U>(a.grad_s, a.graph.num_edges, width, begin, end, [&](int64_t first, int64_t last, U* base) {
    TensorFormArguments tile = a;
    tile.grad_s = a.grad_s == nullptr ? nullptr : base;
    const TensorFormLoads<T, U, R, Second> in{tile};
    if constexpr (!Second && R <= 1) {
      if (many_channels<T, R>(a)) return run_range<T>(ChannelMap<T, U, R>{in}, first, last, a.channels);
    }
    run_range<T, FormRegister<T, R, Second>>(TensorFormMap<T, U, R, Second>{in}, first, last, a.channels);
  });
}

template <class T, class U, int R, bool Second>
void run_sum(const TensorFormArguments& a, Place role, int64_t begin, int64_t end) {
  const TensorFormLoads<T, U, R, Second> in{a};
  if constexpr (!Second && R <= 1) {
    if (many_channels<T, R>(a) && a.grad_pos == nullptr) {
      return run_nodes<T>(ChannelSum<T, U, R, false>{in, role}, a.graph, role, begin, end, a.channels);
    }
    if (many_channels<T, R>(a)) {
      return run_nodes<T>(ChannelSum<T, U, R, true>{in, role}, a.graph, role, begin, end, a.channels);
    }
  }
  return run_nodes<T, FormRegister<T, R, Second>>(TensorFormSum<T, U, R, Second>{in, role}, a.graph, role, begin, end,
                                                  a.channels);
}

// Results on edges, or the sums of a role.
using Pass = std::optional<Place>;
constexpr Pass kMap = std::nullopt;

template <class T, class U, int R, bool Second>
void run(const TensorFormArguments& a, Pass pass, int64_t begin, int64_t end) {
  if (pass == kMap) return run_map<T, U, R, Second>(a, begin, end);
  return run_sum<T, U, R, Second>(a, *pass, begin, end);
}

template <class T, class U, bool Second>
void of_order(const TensorFormArguments& a, Pass pass, int64_t begin, int64_t end) {
  switch (a.order) {
    case 0: return run<T, U, 0, Second>(a, pass, begin, end);
    case 1: return run<T, U, 1, Second>(a, pass, begin, end);
    case 2: return run<T, U, 2, Second>(a, pass, begin, end);
    default: return run<T, U, 3, Second>(a, pass, begin, end);
  }
}

// Second derivatives of half-precision features are computed on float32 copies: csrc/ops/tensor_form.cpp.
void dispatch(const TensorFormArguments& a, bool second, Pass pass, int64_t begin, int64_t end) {
  if (a.storage == Storage::float64) {
    return second ? of_order<double, double, true>(a, pass, begin, end)
                  : of_order<double, double, false>(a, pass, begin, end);
  }
  if (second) return of_order<float, float, true>(a, pass, begin, end);
  switch (a.storage) {
    case Storage::bfloat16: return of_order<float, BFloat16, false>(a, pass, begin, end);
    case Storage::float16: return of_order<float, Half, false>(a, pass, begin, end);
    default: return of_order<float, float, false>(a, pass, begin, end);
  }
}

void tensor_form_map(const TensorFormArguments& a, bool second, int64_t begin, int64_t end) {
  dispatch(a, second, kMap, begin, end);
}

void tensor_form_sum(const TensorFormArguments& a, bool second, Place role, int64_t begin, int64_t end) {
  dispatch(a, second, role, begin, end);
}

}  // namespace CLOF_ISA
}  // namespace clof

#include "../functor/tensor_form.h"

#include "launch.cuh"
#include "launchers.h"

namespace clof::cuda {
namespace {

// A position's gradient is a sum over channels, so one thread takes them all; without it each thread takes one.
template <class T, class U, int R, bool Second>
void run(const TensorFormArguments& a, Place role, const Stream& stream) {
  const TensorFormLoads<T, U, R, Second> in{a};
  if (role == Place::edge) {
    launch_map<T>(TensorFormMap<T, U, R, Second>{in}, a.graph, {a.channels, true}, stream);
  } else {
    launch_sum<T>(TensorFormSum<T, U, R, Second>{in, role}, a.graph, role, {a.channels, a.grad_pos == nullptr}, stream);
  }
}

template <class T, class U, bool Second> void of_order(const TensorFormArguments& a, Place role, const Stream& stream) {
  switch (a.order) {
    case 0: return run<T, U, 0, Second>(a, role, stream);
    case 1: return run<T, U, 1, Second>(a, role, stream);
    case 2: return run<T, U, 2, Second>(a, role, stream);
    default: return run<T, U, 3, Second>(a, role, stream);
  }
}

// Second derivatives of half-precision features are computed on float32 copies: csrc/ops/tensor_form.cpp.
void dispatch(const TensorFormArguments& a, bool second, Place role, const Stream& stream) {
  if (a.storage == Storage::float64) {
    return second ? of_order<double, double, true>(a, role, stream) : of_order<double, double, false>(a, role, stream);
  }
  if (second) return of_order<float, float, true>(a, role, stream);
  switch (a.storage) {
    case Storage::bfloat16: return of_order<float, BFloat16, false>(a, role, stream);
    case Storage::float16: return of_order<float, Half, false>(a, role, stream);
    default: return of_order<float, float, false>(a, role, stream);
  }
}

}  // namespace

void tensor_form_map(const TensorFormArguments& a, bool second, const Stream& stream) {
  dispatch(a, second, Place::edge, stream);
}

void tensor_form_sum(const TensorFormArguments& a, bool second, Place role, const Stream& stream) {
  dispatch(a, second, role, stream);
}

}  // namespace clof::cuda

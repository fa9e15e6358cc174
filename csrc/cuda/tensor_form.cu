#include "../functor/tensor_form.h"

#include "geometry/form_edges.cuh"
#include "geometry/form_runs.cuh"
#include "geometry/node_sums.cuh"
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

// Scalars and vectors, first derivatives: csrc/cuda/geometry/form.cuh.
template <class Kernel> void run_form(const Kernel& kernel, int64_t blocks, const Stream& stream) {
  launch_tiles<Kernel::threads>(kernel, blocks, Kernel::shared_bytes(Kernel::threads), stream);
}

template <class T, class U, int R> void run_on_edges(const TensorFormArguments& a, const Stream& stream) {
  with_sharing(a.channels, [&](auto sharing) {
    using Kernel = TensorFormEdges<T, U, R, false, decltype(sharing)>;
    run_form(Kernel{{{a}}, {}}, quotient_up(a.graph.num_edges, Kernel::threads), stream);
  });
}

template <class T, class U, int R> void run_on_nodes(const TensorFormArguments& a, Place role, const Stream& stream) {
  with_sharing(a.channels, [&](auto sharing) {
    using Kernel = TensorFormNodes<T, U, R, decltype(sharing)>;
    run_form(Kernel{{{{a}}}, role}, quotient_up(a.graph.num_nodes, Kernel::threads / kLanes), stream);
  });
}

// All gradients of a backward pass. Where T lives on nodes its sum and the positions' gradient come from the same walk
// over the edges.
template <class T, class U, int R>
void run_backward(const TensorFormArguments& a, const FormScratch& memory, const Stream& stream) {
  const auto scratch_for = [&](int room) {
    const int run = nodes_of_run(a.graph.num_nodes, a.graph.num_edges, room);
    return PositionScratch<T>{static_cast<T*>(memory.parts), memory.open, run};
  };
  const auto finish = [&](const auto& kernel) {
    const PositionScratch<T>& scratch = kernel.scratch;
    const int64_t runs = quotient_up(a.graph.num_nodes, scratch.run);
    run_form(kernel, runs, stream);
    launch_tiles<kThreads>(NodeSums<T>{a.graph, a.crossings, scratch, static_cast<T*>(a.grad_pos)}, runs, 0, stream);
  };
  with_sharing(a.channels, [&](auto sharing) {
    using Edges = TensorFormEdges<T, U, R, true, decltype(sharing)>;
    using Runs = TensorFormRuns<T, U, R, decltype(sharing)>;
    if (a.grad_t == nullptr || a.place == Place::edge) {
      finish(Edges{{{a}}, scratch_for(PositionSums<T>::room)});
    } else {
      finish(Runs{{{{a}}}, a.place, scratch_for(Runs::room)});
    }
  });
}

// Calls body(T, U, R) with values of the types that compute and store and with the order as a constant.
template <int R> using Order = std::integral_constant<int, R>;

template <class T, class U, class Body> void of_order(const TensorFormArguments& a, const Body& body) {
  switch (a.order) {
    case 0: return body(T(), U(), Order<0>());
    case 1: return body(T(), U(), Order<1>());
    case 2: return body(T(), U(), Order<2>());
    default: return body(T(), U(), Order<3>());
  }
}

template <class Body> void dispatch(const TensorFormArguments& a, const Body& body) {
  switch (a.storage) {
    case Storage::float64: return of_order<double, double>(a, body);
    case Storage::bfloat16: return of_order<float, BFloat16>(a, body);
    case Storage::float16: return of_order<float, Half>(a, body);
    default: return of_order<float, float>(a, body);
  }
}

// Second derivatives of half-precision features are computed on float32 copies: csrc/ops/tensor_form.cpp.
void run_second(const TensorFormArguments& a, Place role, const Stream& stream) {
  const auto body = [&](auto t, auto u, auto order) {
    run<decltype(t), decltype(u), decltype(order)::value, true>(a, role, stream);
  };
  if (a.storage == Storage::float64) return of_order<double, double>(a, body);
  return of_order<float, float>(a, body);
}

}  // namespace

void tensor_form_map(const TensorFormArguments& a, bool second, const Stream& stream) {
  if (second) return run_second(a, Place::edge, stream);
  dispatch(a, [&](auto t, auto u, auto order) {
    using T = decltype(t);
    using U = decltype(u);
    constexpr int R = decltype(order)::value;
    if constexpr (R <= kTiledOrders) run_on_edges<T, U, R>(a, stream);
    else run<T, U, R, false>(a, Place::edge, stream);
  });
}

void tensor_form_sum(const TensorFormArguments& a, bool second, Place role, const Stream& stream) {
  if (second) return run_second(a, role, stream);
  dispatch(a, [&](auto t, auto u, auto order) {
    using T = decltype(t);
    using U = decltype(u);
    constexpr int R = decltype(order)::value;
    if constexpr (R <= kTiledOrders) run_on_nodes<T, U, R>(a, role, stream);
    else run<T, U, R, false>(a, role, stream);
  });
}

void tensor_form_backward(const TensorFormArguments& a, const FormScratch& scratch, const Stream& stream) {
  dispatch(a, [&](auto t, auto u, auto order) {
    constexpr int R = decltype(order)::value;
    if constexpr (R <= kTiledOrders) run_backward<decltype(t), decltype(u), R>(a, scratch, stream);
  });
}

}  // namespace clof::cuda

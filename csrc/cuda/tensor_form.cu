#include "../functor/tensor_form.h"

#include "geometry/form_edges.cuh"
#include "geometry/form_nodes.cuh"
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
constexpr int kFormThreads = 128;
constexpr int kFormWarps = kFormThreads / kLanes;

template <class T, class U, int R, bool WithPos>
void run_on_edges(const TensorFormArguments& a, T* parts, const Stream& stream) {
  with_sharing(a.channels, [&](auto sharing) {
    using Kernel = TensorFormEdges<T, U, R, WithPos, decltype(sharing)>;
    launch_tiles<kFormThreads>(Kernel{{{a}}, parts}, quotient_up(a.graph.num_edges, kFormThreads),
                               shared_bytes_of_runs<typename Kernel::Run>(kFormThreads), stream);
  });
}

template <class T, class U, int R, bool WithPos>
void run_on_nodes(const TensorFormArguments& a, Place role, T* parts, const Stream& stream) {
  with_sharing(a.channels, [&](auto sharing) {
    using Kernel = TensorFormNodes<T, U, R, WithPos, decltype(sharing)>;
    launch_tiles<kFormThreads>(Kernel{{{a}}, role, parts}, quotient_up(a.graph.num_nodes, kFormWarps),
                               shared_bytes_of_runs<typename Kernel::Run>(kFormThreads), stream);
  });
}

template <class T> void run_node_sums(const NodeSums<T>& sums, const Stream& stream) {
  launch_tiles<kThreads>(sums, quotient_up(sums.graph.num_nodes, kThreads / kNodeLanes), 0, stream);
}

// All gradients of a backward pass. Where T lives on nodes its sum and one end's share of the positions' gradient come
// from the same walk over the edges.
template <class T, class U, int R>
void run_backward(const TensorFormArguments& a, void* scratch, const Stream& stream) {
  T *parts = static_cast<T*>(scratch), *grad_pos = static_cast<T*>(a.grad_pos);
  if (a.grad_t == nullptr || a.place == Place::edge) {
    run_on_edges<T, U, R, true>(a, parts, stream);
    run_node_sums<T>({a.graph, parts, parts + a.graph.num_edges * 3, grad_pos, false}, stream);
  } else {
    run_on_nodes<T, U, R, true>(a, a.place, parts, stream);
    const bool receives = a.place == Place::receiver;
    run_node_sums<T>({a.graph, receives ? nullptr : parts, receives ? parts : nullptr, grad_pos, true}, stream);
  }
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
    if constexpr (R <= kTiledOrders) run_on_edges<T, U, R, false>(a, nullptr, stream);
    else run<T, U, R, false>(a, Place::edge, stream);
  });
}

void tensor_form_sum(const TensorFormArguments& a, bool second, Place role, const Stream& stream) {
  if (second) return run_second(a, role, stream);
  dispatch(a, [&](auto t, auto u, auto order) {
    using T = decltype(t);
    using U = decltype(u);
    constexpr int R = decltype(order)::value;
    if constexpr (R <= kTiledOrders) run_on_nodes<T, U, R, false>(a, role, nullptr, stream);
    else run<T, U, R, false>(a, role, stream);
  });
}

void tensor_form_backward(const TensorFormArguments& a, void* scratch, const Stream& stream) {
  dispatch(a, [&](auto t, auto u, auto order) {
    constexpr int R = decltype(order)::value;
    if constexpr (R <= kTiledOrders) run_backward<decltype(t), decltype(u), R>(a, scratch, stream);
  });
}

}  // namespace clof::cuda

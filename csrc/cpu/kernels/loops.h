// The loops that run a functor over edges, a register full at a time.
#pragma once

#include "../../functor/arguments.h"
#include "../pack_memory.h"

namespace clof {
inline namespace CLOF_ISA {

// The `scalar` build runs one edge at a time, as a GPU thread does: what the CUDA kernels execute is tested that way.
#ifdef CLOF_SCALAR
template <class T> using Register = T;
#else
template <class T> using Register = Pack<T>;
#endif

// The items [begin, end): whole registers, then one by one. Where a range begins must not depend on the number of
// threads: a formula may round differently in its two forms.
template <class T, class S = Register<T>, class Functor>
void run_range(const Functor& functor, int64_t begin, int64_t end, int64_t channels) {
  int64_t first = begin;
  for (; first + lanes_of<S> <= end; first += lanes_of<S>) functor.template operator()<S>(first, 0, channels);
  for (; first < end; ++first) functor.template operator()<T>(first, 0, channels);
}

// The positions, in the plan's order by role, of the edges of nodes [begin, end).
template <class T, class S = Register<T>, class Functor>
void run_nodes(const Functor& functor, const Graph& graph, Place role, int64_t begin, int64_t end, int64_t channels) {
  const int32_t* start = role == Place::sender ? graph.sender_start : graph.receiver_start;
  run_range<T, S>(functor, start[begin], start[end], channels);
}

}  // namespace CLOF_ISA
}  // namespace clof

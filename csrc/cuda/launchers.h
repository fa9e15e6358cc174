// The CUDA kernels, as the host side calls them: the counterparts of csrc/cpu/kernels/kernels.h.
#pragma once

#include "../functor/arguments.h"

namespace clof::cuda {

class Stream;

void edge_frame_map(const EdgeFrameArguments&, bool second, const Stream&);
void edge_scalars_map(const EdgeScalarsArguments&, bool second, const Stream&);
// Sums of both roles; written, whatever was there.
void edge_frame_sum(const EdgeFrameArguments&, bool second, const Stream&);
void edge_scalars_sum(const EdgeScalarsArguments&, bool second, const Stream&);

// Up to this order, and for first derivatives, sums are written, whatever was there; others are added to it.
constexpr int kTiledOrders = 1;

void tensor_form_map(const TensorFormArguments&, bool second, const Stream&);
void tensor_form_sum(const TensorFormArguments&, bool second, Place role, const Stream&);
// Memory that tensor_form_backward works with.
struct FormScratch {
  void* parts;    // (2, E, 3) in the type of positions
  int32_t* open;  // (N,)
};
// Every gradient that has a place, up to kTiledOrders.
void tensor_form_backward(const TensorFormArguments&, const FormScratch&, const Stream&);

void segment_reduce(const SegmentArguments&, const Stream&);
void segment_gather(const SegmentArguments&, const Stream&);

}  // namespace clof::cuda

// The CUDA kernels, as the host side calls them: the counterparts of csrc/cpu/kernels/kernels.h.
#pragma once

#include "../functor/arguments.h"

namespace clof::cuda {

class Stream;

void edge_frame_map(const EdgeFrameArguments&, bool second, const Stream&);
void edge_frame_sum(const EdgeFrameArguments&, bool second, Place role, const Stream&);
void edge_scalars_map(const EdgeScalarsArguments&, bool second, const Stream&);
void edge_scalars_sum(const EdgeScalarsArguments&, bool second, Place role, const Stream&);
void tensor_form_map(const TensorFormArguments&, bool second, const Stream&);
void tensor_form_sum(const TensorFormArguments&, bool second, Place role, const Stream&);
void segment_reduce(const SegmentArguments&, const Stream&);
void segment_gather(const SegmentArguments&, const Stream&);

}  // namespace clof::cuda

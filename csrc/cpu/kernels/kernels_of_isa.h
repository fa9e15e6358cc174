// The kernels of the instruction set that this file is compiled for.
#pragma once

#include "../../math/portable.h"
#include "kernels.h"

namespace clof {
namespace CLOF_ISA {

void edge_frame_map(const EdgeFrameArguments&, bool second, int64_t begin, int64_t end);
void edge_frame_sum(const EdgeFrameArguments&, bool second, Place role, int64_t begin, int64_t end);
void edge_scalars_map(const EdgeScalarsArguments&, bool second, int64_t begin, int64_t end);
void edge_scalars_sum(const EdgeScalarsArguments&, bool second, Place role, int64_t begin, int64_t end);
void tensor_form_map(const TensorFormArguments&, bool second, int64_t begin, int64_t end);
void tensor_form_sum(const TensorFormArguments&, bool second, Place role, int64_t begin, int64_t end);
void segment_reduce(const SegmentArguments&, int64_t begin, int64_t end);
void segment_gather(const SegmentArguments&, int64_t begin, int64_t end);
FrameMessageMemory frame_message_memory(const FrameMessageArguments&);
void frame_message(const FrameMessageArguments&, FrameMessageStage stage, const FrameMessageWork& work);
MlpMemory mlp_memory(const MlpArguments&);
void mlp(const MlpArguments&, MlpStage stage, int64_t item, int64_t worker);
EdgeAttentionMemory edge_attention_memory(const EdgeAttentionArguments&);
void edge_attention(const EdgeAttentionArguments&, EdgeAttentionStage stage, int64_t item, int64_t worker);
void table_sum(const TableSumArguments&, TableSumStage stage, int64_t begin, int64_t end);
void newton_simulate(const NewtonArguments&, int64_t begin, int64_t end);

}  // namespace CLOF_ISA
}  // namespace clof

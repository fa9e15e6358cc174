#include "kernels_of_isa.h"

#define CLOF_TEXT_(name) #name
#define CLOF_TEXT(name) CLOF_TEXT_(name)

namespace clof {
namespace CLOF_ISA {

const Kernels& kernels() {
  static constexpr Kernels table = {
      CLOF_TEXT(CLOF_ISA),
      edge_frame_map,
      edge_frame_sum,
      edge_scalars_map,
      edge_scalars_sum,
      tensor_form_map,
      tensor_form_sum,
      segment_reduce,
      segment_gather,
      frame_message_memory,
      frame_message,
      mlp_memory,
      mlp,
      edge_attention_memory,
      edge_attention,
      table_sum,
      newton_simulate,
      BFloat16Unit::none,
  };
  return table;
}

}  // namespace CLOF_ISA
}  // namespace clof

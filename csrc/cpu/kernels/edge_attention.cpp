#include "edge_attention.h"

#include "../tile/attention_backward.h"
#include "kernels_of_isa.h"

namespace clof {
namespace CLOF_ISA {

template <class T> EdgeAttentionMemory memory_of(const EdgeAttentionArguments& a) {
  EdgeAttentionArguments without_memory = a;
  without_memory.shared = nullptr;
  const int64_t shared = AttentionShared<T>(without_memory).arena.used();
  const int64_t worker = a.backward ? AttentionBackward<T>(without_memory, nullptr).arena.used()
                                    : AttentionBlock<T>(without_memory, nullptr).arena.used();
  return {shared, worker};
}

template <class T> void run(const EdgeAttentionArguments& a, EdgeAttentionStage stage, int64_t item, int64_t worker) {
  const AttentionShared<T> shared(a);
  void* memory = static_cast<char*>(a.workers) + worker * memory_of<T>(a).worker;
  switch (stage) {
    case EdgeAttentionStage::pack: return shared.pack(item);
    case EdgeAttentionStage::nodes: return shared.nodes(item);
    case EdgeAttentionStage::forward: return AttentionBlock<T>(a, memory).forward(item);
    case EdgeAttentionStage::clear_sums: return fill(shared.of_group(item), shared.size_of_sums(), T(0));
    case EdgeAttentionStage::backward: return AttentionBackward<T>(a, memory).backward(item);
    case EdgeAttentionStage::add_sums: return AttentionBackward<T>(a, memory).add_sums(item);
    case EdgeAttentionStage::senders: return AttentionBackward<T>(a, memory).senders_of(item);
    case EdgeAttentionStage::sum_weights:
      return sum_pieces<T>(reinterpret_cast<char*>(shared.sums), shared.size_of_sums() * int64_t(sizeof(T)),
                           sum_groups(a.chunks), item, kEdgeAttentionSlices);
    case EdgeAttentionStage::grad_weights:
      for (int64_t row = 0; row < a.heads * a.head_width; ++row) {
        write_row(shared.sums + row * shared.edge, a.edge_width, a.grad_weight, a.dtype, row);
      }
  }
}

EdgeAttentionMemory edge_attention_memory(const EdgeAttentionArguments& a) {
  return a.dtype == Storage::float64 ? memory_of<double>(a) : memory_of<float>(a);
}

void edge_attention(const EdgeAttentionArguments& a, EdgeAttentionStage stage, int64_t item, int64_t worker) {
  return a.dtype == Storage::float64 ? run<double>(a, stage, item, worker) : run<float>(a, stage, item, worker);
}

}  // namespace CLOF_ISA
}  // namespace clof

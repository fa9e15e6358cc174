#include "mlp.h"

#include "../tile/mlp_second.h"
#include "kernels_of_isa.h"

namespace clof {
namespace CLOF_ISA {

template <class T> void run(const MlpArguments& a, MlpStage stage, int64_t item, int64_t worker) {
  if (stage == MlpStage::sum_weights) {
    return sum_pieces<T>(MlpSums<T>::of_group(a, 0), MlpSums<T>::bytes(a), sum_groups(a.chunks), item, kMlpSlices);
  }
  MlpSecondBlock<T> block(a, static_cast<char*>(a.workers) + worker * MlpBlock<T>::memory(a).worker);
  const TileRegisters registers(products_of(a));
  switch (stage) {
    case MlpStage::pack: return block.pack();
    case MlpStage::forward: return block.forward(item);
    case MlpStage::clear_sums: return block.clear_group(item);
    case MlpStage::backward: return a.second ? block.second(item) : block.backward(item);
    case MlpStage::add_sums: return block.add_sums(item);
    default: return block.write_weight_gradients();
  }
}

MlpMemory mlp_memory(const MlpArguments& a) {
  return a.dtype == Storage::float64 ? MlpBlock<double>::memory(a) : MlpBlock<float>::memory(a);
}

void mlp(const MlpArguments& a, MlpStage stage, int64_t item, int64_t worker) {
  return a.dtype == Storage::float64 ? run<double>(a, stage, item, worker) : run<float>(a, stage, item, worker);
}

}  // namespace CLOF_ISA
}  // namespace clof

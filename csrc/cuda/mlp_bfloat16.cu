#include "mlp.cuh"

namespace clof::cuda {

template struct MlpLaunches<BFloat16Kind>;

}  // namespace clof::cuda

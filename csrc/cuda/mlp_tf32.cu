#include "mlp.cuh"

namespace clof::cuda {

template struct MlpLaunches<Tf32>;

}  // namespace clof::cuda

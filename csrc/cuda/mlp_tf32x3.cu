#include "mlp.cuh"

namespace clof::cuda {

template struct MlpLaunches<Tf32x3>;

}  // namespace clof::cuda

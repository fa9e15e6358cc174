#include "mlp.cuh"

namespace clof::cuda {

template struct MlpLaunches<Float16Kind>;

}  // namespace clof::cuda

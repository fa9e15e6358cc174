#include "frame_message.cuh"

namespace clof::cuda {

template struct ForwardPass<Tf32x3, kNarrow>;
template struct ForwardPass<Tf32x3, kWide>;
template struct BackwardPass<Tf32x3, kNarrow>;

}  // namespace clof::cuda

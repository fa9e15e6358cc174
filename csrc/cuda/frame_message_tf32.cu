#include "frame_message.cuh"

namespace clof::cuda {

template struct ForwardPass<Tf32, kNarrow>;
template struct ForwardPass<Tf32, kWide>;
template struct BackwardPass<Tf32, kNarrow>;

}  // namespace clof::cuda

#include "frame_message.cuh"

namespace clof::cuda {

template struct ForwardPass<Float16Kind, kNarrow>;
template struct ForwardPass<Float16Kind, kWide>;
template struct BackwardPass<Float16Kind, kNarrow>;

}  // namespace clof::cuda

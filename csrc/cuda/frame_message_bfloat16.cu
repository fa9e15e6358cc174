#include "frame_message.cuh"

namespace clof::cuda {

template struct ForwardPass<BFloat16Kind, kNarrow>;
template struct ForwardPass<BFloat16Kind, kWide>;
template struct BackwardPass<BFloat16Kind, kNarrow>;

}  // namespace clof::cuda

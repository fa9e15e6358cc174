#include "frame_message.cuh"

#include "device.cuh"
#include "tile/with_kind.h"

namespace clof::cuda {

// Made by frame_message_<kind>.cu.
#define CLOF_MADE_ELSEWHERE(Kind)                    \
  extern template struct ForwardPass<Kind, kNarrow>; \
  extern template struct ForwardPass<Kind, kWide>;   \
  extern template struct BackwardPass<Kind, kNarrow>
CLOF_MADE_ELSEWHERE(Tf32);
CLOF_MADE_ELSEWHERE(Tf32x3);
CLOF_MADE_ELSEWHERE(BFloat16Kind);
CLOF_MADE_ELSEWHERE(Float16Kind);
#undef CLOF_MADE_ELSEWHERE

namespace {

template <class Body> auto with_forward(const FrameMessageProblem& p, const Body& body) {
  return with_kind(p, [&](auto kind) {
    if (padded_hidden(p) == kNarrow) return body(ForwardPass<decltype(kind), kNarrow>());
    return body(ForwardPass<decltype(kind), kWide>());
  });
}

template <class Body> auto with_backward(const FrameMessageProblem& p, const Body& body) {
  return with_kind(p, [&](auto kind) { return body(BackwardPass<decltype(kind), kNarrow>()); });
}

}  // namespace

const char* frame_message_limit(Storage storage, int64_t hidden, int64_t edge_features, bool backward) {
  if (storage == Storage::float64) return "it computes in float32";
  if (hidden > kWide) return "it holds at most 128 hidden features";
  const bool half = storage != Storage::float32;
  const int shared = block_shared_bytes();
  // As many Linears as there can be.
  FrameMessageProblem p = {};
  p.storage = storage;
  p.hidden = hidden;
  p.edge_features = edge_features;
  p.num_edge_linears = kMaxEdgeLinears;
  p.num_coord_linears = kMaxCoordLinears;
  if (backward) {
    if (hidden > kNarrow) return "its backward pass holds at most 64 hidden features";
    if (edge_features > kEdgeGradientColumns) return "its backward pass holds at most 32 edge features";
    const Image image = image_of(p, true);
    const int bytes =
        half ? backward_shared_bytes<BFloat16Kind, kNarrow>(image) : backward_shared_bytes<Tf32, kNarrow>(image);
    if (bytes > shared) return "its backward pass needs more shared memory than this GPU has";
  }
  const Image image = image_of(p, false);
  const int bytes = half                ? ForwardPlace<BFloat16Kind, kWide>::bytes(image)
                    : hidden <= kNarrow ? ForwardPlace<Tf32, kNarrow>::bytes(image)
                                        : ForwardPlace<Tf32, kWide>::bytes(image);
  return bytes > shared ? "it needs more shared memory than this GPU has" : nullptr;
}

int64_t frame_message_bytes(const FrameMessageProblem& p, bool backward) {
  const int count = multiprocessors();
  if (backward) return with_backward(p, [&](auto pass) { return pass.bytes(p, count); });
  return with_forward(p, [&](auto pass) { return pass.bytes(p, count); });
}

void frame_message_forward(const FrameMessageProblem& p, void* memory, const Stream& stream) {
  with_forward(p, [&](auto pass) { pass.run(p, multiprocessors(), static_cast<char*>(memory), stream); });
}

int64_t frame_message_width(const FrameMessageProblem& p) { return padded_hidden(p); }

void frame_message_backward(const FrameMessageProblem& p, void* memory, void* stacked, float* grad_parts,
                            const Stream& stream) {
  with_backward(
      p, [&](auto pass) { pass.run(p, multiprocessors(), static_cast<char*>(memory), stacked, grad_parts, stream); });
}

void frame_message_finish(const FrameMessageProblem& p, const void* memory, const void* node_gradient,
                          const Stream& stream) {
  with_backward(p, [&](auto pass) {
    pass.finish(p, multiprocessors(), static_cast<const char*>(memory), node_gradient, stream);
  });
}

}  // namespace clof::cuda

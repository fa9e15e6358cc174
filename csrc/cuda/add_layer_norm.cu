#include "add_layer_norm.h"

#include "add_layer_norm_call.h"
#include "device.cuh"
#include "launch.cuh"

namespace clof::cuda {
namespace {

static_assert(kNormThreads == kThreads, "blocks are those of launch.cuh");

// body(types, shape, blocks) with the blocks of a backward pass, as many as run at a time.
template <class Body> void with_backward(const AddLayerNormProblem& p, const Body& body) {
  with_norm_types(p, [&](auto types) {
    using Types = decltype(types);
    with_norm_shape<typename Types::Number>(p, [&](auto shape) {
      using Shape = decltype(shape);
      const int64_t most = int64_t(multiprocessors()) * AddLayerNormBackward<Types, Shape>::blocks_at_once;
      body(types, shape, norm_blocks<Shape>(p.rows, most));
    });
  });
}

}  // namespace

const char* add_layer_norm_limit(Storage x, Storage h, Storage weight, int64_t width) {
  return norm_limit(x, h, weight, width);
}

void add_layer_norm(const AddLayerNormProblem& p, const Stream& stream) {
  with_norm_types(p, [&](auto types) {
    using Types = decltype(types);
    with_norm_shape<typename Types::Number>(p, [&](auto shape) {
      using Shape = decltype(shape);
      const AddLayerNorm<Types, Shape> kernel{{p}};
      launch_tiles<kThreads>(kernel, norm_blocks<Shape>(p.rows, kMaxBlocks), 0, stream);
    });
  });
}

int64_t add_layer_norm_backward_bytes(const AddLayerNormProblem& p) {
  int64_t bytes = 0;
  with_backward(p, [&](auto types, auto, int64_t blocks) {
    bytes = blocks * 2 * p.width * int64_t(sizeof(typename decltype(types)::Number));
  });
  return bytes;
}

void add_layer_norm_backward(const AddLayerNormProblem& p, void* memory, const Stream& stream) {
  with_backward(p, [&](auto types, auto shape, int64_t blocks) {
    using Types = decltype(types);
    using Number = typename Types::Number;
    Number* sums = static_cast<Number*>(memory);
    const AddLayerNormBackward<Types, decltype(shape)> kernel{{p}, sums};
    launch_tiles<kThreads>(kernel, blocks, int(2 * p.width * sizeof(Number)), stream);
    const AddLayerNormFinish<Types> finish{p, sums, int(blocks)};
    launch_tiles<kThreads>(finish, norm_finish_blocks<Types>(p), int(kThreads * sizeof(Number)), stream);
  });
}

}  // namespace clof::cuda
